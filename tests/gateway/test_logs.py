from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from typing import Literal

import pytest
import structlog

from gateway.telemetry import logs
from tests.rows import rows


def break_with(payload: str) -> None:
    text = payload.upper()
    assert text
    raise ZeroDivisionError("it broke")


@pytest.mark.parametrize("style", ["console", "json"])
def test_a_trace_shows_no_payload(style: Literal["console", "json"], capsys: pytest.CaptureFixture[str]) -> None:
    """A fault in the middle of an event is told with its trace and without what the variables held."""
    logs.configure("info", style)
    for logger in (structlog.get_logger("gateway.fanout"), logging.getLogger("aiohttp")):
        try:
            break_with(f"your code is {4700 + 11}")
        except ZeroDivisionError:
            logger.exception("delivery.broke")
    told = capsys.readouterr().err
    assert "4711" not in told
    assert 2 == told.count("delivery.broke") == told.count("ZeroDivisionError: it broke")


@rows("style", ["console", "json"])
@rows("unbuffered", ["", "1"])
def test_a_line_is_one_write(style: str, unbuffered: str) -> None:
    """Workers share one standard error: what is written in two parts comes out with another worker's line between."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # one packet for each write
    program = f"""
import logging, structlog
from gateway.telemetry import logs
logs.configure("info", {style!r})
structlog.get_logger("gateway").info("gateway.started", long="x" * 3000)
logging.getLogger("aiokafka").error("no broker")
"""
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with ours, theirs:
        subprocess.run([sys.executable, "-c", program], stderr=theirs, env=environment, check=True)
        theirs.close()
        packets = list(iter(lambda: ours.recv(2**16), b""))
    assert ["gateway.started" in packets[0].decode(), "no broker" in packets[1].decode()] == [True, True]
    assert [(packet.count(b"\n"), packet.endswith(b"\n")) for packet in packets] == [(1, True)] * 2
