"""The consumers in deploy/docs/kafka-consumers.md, as printed there, read an event that the gateway published."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from gateway.log import Entry
from gateway.log.kafka import KafkaLog, KafkaOptions
from tests.broker import assembly

#: A first build compiles Go's own libraries, which takes minutes on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "deploy/docs/kafka-consumers.md").read_text()
#: Has the version of franz-go that the example is built with.
GO_MODULE: Final = ROOT / "tests/benchmarks/peers/go"


def program(language: str, bootstrap: str, prefix: str) -> str:
    """Return the page's only program in a language, for this broker and topics of the test's own."""
    (text,) = re.findall(rf"(?ms)^```{language}\n(.*?)^```", PAGE)
    assert "localhost:9092" in text
    assert '"my-reports"' in text  # a killed member would keep a shared group
    text = text.replace("localhost:9092", bootstrap)
    return re.sub('"(my-reports|sms.dr)"', rf'"{prefix}\1"', text)


def python(folder: Path, bootstrap: str, prefix: str) -> list[str]:
    """Return the command of the Python example."""
    (folder / "consumer.py").write_text(program("python", bootstrap, prefix))
    return [sys.executable, str(folder / "consumer.py")]


def java(folder: Path, bootstrap: str, prefix: str) -> list[str]:
    """Return the command of the Java example; the libraries are those of the test's broker."""
    (folder / "Reports.java").write_text(program("java", bootstrap, prefix))
    return ["java", "-cp", f"{assembly.libraries()}/*", str(folder / "Reports.java")]


def go(folder: Path, bootstrap: str, prefix: str) -> list[str]:
    """Return the command of the Go example; skips where Go or its modules cannot be had."""
    if shutil.which("go") is None:
        pytest.skip("go is not installed")
    (folder / "main.go").write_text(program("go", bootstrap, prefix))
    for name in ("go.mod", "go.sum"):
        shutil.copy(GO_MODULE / name, folder)
    fetched = subprocess.run(["go", "mod", "download"], cwd=folder, check=False, capture_output=True, text=True)
    if fetched.returncode != 0:
        pytest.skip(f"the modules cannot be fetched: {fetched.stderr.strip()}")
    subprocess.run(["go", "build", "-o", "consumer", "."], cwd=folder, check=True)
    return [str(folder / "consumer")]


@pytest.mark.parametrize("make", [python, java, go], ids=lambda make: make.__name__)
async def test_consumer_prints_the_event(make: object, kafka: str, prefix: str, tmp_path: Path) -> None:
    """Id, time, number and status, from the beginning of the topic."""
    assert callable(make)
    log = KafkaLog(KafkaOptions((kafka,), prefix=prefix))
    await log.start()
    value = (
        b'{"specversion":"1.0","id":"e-1","type":"nxcloud.sms.dr","time":"2026-11-27T12:00:00.000000Z",'
        b'"data":{"to":"+6281100001111","status":"delivered"}}'
    )
    await log.append([Entry("sms.dr", "m-1", "e-1", value)])
    await log.stop()
    command = make(tmp_path, kafka, prefix)
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    consumer = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=environment)
    try:
        assert consumer.stdout is not None
        async with asyncio.timeout(120):
            lines = [line async for line in _until(consumer.stdout, b"e-1 ")]
    finally:
        consumer.kill()
        await consumer.wait()
    assert lines[-1].split() == [b"e-1", b"2026-11-27T12:00:00.000000Z", b"+6281100001111", b"delivered"]


async def _until(stream: asyncio.StreamReader, start: bytes) -> AsyncIterator[bytes]:
    """Yield lines up to the first that begins so, or the end."""
    while line := await stream.readline():
        yield line
        if line.startswith(start):
            return
