"""C{/debug/}: a running server looked at from within, by those who operate it."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.web.http import BAD_REQUEST, FORBIDDEN, NOT_ALLOWED, NOT_FOUND
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from twisted.web.util import redirectTo

from wow.debug.query import FORMATS, PAGES, Answer, BadQuery, Query, plain, read

Look = Callable[[Query], Deferred[Answer]]
"""Has this process answer a query."""

LookAtWorker = Callable[[int, Query], Deferred[Answer] | None]
"""Has a worker answer one, if there is such a worker."""

_FROM_ELSEWHERE = ("cross-site", "same-site")
_SUFFIXES = {"pprof": "pb.gz", "speedscope": "speedscope.json"}


class Debug(Resource):
    """The list of the pages, above all of them."""

    def __init__(self, look: Look, workers: int, look_at_worker: LookAtWorker) -> None:
        """
        @param workers: how many processes there are beside this one.
        """
        super().__init__()
        self._workers = workers
        for page in PAGES:
            self.putChild(page.encode(), _Page(page, look, look_at_worker))

    def getChild(self, path: bytes, request: Request) -> Resource:
        return self if path == b"" else _Nothing()

    def render_GET(self, request: Request) -> bytes:
        if not request.path.endswith(b"/"):
            # Or its links would lead elsewhere.
            redirected: bytes = redirectTo(b"debug/", request)
            return redirected
        request.setHeader(b"content-type", b"text/html; charset=utf-8")
        request.setHeader(b"cache-control", b"no-store")
        return _list(self._workers).encode()


class _Nothing(Resource):
    isLeaf = True

    def render(self, request: Request) -> bytes:
        return _write(request, plain("There is no such page; see /debug/\n", NOT_FOUND))


class _Page(Resource):
    def __init__(self, page: str, look: Look, look_at_worker: LookAtWorker) -> None:
        super().__init__()
        self._page = page
        self._look = look
        self._look_at_worker = look_at_worker

    def getChild(self, path: bytes, request: Request) -> Resource:
        return _Nothing()

    def render_HEAD(self, request: Request) -> bytes:
        # It would take as long as all of it, for nothing.
        return _write(request, plain("", NOT_ALLOWED))

    def render_GET(self, request: Request) -> bytes | int:
        if request.getHeader("sec-fetch-site") in _FROM_ELSEWHERE:
            return _write(request, plain("Follow no link from elsewhere to here.\n", FORBIDDEN))
        try:
            query, worker = read(self._page, request.args)
        except BadQuery as bad:
            return _write(request, plain(f"{bad}\n", BAD_REQUEST))
        looking = self._look(query) if worker is None else self._look_at_worker(worker, query)
        if looking is None:
            return _write(request, plain(f"There is no worker {worker} just now.\n", NOT_FOUND))
        # Whoever hangs up is not waited for.
        request.notifyFinish().addErrback(lambda _: looking.cancel())
        looking.addCallback(lambda answer: self._finish(request, query, answer))
        looking.addErrback(_fail, request)
        return NOT_DONE_YET

    def _finish(self, request: Request, query: Query, answer: Answer) -> None:
        suffix = _SUFFIXES.get(query.format)
        if suffix is not None and answer.status < BAD_REQUEST:
            name = f'attachment; filename="wow.{suffix}"'
            request.setHeader(b"content-disposition", name.encode())
        request.write(_write(request, answer))
        request.finish()


def _fail(failure: Failure, request: Request) -> None:
    if not failure.check(CancelledError):
        request.processingFailed(failure)


def _write(request: Request, answer: Answer) -> bytes:
    request.setResponseCode(answer.status)
    request.setHeader(b"content-type", answer.content_type.encode())
    request.setHeader(b"cache-control", b"no-store")
    return answer.body


_HEAD = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>wow: debug</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse }
th, td { text-align: left; padding: 0.2rem 1rem 0.2rem 0 }
</style>
<h1>Look into this server</h1>
"""

_TAIL = f"""\
<dl>
<dt>profile?seconds=10&amp;format={"|".join(FORMATS)}
<dd>where CPU time goes; pprof is for <code>go tool pprof</code>, speedscope for
<a href="https://www.speedscope.app" rel="noreferrer">speedscope.app</a>.
html and speedscope need <code>wow[debug]</code>.
<dt>heap?seconds=10
<dd>what is allocated meanwhile and kept, by line. The server is slower for so long.
<dt>threads
<dd>what each thread is executing
<dt>reactor
<dd>what the event loop waits for
<dt>gc
<dd>the garbage collector, and its objects by type
</dl>
<p>One profile or heap at a time, of 1 to 60 seconds; it stops when you leave.
docs/operations.md, “Profile a running server”, says what each costs.
"""


def _list(workers: int) -> str:
    processes = {"this process" if not workers else "the parent": ""}
    processes |= {f"worker {number}": f"worker={number}" for number in range(1, workers + 1)}
    rows = "".join(_row(name, which) for name, which in processes.items())
    return f"{_HEAD}<table>\n{rows}</table>\n{_TAIL}"


def _row(name: str, which: str) -> str:
    links = {f"profile, {form}": f"profile?format={form}" for form in FORMATS}
    links |= {page: f"{page}?" for page in PAGES[1:]}
    cells = "".join(
        f'<td><a href="{escape(link + ("&" + which if which else ""))}">{text}</a>\n'
        for text, link in links.items()
    )
    return f"<tr><th>{name}\n{cells}"
