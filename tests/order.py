"""Which tests go to which worker of a run, and in which order, so that all end together.

The tests of a file stay together: they may share fixtures of the module. Those of :data:`SPREAD` take long, share
nothing but what a worker has for its session, and go to whichever worker is free. Those of :data:`NODES` share nodes of
Kafka with each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import pytest
from xdist.scheduler import LoadScopeScheduling

#: Files whose tests are not kept together.
SPREAD: Final = frozenset(
    {
        "tests/benchmarks/test_smoke.py",
        "tests/fuzz/test_fuzz.py",
        "tests/gateway/test_processes.py",
        "tests/hostile/test_work.py",
        "tests/lossproof/test_broken_builds.py",
        "tests/lossproof/test_lossproof.py",
    }
)
#: Files whose tests use nodes of Kafka in turn, all in one worker; by what they are known there.
NODES: Final = dict.fromkeys(
    (
        "tests/kafka/test_check.py",
        "tests/kafka/test_check_needs.py",
        "tests/kafka/test_cursors.py",
        "tests/kafka/test_errors.py",
        "tests/kafka/test_failover.py",
        "tests/kafka/test_security.py",
        "tests/kafka/test_stuck_topics.py",
    ),
    "nodes of Kafka",
)
#: The fixtures of these nodes, which end with the last test that asks for them: such tests come one after the other.
_IN_TURN: Final = ("three_nodes", "secure_kafka")
#: Seconds that a test takes, about, by its marks and by the fixtures that start processes: enough for an order.
_SLOW_S: Final = 20.0
_FIXTURES_S: Final = {"broker": 8.0, "small_broker": 8.0, "three_nodes": 5.0, "gateway": 3.0, "page": 3.0, "kafka": 1.0}
_KAFKA_S: Final = 2.0
#: One of many rows (:mod:`tests.rows`) or examples.
_MANY_S: Final = 1.0
_OTHER_S: Final = 0.05


class Together(LoadScopeScheduling):
    """Hand out what :func:`together` says, in the order of the collection."""

    def _split_scope(self, nodeid: str) -> str:
        return together(nodeid)


def together(nodeid: str) -> str:
    """Return what a test has in common with those that must run in the same worker: its file, nodes, or nothing."""
    path = nodeid.partition("::")[0]
    return nodeid if path in SPREAD else NODES.get(path, path)


def longest_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the tests with those first that stay together and take longest: what comes last must be short."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for item in items:
        seconds[together(item.nodeid)] += _seconds(item)
    return sorted(items, key=lambda item: (-seconds[together(item.nodeid)], _turn(item)))


def _turn(item: pytest.Item) -> int:
    fixtures: Sequence[str] = getattr(item, "fixturenames", ())
    return next((turn for turn, name in enumerate(_IN_TURN) if name in fixtures), len(_IN_TURN))


def _seconds(item: pytest.Item) -> float:
    if item.get_closest_marker("slow"):
        return _SLOW_S
    fixtures: Sequence[str] = getattr(item, "fixturenames", ())
    test = getattr(item, "obj", None)
    is_many = hasattr(test, "__wrapped__") or getattr(test, "is_hypothesis_test", False)
    least = _KAFKA_S if item.get_closest_marker("kafka") else _MANY_S if is_many else _OTHER_S
    return max(least, *(_FIXTURES_S.get(name, 0.0) for name in fixtures), 0.0)
