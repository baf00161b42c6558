"""A real browser for tests: the system's Chromium, over its own debugging protocol."""

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import websocket

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)
SECONDS = 60  #: to wait for one answer


class Browser:
    """One page of a headless Chromium; `errors` and `requests` are what it has met.

    Use as a context: at its end the browser is gone, with all that it wrote.
    """

    def __init__(self, folder: Path):
        self.folder, self.errors, self.requests, self._number = folder, [], [], 0
        self._events: list[str] = []

    def __enter__(self) -> "Browser":
        told = ["--headless=new", "--remote-debugging-port=0", "--remote-allow-origins=*"]
        told += ["--disable-gpu", "--no-first-run", f"--user-data-dir={self.folder}"]
        told += ["--no-sandbox"] if os.geteuid() == 0 else []
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(
            [CHROMIUM, *told, "about:blank"], stdout=quiet, stderr=quiet
        )
        port = self._port()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            page = next(p for p in json.load(answer) if p["type"] == "page")
        self._socket = websocket.create_connection(
            page["webSocketDebuggerUrl"], timeout=SECONDS
        )
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *problem) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _port(self) -> int:
        file, end = self.folder / "DevToolsActivePort", time.monotonic() + SECONDS
        while time.monotonic() < end:
            if file.is_file() and (lines := file.read_text().splitlines()):
                return int(lines[0])
            assert self._process.poll() is None, "Chromium does not start"
            time.sleep(0.1)
        raise TimeoutError("Chromium opens no port")

    def call(self, method: str, **parameters) -> dict:
        """Call a method of the protocol and return its result."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message))
        while (answer := self._next()).get("id") != number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> dict:
        """The next message; events that a test asks for are kept."""
        message = json.loads(self._socket.recv())
        about = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(about["request"]["url"])
            case "Runtime.exceptionThrown":
                self.errors.append(str(about["exceptionDetails"]))
            case "Log.entryAdded" if about["entry"]["level"] == "error":
                self.errors.append(str(about["entry"]))
            case "Runtime.consoleAPICalled" if about["type"] == "error":
                self.errors.append(str(about["args"]))
            case "Page.loadEventFired":
                self._events.append("load")
        return message

    def open(self, address: str) -> None:
        """Open a page and wait until it has loaded."""
        self._events.clear()
        self.call("Page.navigate", url=address)
        while "load" not in self._events:
            self._next()

    def ask(self, script: str):
        """The value of an expression on the page; of a promise, when it has one."""
        wanted = {"returnByValue": True, "awaitPromise": True}
        answer = self.call("Runtime.evaluate", expression=script, **wanted)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, script: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + SECONDS
        while not self.ask(script):
            assert time.monotonic() < end, f"never came true: {script}"
            time.sleep(0.05)

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key."""
        about = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def look(self, width: int, dark: bool) -> None:
        """Show pages so wide, to a reader who prefers light or dark."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1}
        self.call("Emulation.setDeviceMetricsOverride", mobile=False, **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        """Write what is seen to a PNG file."""
        shot = self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))
