"""The status page of a real server, in a real browser."""

from __future__ import annotations

import base64
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request

from matplotlib.image import imread
from twisted.trial.unittest import SkipTest

from tests.running import PATIENCE, Running, Server

TOKEN = "a-token-of-operators"
LIVE = "Live. The charts show the last three minutes"


class Browser(Running):
    def setUp(self) -> None:
        if shutil.which("chromium") is None:
            raise SkipTest("THERE IS NO CHROMIUM HERE: apt-get install chromium")

    def browse(self, url: str, *options: str) -> tuple[str, str]:
        """
        Have a page shown for some seconds of the browser's own time.

        @return: what the page is by then, and what the browser complained of.
        """
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            ran = subprocess.run(
                [
                    "chromium",
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-dev-shm-usage",
                    "--disable-quic",
                    "--no-first-run",
                    "--disable-background-networking",
                    "--disable-component-update",
                    "--disable-sync",
                    "--enable-logging=stderr",
                    "--virtual-time-budget=9000",
                    f"--user-data-dir={profile}",
                    *(options or ("--dump-dom",)),
                    url,
                ],
                capture_output=True,
                text=True,
                timeout=2 * PATIENCE,
            )
        complaints = [line for line in ran.stderr.splitlines() if "CONSOLE" in line]
        return ran.stdout, "\n".join(complaints)

    def url(self, server: Server, user: str = "") -> str:
        return f"http://{user}127.0.0.1:{server.admin[1]}/"

    def check_live(self, page: str, complaints: str) -> None:
        self.assertIn(LIVE, page)
        self.assertIn("<polyline", page)
        self.assertEqual(complaints, "")


class Status(Browser):
    def test_numbers_are_there_without_the_script(self) -> None:
        server = self.start()
        self.connect(server).quote()
        _, page = server.page("/")
        self.assertIn('<th scope="row">quotes</th><td>1</td>', page)
        self.assertNotIn(LIVE, page)

    def test_script_keeps_it_fresh_and_the_policy_lets_it(self) -> None:
        server = self.start()
        self.connect(server).quote()
        page, complaints = self.browse(self.url(server))
        self.check_live(page, complaints)
        self.assertIn('<th scope="row">quotes</th><td>1</td>', page)

    def test_dark_where_the_reader_wants_it(self) -> None:
        server = self.start()
        shades = []
        for scheme in ("0", "1"):
            picture = f"{tempfile.mkdtemp()}/page.png"
            self.addCleanup(shutil.rmtree, picture.rpartition("/")[0])
            self.browse(
                self.url(server),
                f"--blink-settings=preferredColorScheme={scheme}",
                f"--screenshot={picture}",
            )
            shades.append(float(imread(picture)[2, 2, :3].mean()))
        dark, light = shades
        self.assertLess(dark, 0.2)
        self.assertGreater(light, 0.9)

    def test_workers(self) -> None:
        server = self.start(WOW_WORKERS="2")
        for worker in (1, 2):
            server.wait_for("worker_ready", worker=worker)
        page, complaints = self.browse(self.url(server))
        self.check_live(page, complaints)
        self.assertIn('<th scope="row">worker 2</th><td>ready</td>', page)

    def test_token_is_the_password(self) -> None:
        server = self.start(WOW_ADMIN__TOKEN=TOKEN)
        page, complaints = self.browse(self.url(server, f"anybody:{TOKEN}@"))
        self.check_live(page, complaints)
        self.assertNotIn(TOKEN, page)

    def test_nothing_without_it(self) -> None:
        server = self.start(WOW_ADMIN__TOKEN=TOKEN)
        for path in ("", "status.js", "status.css"):
            for password in (None, TOKEN[:-1], TOKEN + "x"):
                request = urllib.request.Request(self.url(server) + path)
                if password is not None:
                    shown = base64.b64encode(f"anybody:{password}".encode()).decode()
                    request.add_header("Authorization", f"Basic {shown}")
                with self.assertRaises(urllib.error.HTTPError) as caught:
                    urllib.request.urlopen(request, timeout=PATIENCE)
                caught.exception.close()
                self.assertEqual(caught.exception.code, 401)
