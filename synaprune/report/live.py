"""A small server on loopback that keeps a run's page fresh while the run trains.

It listens on 127.0.0.1 alone and answers two addresses, and only to those who know the word in its own address and ask
for it by that name: neither another user of the machine nor a page from elsewhere can read the run.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs

from synaprune.errors import MachineError, UsageError
from synaprune.report import html
from synaprune.report.course import Course
from synaprune.report.page import run_page
from synaprune.report.watch import stamp
from synaprune.train.run import Run

__all__ = ["LiveServer"]

IDLE_SECONDS = 10.0  # in which a client must go on
LIFE_SECONDS = 30.0  # in which all of a request must be over
CLIENTS = 64  # at a time; more are sent away
# What files raise that hold something else than the page shows.
ODD = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
# Asks every two seconds whether there is something newer than the page, and then loads it again at the same place.
SCRIPT = """"use strict";
(() => {
  const place = sessionStorage.getItem("place");
  if (place) addEventListener("load", () => setTimeout(() => scrollTo(0, Number(place)), 50));
  setInterval(async () => {
    try {
      const answer = await fetch("/stamp" + location.search);
      if (!answer.ok || await answer.text() === STAMP) return;
      sessionStorage.setItem("place", scrollY);
      location.reload();
    } catch { /* the server is gone: what is shown stays */ }
  }, 2000);
})();
"""


class LiveServer:
    """Serves the page of a run from a thread of its own, inside the `with` block.

    Raises:
        MachineError: the port is taken.

    """

    def __init__(self, run: Run, port: int = 0) -> None:
        try:
            self._server = _Server(run, port)
        except OSError as error:
            raise MachineError(
                f"port {port} of this machine cannot be used ({error.strerror}); name another one with --port"
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    @property
    def address(self) -> str:
        """Where the page is; whoever has not been told this address cannot ask for it."""
        return f"http://127.0.0.1:{self._server.server_port}/?token={self._server.token}"

    def __enter__(self) -> LiveServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """Gives each client a thread, but neither more of them nor more time than there are."""

    daemon_threads = True
    request_queue_size = CLIENTS

    def __init__(self, run: Run, port: int) -> None:
        self.token = secrets.token_urlsafe(16)
        self.page = _Page(run)
        self._begun: dict[socket.socket, float] = {}
        super().__init__(("127.0.0.1", port), _Handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Take a client if there is room."""
        if len(self._begun) >= CLIENTS:
            return False
        self._begun[request] = time.monotonic()
        return True

    def service_actions(self) -> None:
        """Cut off, several times a second, who is too slow, however many bytes it sends meanwhile."""
        for request, begun in list(self._begun.items()):
            if time.monotonic() - begun > LIFE_SECONDS:
                with contextlib.suppress(OSError):  # it may just have left
                    request.shutdown(socket.SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:
        """Let a client go."""
        self._begun.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that leave: the terminal shows the run."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Page:
    """The page of a run, made once for each state of the run, however many ask for it."""

    def __init__(self, run: Run) -> None:
        self._course, self._lock = Course(run), threading.Lock()
        self._stamp, self._content = "", b""

    def stamp(self) -> str:
        """Return a word that changes with the page."""
        return stamp(self._course.run)

    def content(self) -> bytes:
        """Return the page; what keeps it from being made is said in it."""
        with self._lock:
            now = self.stamp()
            if now == self._stamp:
                return self._content
            script = SCRIPT.replace("STAMP", json.dumps(now))
            try:
                page = run_page(self._course.run.folder, script, self._course)
            except (UsageError, OSError) as error:  # no epoch is finished yet, or a file is just being written
                return _waiting(str(error), script)
            except ODD as error:
                return _waiting(f"a file of the run has another shape ({type(error).__name__}: {error})", script)
            self._stamp, self._content = now, page.encode("utf-8", "replace")
            return self._content


def _waiting(reason: str, script: str) -> bytes:
    page = html.document("synaprune", [f"<h1>Waiting</h1><p>{html.text(reason[:500])}</p>"], [], script)
    return page.encode("utf-8", "replace")


class _Handler(BaseHTTPRequestHandler):
    """Answers `/` with the page and `/stamp` with a word that changes with it."""

    server: _Server
    timeout = IDLE_SECONDS

    def do_GET(self) -> None:
        """Answer."""
        port = self.server.server_port
        path, _, query = self.path.partition("?")
        token = parse_qs(query).get("token", [""])[0]
        if self.headers.get("Host") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            self._answer(403, "text/plain", b"ask for this page as 127.0.0.1")
        elif not hmac.compare_digest(token.encode("utf-8", "replace"), self.server.token.encode()):
            self._answer(403, "text/plain", b"ask by the whole address that synaprune watch has printed")
        elif path == "/stamp":
            self._answer(200, "text/plain", self.server.page.stamp().encode())
        elif path == "/":
            self._answer(200, "text/html", self.server.page.content())
        else:
            self._answer(404, "text/plain", b"there is only /")

    def _answer(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing: the terminal shows the run."""
