"""Drives Chromium through its debugging pipe: no port, no further package."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PHONE, DESK = (390, 844), (1280, 800)
_KEYS = {
    "Enter": ("Enter", 13, "\r"),
    "Escape": ("Escape", 27, ""),
    " ": ("Space", 32, " "),
    "ArrowDown": ("ArrowDown", 40, ""),
    "ArrowRight": ("ArrowRight", 39, ""),
}
_CONTROL = 2


class Page:
    """One page in a headless browser.

    Args:
        folder: for its profile and what it saves; the same folder again is the same browser.
        size: width and height of the window.
        dark: whether the person prefers dark colours.
    """

    def __init__(self, folder: Path, size: tuple[int, int] = DESK, *, dark: bool = False) -> None:
        self.saved = folder / "saved"
        self.saved.mkdir(parents=True, exist_ok=True)
        self.size, self.dark = size, dark
        self.messages: list[dict[str, Any]] = []
        self._numbers = itertools.count(1)
        self._folder = folder

    def __enter__(self) -> Page:
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()

        def as_three_and_four() -> None:
            # Where Chromium looks for the pipe. Copied first to numbers out of the way: either may be 3 or 4 already.
            copies = os.dup2(to_browser, 100), os.dup2(from_browser, 101)
            os.dup2(copies[0], 3)
            os.dup2(copies[1], 4)

        words = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe"]
        words += [
            "--autoplay-policy=no-user-gesture-required",
            "--mute-audio",
            f"--user-data-dir={self._folder / 'profile'}",
        ]
        self._process = subprocess.Popen(
            [str(CHROMIUM), *words], preexec_fn=as_three_and_four, close_fds=False, stderr=subprocess.DEVNULL
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer = b""
        self._session = None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        width, height = self.size
        for name in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{name}.enable")
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if self.dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.saved), eventsEnabled=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.ask("Browser.close")
        os.close(self._write)
        os.close(self._read)
        self._process.wait(timeout=30)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and return its answer; events that come before are kept."""
        number = next(self._numbers)
        asked = {"id": number, "method": method, "params": parameters}
        if self._session and not method.startswith(("Browser.", "Target.")):
            asked["sessionId"] = self._session
        os.write(self._write, json.dumps(asked).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self.messages.append(message)

    def wait_for(self, event: str, **values: Any) -> dict[str, Any]:
        """Return the next event of a name with some values, one that came already first."""
        while True:
            for message in self.messages:
                if message.get("method") == event and values.items() <= message["params"].items():
                    self.messages.remove(message)
                    return message["params"]
            self.messages.append(self._next())

    def open(self, address: str) -> None:
        """Load a page and wait until it is there."""
        self.ask("Page.navigate", url=address)
        self.wait_for("Page.loadEventFired")

    def run(self, script: str) -> Any:
        """Return what an expression gives; a promise is waited for."""
        told = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def press(self, key: str, *, control: bool = False) -> None:
        """Press one key."""
        code, number, text = _KEYS[key] if key in _KEYS else (f"Key{key.upper()}", ord(key.upper()), key)
        shared = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": _CONTROL if control else 0}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **shared, **({} if control or not text else {"text": text}))
        self.ask("Input.dispatchKeyEvent", type="keyUp", **shared)

    def type(self, text: str) -> None:
        """Put text in where the focus is, as an input method does."""
        self.ask("Input.insertText", text=text)

    def picture(self, file: Path) -> None:
        """Write what the window shows as PNG."""
        file.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))

    def requests(self) -> list[str]:
        """Return every address that was asked for since the page was opened."""
        told = [
            each["params"]["request"]["url"]
            for each in self.messages
            if each.get("method") == "Network.requestWillBeSent"
        ]
        return [url for url in told if not url.startswith(("data:", "blob:"))]

    def complaints(self) -> list[str]:
        """Return errors, and warnings about what the page may not do."""
        logged = [each["params"]["entry"]["text"] for each in self.messages if each.get("method") == "Log.entryAdded"]
        thrown = [str(each["params"]) for each in self.messages if each.get("method") == "Runtime.exceptionThrown"]
        return logged + thrown

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            read = os.read(self._read, 1 << 20)
            assert read, "the browser has ended"
            self._buffer += read
        line, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(line)
