"""A small server on loopback that keeps a run's page fresh while the run trains.

It listens on 127.0.0.1 alone, answers two addresses, and only to those who ask for it by that name: a page from
elsewhere whose name was made to point here is refused.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from synaprune.errors import MachineError, UsageError
from synaprune.report import html
from synaprune.report.page import run_page
from synaprune.report.watch import stamp
from synaprune.train.run import Run

__all__ = ["LiveServer"]

# Asks every two seconds whether there is something newer than the page, and then loads it again at the same place.
SCRIPT = """"use strict";
(() => {
  const place = sessionStorage.getItem("place");
  if (place) addEventListener("load", () => setTimeout(() => scrollTo(0, Number(place)), 50));
  setInterval(async () => {
    try {
      if (await (await fetch("/stamp")).text() === STAMP) return;
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
        handler = type("Handler", (_Handler,), {"run": run})
        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        except OSError as error:
            raise MachineError(
                f"port {port} of this machine cannot be used ({error.strerror}); name another one with --port"
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> LiveServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Answers `/` with the page and `/stamp` with a word that changes with it."""

    run: Run

    def do_GET(self) -> None:
        """Answer."""
        assert isinstance(self.server, ThreadingHTTPServer)
        port = self.server.server_port
        if self.headers.get("Host") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            self._answer(403, "text/plain", "ask for this page as 127.0.0.1")
        elif self.path == "/stamp":
            self._answer(200, "text/plain", stamp(self.run))
        elif self.path == "/":
            script = SCRIPT.replace("STAMP", json.dumps(stamp(self.run)))
            try:
                page = run_page(self.run.folder, script)
            except (UsageError, OSError) as error:  # no epoch is finished yet, or a file is just being written
                page = html.document("synaprune", [f"<h1>Waiting</h1><p>{html.text(error)}</p>"], [], script)
            self._answer(200, "text/html", page)
        else:
            self._answer(404, "text/plain", "there is only /")

    def _answer(self, code: int, kind: str, content: str) -> None:
        body = content.encode("utf-8", "replace")
        self.send_response(code)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing: the terminal shows the run."""
