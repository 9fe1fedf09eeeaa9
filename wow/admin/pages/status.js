// Fetches the page again and again, and draws what each number was meanwhile. Without it, the page is reloaded by hand.
"use strict";

const EACH = 2000; // milliseconds
const KEPT = 90; // points of a chart: three minutes
const history = new Map();

function remember(row, now) {
  const name = row.dataset.name;
  const known = history.get(name) || { points: [] };
  const value = Number(row.dataset.value);
  if (!row.hasAttribute("data-counts")) {
    known.points.push(value);
  } else if (known.last !== undefined) {
    // A counter: how much more a second. After a restart it is less than it was.
    known.points.push(Math.max(0, value - known.last) / ((now - known.at) / 1000));
  }
  [known.last, known.at] = [value, now];
  known.points = known.points.slice(-KEPT);
  history.set(name, known);
  return known.points;
}

function draw(row, points) {
  const cell = row.insertCell();
  cell.className = "chart";
  if (points.length < 2) return;
  const most = Math.max(...points), least = Math.min(0, ...points);
  const space = most - least || 1;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${KEPT - 1} 20`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  const each = row.hasAttribute("data-counts") ? " a second" : "";
  svg.setAttribute("aria-label", `the last three minutes: at most ${Number(most.toPrecision(3))}${each}`);
  const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
  title.textContent = svg.getAttribute("aria-label");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", points.map((point, index) =>
    `${KEPT - points.length + index},${19 - 18 * (point - least) / space}`).join(" "));
  svg.append(title, line);
  cell.append(svg);
}

function show(page) {
  const now = performance.now();
  for (const row of page.querySelectorAll("tr[data-value]")) draw(row, remember(row, now));
  document.getElementById("all").replaceWith(page.getElementById("all"));
  document.title = page.title;
}

async function look() {
  const note = document.getElementById("note");
  try {
    // By the origin alone, as the page's own address may have the token in it.
    const answer = await fetch(`${location.origin}/`, { cache: "no-store" });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    show(new DOMParser().parseFromString(await answer.text(), "text/html"));
    note.textContent = "Live. The charts show the last three minutes; counters, how many a second.";
  } catch (failed) {
    note.textContent = `What is shown is old: the server does not answer (${failed.message}).`;
  }
}

async function follow() {
  // Nobody is asked for what nobody sees.
  if (!document.hidden) await look();
  setTimeout(follow, EACH);
}

follow();
