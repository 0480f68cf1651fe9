"""A headless Chromium for tests, driven over a pipe by its own protocol: no package is needed, no port is opened."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
SECONDS = 60  # after which a silent browser has failed


class Gone(Exception):
    """The page has been replaced while it was asked."""


class Browser:
    """One browser; `open` gives a page of it."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        here_in, there_out = os.pipe()
        there_in, here_out = os.pipe()
        command = [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
            "--disable-background-networking", "--no-first-run", f"--user-data-dir={profile}",
            "--remote-debugging-pipe", "about:blank",
        ]  # fmt: skip
        # The protocol speaks over descriptors 3 and 4.
        script = f'exec 3<&{there_in} 4>&{there_out}; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *command], pass_fds=(there_in, there_out), stderr=subprocess.DEVNULL
        )
        os.close(there_in)
        os.close(there_out)
        os.set_blocking(here_in, False)
        self._in, self._out = here_in, here_out
        self._rest, self._number = b"", 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send a command and return its result; what happens meanwhile is kept in `events`."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            for answer in self._read():
                if answer.get("id") == self._number:
                    if "navigated" in answer.get("error", {}).get("message", ""):
                        raise Gone
                    assert "error" not in answer, answer
                    return answer["result"]
                self.events.append(answer)
        raise AssertionError(f"no answer to {method} within {SECONDS} s")

    def open(self, address: str, width: int, height: int, **media: str) -> Page:
        """Return a page of this size, loaded; `media` are features such as prefers-color-scheme."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.resize(width, height)
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        page.call("Emulation.setEmulatedMedia", features=features)
        self.events.clear()
        page.call("Page.navigate", url=address)
        page.wait(lambda: page.value("document.readyState") == "complete")
        return page

    def close(self) -> None:
        """End the browser."""
        os.close(self._out)  # it ends with its pipe
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)

    def _read(self) -> list[dict[str, Any]]:
        try:
            self._rest += os.read(self._in, 1 << 20)
        except BlockingIOError:
            time.sleep(0.005)
        *whole, self._rest = self._rest.split(b"\0")
        return [json.loads(part) for part in whole]


class Page:
    """One page of the browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command to the page."""
        return self._browser.call(method, self._session, **params)

    def value(self, expression: str) -> Any:
        """Return what an expression is worth in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, condition: Callable[[], Any], seconds: float = SECONDS) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(Gone):
                if condition():
                    return
            assert time.monotonic() < deadline, f"waited {seconds} s in vain"
            time.sleep(0.02)

    def resize(self, width: int, height: int) -> None:
        """Give the page another size, that of a phone below 600 pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def press(self, key: str, code: int) -> None:
        """Press a key."""
        text = {"text": " "} if key == " " else {}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code={" ": "Space"}.get(key, key),
                windowsVirtualKeyCode=code, **(text if kind == "keyDown" else {}),
            )  # fmt: skip

    def move(self, x: float, y: float) -> None:
        """Move the pointer."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, x: float, y: float) -> None:
        """Click at a place."""
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page, for a person to look at."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def pdf(self, path: Path) -> None:
        """Print the page."""
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"]))

    def complaints(self) -> list[str]:
        """Return the errors and warnings so far, and what the page has asked the network for."""
        self.value("0")  # what was said before has now arrived
        said = []
        for event in self._browser.events:
            params = event.get("params", {})
            match event.get("method"):
                case "Runtime.exceptionThrown":
                    said.append(str(params["exceptionDetails"]))
                case "Runtime.consoleAPICalled":
                    said.append(str([argument.get("value") for argument in params["args"]]))
                case "Log.entryAdded":
                    said.append(params["entry"]["text"])
                case "Network.requestWillBeSent" if not params["request"]["url"].startswith("data:"):
                    if params["request"]["url"] != params["documentURL"]:
                        said.append(f"request {params['request']['url']}")
        return said
