from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from gateway.telemetry import logs


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


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
