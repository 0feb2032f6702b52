"""The receivers of the documents, as printed: each accepts what the gateway delivers, and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from gateway.signing import Signer
from tests.admin.running import running, webhook
from tests.components import needed
from tests.docs.pages import marked
from tests.ports import free_port
from tests.waiting import until

SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD: Final = "whsec_" + "b2xk" * 8
#: As the programs have it.
_PORT: Final = "9000"


@dataclass(frozen=True, slots=True)
class Program:
    """One receiver: the page that shows it, its file, and how that is run.

    Args:
        command: ``{file}`` and ``{port}`` are filled in.
        install: the package of Debian that has the first word of the command.
    """

    page: str
    file: str
    command: tuple[str, ...]
    install: str


PROGRAMS: Final = {
    "python": Program("README.md", "receiver.py", (sys.executable, "{file}"), "python3"),
    "node": Program("delivering.md", "receiver.mjs", ("node", "{file}"), "nodejs"),
    "go": Program("delivering.md", "receiver.go", ("go", "run", "{file}"), "golang-go"),
    "java": Program("delivering.md", "Receiver.java", ("java", "{file}"), "openjdk-17-jdk-headless"),
    "php": Program("delivering.md", "receiver.php", ("php", "-S", "127.0.0.1:{port}", "{file}"), "php-cli"),
}


@dataclass(frozen=True, slots=True)
class Receiver:
    """A receiver that runs: its address, and what it prints."""

    url: str
    output: asyncio.StreamReader

    async def accepted(self) -> str:
        """The id of the next event that it accepts. (PHP's server prints lines of its own, too.)"""
        while True:
            line = (await self.output.readline()).decode().strip()
            assert line, "the receiver ended"
            if len(line) == 32:
                return line


@asynccontextmanager
async def receiving(program: Program, marker: str, folder: Path) -> AsyncIterator[Receiver]:
    """A receiver of the documents, on a port that is free."""
    port = free_port()
    file = folder / program.file
    file.write_text(marked(program.page, f"receiver {marker}").replace(_PORT, str(port)))
    words = [word.format(file=file, port=port) for word in program.command]
    words[0] = needed(words[0], install=program.install)
    process = await asyncio.create_subprocess_exec(
        *words,
        env={**os.environ, "WEBHOOK_SECRET": SECRET},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        await listening(port, process)
        assert process.stdout is not None
        yield Receiver(f"http://127.0.0.1:{port}/hook", process.stdout)
    finally:
        end(process)
        await process.wait()


def end(process: asyncio.subprocess.Process) -> None:
    """Kill the program, and what it was built into: ``go run`` has a child."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def listening(port: int, process: asyncio.subprocess.Process) -> None:
    """Return when the program accepts connections; it cannot say so."""

    async def accepts() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    await until(lambda: process.returncode is not None or accepts())
    assert process.returncode is None


async def posted(url: str, body: bytes, signature: str, seconds: int) -> int:
    """The status that a request of ours is answered with."""
    headers = {"webhook-id": "0" * 32, "webhook-timestamp": str(seconds), "webhook-signature": signature}
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as response:
        return response.status


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
async def test_receiver_accepts_deliveries_and_refuses_what_is_not_ours(name: str, tmp_path: Path) -> None:
    """A delivery of a running gateway; then a changed body, an old time, no signature, and two signatures."""
    async with receiving(PROGRAMS[name], name, tmp_path) as receiver:
        async with running(tmp_path / "data", subscribers=[webhook("it", receiver.url, secrets=[SECRET])]) as gateway:
            assert 200 == await gateway.sms(1)
            async with asyncio.timeout(60):
                event_id = await receiver.accepted()
            story = await gateway.get(f"/api/events/{event_id}")
            assert "nxcloud.sms.dr" in str(story)
        now, body = int(time.time()), b'{"a": 1}'
        signature = Signer([SECRET]).sign("0" * 32, now, body)
        assert 401 == await posted(receiver.url, body + b" ", signature, now)
        assert 401 == await posted(receiver.url, body, Signer([SECRET]).sign("0" * 32, now - 400, body), now - 400)
        assert 401 == await posted(receiver.url, body, "", now)
        assert 401 == await posted(receiver.url, body, Signer([OLD]).sign("0" * 32, now, body), now)
        assert 204 == await posted(receiver.url, body, Signer([OLD, SECRET]).sign("0" * 32, now, body), now)
