"""README's five-minute tour: its own lines, pasted into a shell in a folder, on ports that are free."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from tests.ports import free_port

ROOT: Final = Path(__file__).parent.parent
README: Final = (ROOT / "README.md").read_text()
_DISCARD: Final = asyncio.subprocess.DEVNULL


def section(heading: str) -> str:
    """What stands below a heading of the second level."""
    return README.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def blocks(text: str) -> list[str]:
    """What is to be pasted into a shell."""
    return re.findall(r"```bash\n(.*?)```", text, re.DOTALL)


class Tour:
    """Two terminals in a folder with ``.venv/bin/gateway`` and ``config.yaml``: the gateway's and the subscriber's.

    Args:
        folder: where lines are pasted.
        environment: beside what keeps the gateway on ports of its own.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._subscriber_port = str(free_port())
        self.admin_port = free_port()
        self._environment = {
            **environment,
            "GATEWAY__INGEST__PORT": str(free_port()),
            "GATEWAY__ADMIN__PORT": str(self.admin_port),
        }
        self.listen, self.subscribe, self.send = [
            block.replace("9000", self._subscriber_port) for block in blocks(section("Five-minute tour"))
        ]
        self._processes: list[asyncio.subprocess.Process] = []

    async def begin(self) -> None:
        """Start both, subscribe while the gateway runs, and wait until it has taken that over."""
        pipe, merged = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
        self.gateway = await self._start(".venv/bin/gateway run", stderr=pipe, stdout=_DISCARD)
        self.listener = await self._start(self.listen.strip(), stdout=pipe, stderr=merged)
        await self.logged(b"gateway.started")
        assert (await self.paste(self.subscribe))[0] == 0
        self.gateway.send_signal(signal.SIGHUP)
        await self.logged(b"config.applied")

    async def paste(self, text: str) -> tuple[int, str]:
        """Lines into a third terminal: exit code and what stands on it then."""
        merged = asyncio.subprocess.STDOUT
        process = await self._start(text, stdout=asyncio.subprocess.PIPE, stderr=merged)
        shown, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, shown.decode()

    async def stop_listening(self) -> None:
        """Ctrl-C in the subscriber's terminal."""
        self.listener.send_signal(signal.SIGINT)
        await self.listener.communicate()

    async def listen_again(self, count: int) -> tuple[list[bytes], float]:
        """Start the subscriber again; the first ``count`` events as JSON, and the seconds until it had them."""
        clock = asyncio.get_running_loop().time
        pipe = asyncio.subprocess.PIPE
        self.listener = await self._start(
            f"{self.listen.strip()} --json --count {count}", stdout=pipe, stderr=pipe, limit=2**22
        )
        assert self.listener.stderr is not None
        assert b"listening on" in await self.listener.stderr.readline()
        began = clock()
        shown, _ = await self.listener.communicate()
        return shown.splitlines()[:count], clock() - began

    async def end(self) -> str:
        """SIGTERM to the gateway, Ctrl-C to the subscriber; what the subscriber had printed."""
        self.gateway.send_signal(signal.SIGTERM)
        assert await self.gateway.wait() == 0
        self.listener.send_signal(signal.SIGINT)
        return (await self.listener.communicate())[0].decode()

    async def clean(self) -> None:
        """Nothing of it goes on, whatever went wrong."""
        for process in self._processes:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _start(self, text: str, **more: Any) -> asyncio.subprocess.Process:
        # A single command takes the shell's place, so that signals reach it.
        command = text if "\n" in text.strip() else f"exec {text}"
        process = await asyncio.create_subprocess_shell(command, cwd=self._folder, env=self._environment, **more)
        self._processes.append(process)
        return process

    async def logged(self, event: bytes) -> list[bytes]:
        """Read the gateway's log until this stands in it; the lines that were read."""
        assert self.gateway.stderr is not None
        lines = [await self.gateway.stderr.readline()]
        while event not in lines[-1]:
            assert lines[-1], f"the gateway ended before {event.decode()}"
            lines.append(await self.gateway.stderr.readline())
        return lines


@asynccontextmanager
async def touring(folder: Path, patience_s: float = 300, **environment: str) -> AsyncIterator[Tour]:
    """A tour that has begun; what is done in it ends within ``patience_s``, and nothing of it is left afterwards."""
    tour = Tour(folder, {**os.environ, **environment})
    try:
        async with asyncio.timeout(patience_s):
            await tour.begin()
            yield tour
    finally:
        await tour.clean()
