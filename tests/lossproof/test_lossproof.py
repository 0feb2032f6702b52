"""The loss proof in the size of CI: some cycles of each kind. ``python -m tests.lossproof`` plays everything."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.components import missing
from tests.effort import IS_NIGHTLY
from tests.lossproof.plan import Play
from tests.lossproof.report import table
from tests.lossproof.roles import Mode
from tests.lossproof.run import play
from tests.lossproof.shim import compiler

#: Cycles of a short run: as many as meet the scenario's most different faults. Nightly, each fault is met.
EMBEDDED = [("kill", 2), ("reconnect", 2), ("points", 2), ("backlog", 1), ("term", 1), ("torn", 2), ("fsync", 1),
            ("disk-full", 1), ("flip", 2), ("clock", 1), ("files", 1), ("subscribers", 1), ("reload", 1), ("folder", 1),
            ("newcomers-disk", 1)]  # fmt: skip
BROKER: list[tuple[str, Mode, int]] = [
    ("outage", "kafka", 1),
    ("kill", "split", 1),
    ("expired", "split", 1),
    ("recreated", "kafka", 1),
    ("newcomers", "kafka", 1),
]
NEEDS_SHIM = {"newcomers-disk", "torn", "fsync", "disk-full", "clock"}


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("name", "cycles"), EMBEDDED)
async def test_what_was_answered_with_success_arrives(name: str, cycles: int) -> None:
    """Without a broker: nothing lost, invented or out of order whatever breaks; repeats are counted."""
    if name in NEEDS_SHIM and compiler() is None:
        missing("a C compiler for the failing disk", install="apt-get install gcc")
    row = await play(_play(name, "embedded", cycles))
    print(table([row]))
    assert row.is_clean, table([row])
    assert row.verdict.accepted > 100


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(240)
@pytest.mark.skipif(not (shutil.which("java") and shutil.which("mvn")) and not os.environ.get("CI"),
                    reason="needs Java 17 and Maven")  # fmt: skip
@pytest.mark.parametrize(("name", "mode", "cycles"), BROKER)
async def test_what_was_answered_with_success_arrives_through_kafka(name: str, mode: Mode, cycles: int) -> None:
    """With a broker, by ``gateway run``, and by ``serve`` and ``fanout``."""
    row = await play(_play(name, mode, cycles))
    print(table([row]))
    assert row.is_clean, table([row])
    assert row.verdict.accepted > 100


def _play(name: str, mode: Mode, cycles: int) -> Play:
    """Some cycles; nightly, as many as make each of the scenario's faults."""
    return Play(name, mode, is_whole=True) if IS_NIGHTLY else Play(name, mode, cycles)
