"""A real Chromium, driven through chromedriver by the few WebDriver commands that the tests of the pages need.

Source: W3C WebDriver, https://www.w3.org/TR/webdriver2/.
"""

import base64
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
PATIENCE_S = 20.0


def missing() -> str | None:
    """Why there is no browser here, or None if there is one."""
    lacking = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    needs = "apt-get install chromium chromium-driver"
    return f"no {' and no '.join(lacking)} here ({needs})" if lacking else None


@contextmanager
def browser(folder: Path) -> Iterator["Browser"]:
    """A browser with a profile of its own in this folder."""
    log = folder / "chromedriver.log"
    with (
        log.open("wb") as out,
        subprocess.Popen(["chromedriver", "--port=0"], stdout=out, stderr=out) as driver,
    ):
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{_port(log)}", timeout=60) as client:
                found = Browser(client, folder / "profile")
                try:
                    yield found
                finally:
                    found.close()
        finally:
            driver.terminate()


def _port(log: Path) -> int:
    def said() -> int | None:
        words = log.read_text().partition("started successfully on port ")[2].split(".")
        return int(words[0]) if len(words) > 1 else None

    return until(said)


def until(found: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """The first true answer. Raises AssertionError after `patience_s`."""
    deadline = time.monotonic() + patience_s
    while not (answer := found()):
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.05)
    return answer


class Browser:
    """One window. Elements are named by CSS selectors."""

    def __init__(self, client: httpx.Client, profile: Path) -> None:
        self._client = client
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"], "binary": shutil.which("chromium")}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self._answer("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{session['sessionId']}"

    def close(self) -> None:
        self._answer("DELETE", self._session)

    def open(self, url: str) -> None:
        self._post("/url", url=url)

    @property
    def url(self) -> str:
        return str(self._answer("GET", f"{self._session}/url"))

    def js(self, script: str, *arguments: object) -> Any:
        """What the script, a function's body, returns."""
        return self._post("/execute/sync", script=script, args=arguments)

    def text(self, selector: str) -> str:
        """The visible text of all that the selector finds; empty if it finds nothing."""
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText).join('\\n')"
        return str(self.js(script, selector))

    def sees(self, selector: str) -> bool:
        """Whether any of what the selector finds can be seen."""
        script = (
            "return [...document.querySelectorAll(arguments[0])]"
            ".some(e => e.checkVisibility({visibilityProperty: true}))"
        )
        return bool(self.js(script, selector))

    def shows(self, selector: str, text: str = "", patience_s: float = PATIENCE_S) -> str:
        """The text there, once it can be seen and has `text` in it."""
        script = (
            "return [...document.querySelectorAll(arguments[0])]"
            ".some(e => e.checkVisibility({visibilityProperty: true}) && e.innerText.includes(arguments[1]))"
        )
        try:
            until(lambda: self.js(script, selector, text), patience_s)
        except AssertionError:
            shown = self.text(selector) or self.text("main")[:2000]
            raise AssertionError(f"{selector} never showed {text!r}, but:\n{shown}") from None
        return self.text(selector)

    def click(self, selector: str) -> None:
        self._element(selector, "/click")

    def type(self, selector: str, text: str) -> None:
        """Type into a field, or choose a file by its path."""
        self._element(selector, "/value", text=text)

    def set(self, selector: str, value: str) -> None:
        """Give a field this value instead of what it has."""
        script = (
            "const field = document.querySelector(arguments[0]); field.value = arguments[1];"
            "for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind, {bubbles: true}));"
        )
        self.js(script, selector, value)

    def draw(self, selector: str, points: Sequence[tuple[int, int]]) -> None:
        """Press the mouse at the first point, in pixels from the element's middle, and move it along the others."""
        found = self._post("/element", using="css selector", value=selector)
        moves = [{"type": "pointerMove", "origin": found, "x": x, "y": y, "duration": 30} for x, y in points]
        strokes = [
            moves[0],
            {"type": "pointerDown", "button": 0},
            *moves[1:],
            {"type": "pointerUp", "button": 0},
        ]
        self._post("/actions", actions=[{"type": "pointer", "id": "mouse", "actions": strokes}])

    def view(self, width: int, *, dark: bool = False, height: int = 900) -> None:
        """Look at pages in a window of this width, by day or by night."""
        self._devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 700,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._devtools("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self) -> bytes:
        """The whole page as a PNG."""
        taken = self._devtools("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(taken["data"])

    def complaints(self) -> list[str]:
        """What the console has reported as an error since the last time."""
        entries = self._post("/se/log", type="browser")
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def _element(self, selector: str, command: str, **body: object) -> None:
        found = self._post("/element", using="css selector", value=selector)
        self._post(f"/element/{found[ELEMENT]}{command}", **body)

    def _devtools(self, command: str, **parameters: object) -> Any:
        return self._post("/goog/cdp/execute", cmd=command, params=parameters)

    def _post(self, path: str, **body: object) -> Any:
        return self._answer("POST", self._session + path, body)

    def _answer(self, method: str, path: str, body: object = None) -> Any:
        answer = self._client.request(method, path, json=body if method == "POST" else None)
        value = answer.json()["value"]
        assert answer.is_success, value["message"]
        return value
