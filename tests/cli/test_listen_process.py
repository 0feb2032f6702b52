"""``gateway listen`` and ``send`` as processes: how they stop, and what they leave on the terminal."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def command(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        *arguments,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    line = (await asyncio.wait_for(process.stderr.readline(), 30)).decode()
    found = re.search(r"http://\S+", line)
    assert found is not None, line
    return found[0]


async def post(url: str, body: bytes) -> None:
    host, _, port = url.removeprefix("http://").rstrip("/").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    await reader.read()
    writer.close()


async def test_ctrl_c_ends_listen_with_its_summary() -> None:
    """No stack trace, exit code 130, and what arrived is summed up."""
    async with command("listen", "--port", "0") as process:
        url = await address(process)
        await post(url, b'{"id":"a","type":"nxcloud.sms.dr","subject":"m1","data":{"to":"+155","raw":{}}}')
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 130
    assert "nxcloud.sms.dr  m1" in out.decode()
    assert "1 received, 1 distinct, 0 repeated" in err.decode()
    assert "Traceback" not in err.decode()


async def test_listen_ends_by_itself_after_enough_events() -> None:
    """Exit code 0; with --json each line is a document, the summary too."""
    async with command("listen", "--port", "0", "--count", "2", "--json") as process:
        url = await address(process)
        for body in (b'{"id":"a"}', b'{"id":"a"}', b'{\n"id":"b"}'):
            await post(url, body)
        out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    *events, last = [json.loads(line) for line in out.splitlines()]
    assert [{"id": "a"}, {"id": "b"}] == events
    assert (2, 1) == (last["summary"]["distinct"], last["summary"]["repeated"])


async def test_taken_port_is_one_sentence() -> None:
    """Not a stack trace."""
    async with command("listen", "--port", "0") as first:
        port = (await address(first)).rstrip("/").rpartition(":")[2]
        async with command("listen", "--port", port) as second:
            _, err = await asyncio.wait_for(second.communicate(), 30)
    assert second.returncode == 1
    assert re.search(rf"^Error: cannot listen on 127.0.0.1:{port}: .*in use", err.decode(), re.MULTILINE)
    assert "Traceback" not in err.decode()


async def test_ctrl_c_ends_send_with_what_came_until_then() -> None:
    """The summary is printed; exit code 130."""
    asked = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nsuccess")
        asked.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with command("send", "ota", "-n", "1000", "--concurrency", "1", "--url", url) as process:
        await asyncio.wait_for(asked.wait(), 30)
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), 30)
    server.close()
    assert process.returncode == 130
    assert "answered with success" in out.decode()
    assert "Traceback" not in err.decode()
