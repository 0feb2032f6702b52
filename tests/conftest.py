"""What a run that several workers share needs: an order, no clocks in properties, and no log set up by another test."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests import leash

# How long one example takes says how busy the machine is; what may cost too much has a test that says so.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


#: Seconds that a test takes, about, by its marks: enough to put files in order.
_SLOW_S: Final = 20.0
_KAFKA_S: Final = 3.0
_OTHER_S: Final = 0.05


def pytest_configure() -> None:
    """No broker, gateway or browser outlives the run, or the worker, that started it."""
    leash.hold()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files that take long come first: otherwise one worker ends long behind the others."""
    if hasattr(config, "workerinput"):
        seconds: defaultdict[Path, float] = defaultdict(float)
        for item in items:
            seconds[item.path] += _seconds(item)
        items.sort(key=lambda item: -seconds[item.path])


def _seconds(item: pytest.Item) -> float:
    if item.get_closest_marker("slow"):
        return _SLOW_S
    return _KAFKA_S if item.get_closest_marker("kafka") else _OTHER_S


@pytest.fixture(autouse=True)
def _logs_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test sets up of logging ends with it.

    A logger that keeps its set-up from its first line on, as the gateway's do for speed, would not notice: nothing that
    it says reaches the ``capture_logs`` of a later test. So here none keeps it.
    """
    configure = structlog.configure

    def configured(**settings: Any) -> None:
        configure(**settings | {"cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", configured)
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
