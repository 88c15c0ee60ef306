"""Headless Chromium, controlled over its debugging pipe. No other package is needed."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

from support.timing import PATIENCE, eventually

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

#: Timeout for the start of the browser, which is slow, seconds.
START = 4 * PATIENCE

_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)


class Browser:
    """One page. `complaints`: errors and warnings of its console, and exceptions; `requests`: the URLs that it requested. Use it in a `with`."""

    def __init__(self):
        self.complaints = []
        self.requests = []
        self._numbers = itertools.count(1)
        self._unread = b""
        self._answers = {}
        self._session = None

    def __enter__(self):
        self._home = tempfile.TemporaryDirectory(prefix="chromium", ignore_cleanup_errors=True)
        theirs, self._writing = os.pipe()
        self._reading, their_answers = os.pipe()
        command = [
            "sh",
            "-c",
            f'exec "$@" 3</proc/self/fd/{theirs} 4>/proc/self/fd/{their_answers}',
            "sh",
            CHROMIUM,
            *_OPTIONS,
            f"--user-data-dir={self._home.name}",
        ]
        self._process = subprocess.Popen(command, pass_fds=(theirs, their_answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(theirs)
        os.close(their_answers)
        page = self.call("Target.createTarget", url="about:blank", within=START)["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *failure):
        os.close(self._writing)  # the browser ends when the pipe closes
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(PATIENCE)
        os.close(self._reading)
        self._home.cleanup()

    def call(self, method, within=PATIENCE, **parameters):
        """The result of `method` of the DevTools protocol."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + within
        while number not in self._answers:
            assert select.select([self._reading], [], [], max(0, deadline - time.monotonic()))[0], f"the browser does not answer {method}"
            self._hear()
        answer = self._answers.pop(number)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _hear(self):
        data = os.read(self._reading, 1 << 20)
        assert data, "the browser is gone"
        *messages, self._unread = (self._unread + data).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self._note(message["method"], message["params"])

    def _note(self, method, told):
        if method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(part.get("value", part.get("description"))) for part in told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.complaints.append(told["entry"]["text"])

    # -- for the tests

    def open(self, url):
        self.call("Page.navigate", url=url)
        eventually(lambda: self.run("document.readyState") == "complete", what=f"{url} in the browser")

    def run(self, code):
        """The value of the expression `code` in the page; a promise is awaited."""
        done = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def text(self, selector):
        """The visible text of the first element that matches `selector`, in one line; "" if there is none."""
        return " ".join(self.texts(selector)[:1])

    def texts(self, selector):
        return self.run(f"""[...document.querySelectorAll({json.dumps(selector)})].map(node =>
            node.checkVisibility() ? node.innerText.replace(/\\s+/g, ' ').trim() : '')""")

    def reads(self, selector, words):
        """Wait until this text contains `words`."""
        return eventually(lambda: words in self.text(selector), what=f"{words!r} in {selector}, where {self.text(selector)!r} stands")

    def press(self, *keys):
        for key in keys:
            typed = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
            code = {"Enter": 13, "Tab": 9, "ArrowLeft": 37, "Escape": 27}.get(key, 0)
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **typed)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def look(self, width=1280, height=900, dark=False):
        """Set the size of the screen, in pixels, and the dark or the light colour scheme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def photograph(self, path):
        """Save the whole page as a PNG file."""
        image = self.call("Page.captureScreenshot", captureBeyondViewport=True, within=START)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(image))
