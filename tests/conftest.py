"""What a run that several workers share needs: an order, no clocks in properties, and no log set up by another test."""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests import leash
from tests.broker import shared
from tests.broker.fixtures import (
    _secure_kafka,
    _three_nodes,
    broker,
    kafka,
    prefix,
    secure_kafka,
    small_broker,
    three_nodes,
)
from tests.effort import EXAMPLES, IS_NIGHTLY
from tests.gateway import forked
from tests.order import Together, longest_first

__all__ = [
    "_secure_kafka",
    "_three_nodes",
    "broker",
    "kafka",
    "prefix",
    "secure_kafka",
    "small_broker",
    "three_nodes",
]

# How long one example takes says how busy the machine is; what may cost too much has a test that says so.
settings.register_profile("short", max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", settings.get_profile("short"), derandomize=False)
settings.load_profile("nightly" if IS_NIGHTLY else "short")

#: For one test of a nightly run.
_NIGHTLY_S = 7200
#: Times the time-out of a test.
_ON_CI = 3


class BrokenModules:
    """A module that cannot be imported ends a run of several workers at once, and not when all others have run.

    Without workers, pytest itself does not begin.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._plugins = config.pluginmanager

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A worker could not collect something."""
        session = self._plugins.get_plugin("dsession")
        if session is not None and report.failed:
            session.shouldstop = f"{report.nodeid} cannot be collected"


def pytest_configure(config: pytest.Config) -> None:
    """No broker, gateway or browser outlives the run, or the worker, that started it."""
    config.pluginmanager.register(BrokenModules(config))
    leash.hold()
    config.add_cleanup(shared.offer())
    forked.is_wanted = sys.platform == "linux" and not IS_NIGHTLY


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Of several workers one collects first: it compiles, once, what all import."""
    if not hasattr(session.config, "workerinput"):
        return (yield)
    with (shared.folder() / "collecting").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(lock, fcntl.LOCK_SH)
        return (yield)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where workers share the run, what takes long comes first: otherwise one ends long behind the others.

    Time-outs are for the short run on a machine of a developer. What a nightly one does in a single test may take an
    hour; the two processors of CI may be slow ones.
    """
    for item in items if IS_NIGHTLY or os.environ.get("CI") else ():
        named = item.get_closest_marker("timeout")
        seconds = named.args[0] if named else float(config.getini("timeout"))
        item.add_marker(pytest.mark.timeout(_NIGHTLY_S if IS_NIGHTLY else _ON_CI * seconds), append=False)
    if hasattr(config, "workerinput"):
        items[:] = longest_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together | None:
    """With ``--dist loadfile``, the files of :data:`tests.order.SPREAD` are not kept together."""
    return Together(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_finish() -> None:
    """What was collected stays to the end: no collection of garbage looks through all of it again."""
    gc.freeze()


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
