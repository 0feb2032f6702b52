"""A headless Chromium by its DevTools protocol, with what is installed anyway: aiohttp.

Source: Chrome DevTools Protocol, domains Page, Runtime, Input, Emulation, Network, Log.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.waiting import until_so

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def chromium() -> str | None:
    """The browser's program, if there is one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


#: Asks an element whether it can be seen; one that only takes its room cannot.
SEEN = "checkVisibility({visibilityProperty: true})"
#: A layout that moves under the pointer so many times is a fault of the page.
_CLICKS = 5


class DocumentGone(Exception):
    """The document that an expression was looking at gave way to the next one; ask that one."""


#: What the browser says then. Source: V8's inspector and Chromium's ``devtools_session.cc``.
_GONE = (
    "Inspected target navigated",
    "Execution context was destroyed",
    "Cannot find context",
    "Promise was collected",
)


class Connection:
    """One end of the DevTools protocol: the browser's, or that of a page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._next = 0
        self._reading = asyncio.create_task(self._read())

    async def call(self, method: str, **parameters: Any) -> Any:
        """One command of the protocol."""
        self._next += 1
        answer = self._answers[self._next] = asyncio.get_running_loop().create_future()
        await self._socket.send_str(json.dumps({"id": self._next, "method": method, "params": parameters}))
        async with asyncio.timeout(40):
            return await answer

    async def close(self) -> None:
        """Stop reading."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        async for message in self._socket:
            found = json.loads(message.data)
            answer = self._answers.pop(found.get("id", 0), None)
            if answer is None or answer.done():
                self.told(found.get("method", ""), found.get("params", {}))
            elif "error" in found:
                is_gone = found["error"]["message"].startswith(_GONE)
                answer.set_exception((DocumentGone if is_gone else AssertionError)(found["error"]))
            else:
                answer.set_result(found["result"])

    def told(self, event: str, about: dict[str, Any]) -> None:
        """Take an event of the protocol."""


class Page(Connection):
    """One page. What goes wrong in it (exceptions, refused by the policy, failed requests) is kept in ``problems``."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        super().__init__(socket)
        self.problems: list[str] = []

    def told(self, event: str, about: dict[str, Any]) -> None:
        """Keep what went wrong."""
        if event == "Runtime.exceptionThrown":
            self.problems.append(str(about["exceptionDetails"]))
        elif event == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.problems.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")

    async def open(self, url: str) -> None:
        """Go to an address and wait until the page is there."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")

    async def run(self, script: str) -> Any:
        """The value of an expression; promises are awaited."""
        found = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def until(self, condition: str, timeout_s: float = 20.0) -> Any:
        """Wait, in the page and in those that it leads to, until an expression holds."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                return await self._until(condition, max(0.0, end - time.monotonic()))
            except DocumentGone:
                continue

    async def _until(self, condition: str, timeout_s: float) -> Any:
        never = json.dumps(f"never: {condition} ")
        script = f"""new Promise((resolve, reject) => {{
            const until = Date.now() + {timeout_s * 1000};
            const look = () => {{
                let value = null;
                try {{ value = ({condition}); }} catch (error) {{}}
                if (value) resolve(value);
                else if (Date.now() > until) reject(new Error({never} + document.body.innerText.slice(0, 4000)));
                else setTimeout(look, 25);
            }};
            look();
        }})"""
        return await self.run(script)

    async def text(self, selector: str = "main") -> str:
        """What a person reads there."""
        return str(await self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    async def sees(self, text: str, selector: str = "main") -> None:
        """Wait until a text is read there."""
        await self.until(f"document.querySelector({json.dumps(selector)})?.innerText.includes({json.dumps(text)})")

    async def click(self, selector: str, text: str = "") -> None:
        """A real click in the middle of the first element (with this text); it must be the one that is hit.

        The pointer gets there first, as a person's does: rows that are pointed at do not change places. What grows
        above the element in the moment of the click moves it away from the pointer; a person clicks again then.
        """
        for _ in range(_CLICKS):
            await self._click(selector, text)
            try:
                if await self.run("window.isHit") is not False:
                    return
            except DocumentGone:
                return
        raise AssertionError(f"{selector} moves away from the pointer")

    async def _click(self, selector: str, text: str) -> None:
        find = (
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            f".find((one) => one.{SEEN} && !one.disabled && one.innerText.includes({json.dumps(text)}))"
        )
        where = f"""(() => {{
            const one = {find};
            if (!one) return null;
            one.scrollIntoView({{block: "center", behavior: "instant"}});
            const box = one.getBoundingClientRect();
            const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
            const hit = document.elementFromPoint(x, y);
            window.removeEventListener("click", window.noteClick, true);
            window.isHit = false;
            window.noteClick = (event) => {{ window.isHit = one.contains(event.target) || event.target === hit; }};
            window.addEventListener("click", window.noteClick, true);
            return [x, y, hit !== null && (one.contains(hit) || hit.contains(one))];
        }})()"""
        before, place = None, await self.until(where)
        while place != before:
            await self.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
            before, place = place, await self.until(where)
        assert place[2], f"{selector} is covered"
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    async def write(self, text: str) -> None:
        """Type into what has the focus."""
        await self.call("Input.insertText", text=text)

    async def press(self, key: str, text: str = "") -> None:
        """One key, such as ``Tab``, ``Enter`` or ``/``."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}
        text = text or {"Enter": "\r", "Tab": ""}.get(key, key if len(key) == 1 else "")
        common = {"key": key, "code": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0]))}
        await self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    async def size(self, width: int, height: int, *, is_phone: bool = False) -> None:
        """The window's size."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if is_phone else 1,
            mobile=is_phone,
        )

    async def darken(self, *, is_dark: bool) -> None:
        """What the system prefers."""
        scheme = "dark" if is_dark else "light"
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def cut_off(self, *, is_cut: bool) -> None:
        """Take the network away, or give it back."""
        await self.call(
            "Network.emulateNetworkConditions", offline=is_cut, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )

    async def picture(self, name: str, *, is_whole: bool = False) -> None:
        """A screenshot into the folder that ``CONSOLE_SCREENSHOTS`` names; without it none."""
        folder = os.environ.get("CONSOLE_SCREENSHOTS")
        if not folder:
            return
        found = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=is_whole)
        target = Path(folder) / f"{name}.png"
        await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(target.write_bytes, base64.b64decode(found["data"]))


@contextmanager
def browser(program: str, folder: Path) -> Iterator[str]:
    """Run a browser, whose pages share nothing; yield the address of its end of the protocol."""
    profile = folder / "profile"
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"], stdout=subprocess.DEVNULL, stderr=log
        )
    try:
        # Source: Chromium, ``content/browser/devtools/devtools_http_handler.cc``: port and path, a line each.
        port, path = until_so(lambda: _lines(profile / "DevToolsActivePort"))
        yield f"ws://127.0.0.1:{port}{path}"
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _lines(path: Path) -> list[str]:
    """Return the two lines of a file; nothing while it is not whole."""
    lines = path.read_text().splitlines() if path.exists() else []
    return lines if len(lines) == 2 else []


@asynccontextmanager
async def new_page(address: str) -> AsyncIterator[Page]:
    """A page of its own in a running browser: no cookie and no storage of another one."""
    async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
        control = Connection(socket)
        context = (await control.call("Target.createBrowserContext"))["browserContextId"]
        found = await control.call("Target.createTarget", url="about:blank", browserContextId=context)
        where = address.partition("/devtools/")[0]
        async with session.ws_connect(f"{where}/devtools/page/{found['targetId']}", max_msg_size=0) as of_the_page:
            page = Page(of_the_page)
            yield page
            await page.close()
        await control.call("Target.disposeBrowserContext", browserContextId=context)
        await control.close()
