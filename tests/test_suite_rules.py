"""What keeps the tests quick and honest: they do not sleep, do not reach into what they test, and are few items."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from typing import Final

import pytest

from tests.syntax import trees

#: Places where time passes because a test is about that. The number may only become smaller.
_MOST_PAUSES: Final = 92
#: Items of one test function. More rows are a table, see :mod:`tests.rows`: an item costs ten milliseconds a worker.
_MOST_ITEMS: Final = 50

#: Names that begin with an underscore and are an interface all the same: those of named tuples.
_PUBLIC: Final = frozenset({"_replace", "_asdict", "_fields", "_make"})
#: How many private names of what it tests a file uses, by reason. A number may only become smaller.
PRIVATE: Final = {
    "breaks the gateway at chosen places: the proof is worth what it can refute": {
        "lossproof/hooks/sitecustomize.py": 11,
    },
    "pauses a socket, or looks at who is connected: no interface has a use for it": {
        "ingest/test_pipelined.py": 3,
        "log/test_link.py": 16,
    },
    "makes a bound small, so that it is met with little data": {
        "fanout/test_filters.py": 8,
        "ingest/test_unknown_paths.py": 3,
        "kafka/test_membership.py": 5,
    },
    "replaces the answer of Kafka, or counts the questions, at the one place that asks": {
        "kafka/test_books.py": 9,
        "kafka/test_cursor_placement.py": 6,
        "kafka/test_cursors.py": 10,
        "kafka/test_reading_outages.py": 2,
        "kafka/test_transactions.py": 2,
    },
    "ends a client of Kafka as a crash does, or waits for its metadata: aiokafka has no call for it": {
        "kafka/surgery.py": 2,
        "kafka/test_gaps.py": 2,
        "kafka/test_group_reader.py": 11,
        "kafka/test_group_topics.py": 1,
        "kafka/test_parting.py": 2,
        "kafka/test_standalone_reader.py": 1,
        "kafka/test_stuck_topics.py": 4,
        "kafka/traffic.py": 2,
        "kafka/test_codecs.py": 1,
        "lossproof/stored.py": 1,
    },
    "reads the value of a metric's child, for which prometheus-client has no call": {
        "kafka/test_errors.py": 4,
        "kafka/test_recreated_topics.py": 2,
        "log/journal/test_expiry.py": 3,
        "log/test_gaps.py": 1,
    },
    "documents what a file format holds": {"docs/test_internals.py": 3},
    "takes what belongs to another module of the tests": {"fuzz/seeds.py": 1, "lossproof/test_gaps.py": 2},
    "to be rewritten: drives a part of a component, where its interface would do": {
        "admin/running.py": 2,
        "admin/test_api.py": 1,
        "admin/test_lags.py": 1,
        "capacity/test_measure.py": 1,
        "cli/test_traffic_end_to_end.py": 2,
        "fanout/test_subscriptions.py": 4,
        "fanout/test_reader_stops.py": 5,
        "fanout/test_retry_topics.py": 1,
        "fanout/test_revocation.py": 2,
        "gateway/test_all_processes.py": 1,
        "gateway/test_life.py": 1,
        "ingest/test_fast_path.py": 3,
        "kafka/test_options.py": 1,
        "kafka/test_publisher.py": 2,
        "log/journal/test_journal.py": 1,
        "log/journal/test_rows.py": 1,
        "publisher/test_topic_cursor.py": 2,
        "search/test_index.py": 2,
        "search/test_key_fields.py": 2,
        "search/test_keys.py": 1,
        "search/test_search.py": 5,
    },
}


def calls(tree: ast.AST) -> Iterator[str]:
    """Yield the last name of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield _name(node.func)


def _name(called: ast.expr) -> str:
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def test_nothing_sleeps_by_itself() -> None:
    """What is waited for is a signal or :func:`tests.waiting.until`; where time is the scenario, ``pause`` says why."""
    assert ["tests/waiting.py"] == [path for path, tree in trees("tests").items() if "sleep" in calls(tree)]


def test_pauses_become_fewer() -> None:
    """Whoever takes one away lowers the number."""
    counted = {"pause", "hold_up"}  # as functions: a gateway's subscribers can be paused, too
    nodes = (node for tree in trees("tests").values() for node in ast.walk(tree))
    count = sum(isinstance(node, ast.Call) and getattr(node.func, "id", "") in counted for node in nodes)
    assert count <= _MOST_PAUSES


def test_no_test_is_many_items(request: pytest.FixtureRequest) -> None:
    """Of those that this run collected."""
    counts = Counter(item.nodeid.partition("[")[0] for item in request.session.items)
    assert [] == [f"{name}: {count}" for name, count in counts.items() if count > _MOST_ITEMS]


def private_names(tree: ast.AST) -> Iterator[str]:
    """Yield each use of a private name that is of another file: read, assigned, imported or patched."""
    own = {
        name
        for node in ast.walk(tree)
        for name in (
            node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) else None,
            node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else None,
            node.attr if isinstance(node, ast.Attribute) and _is_of_itself(node) else None,
        )
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Attribute) and not _is_of_itself(node) and node.attr not in own:
            names = [node.attr]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gateway"):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Call) and _name(node.func) == "setattr":
            names = [str(one.value) for one in node.args[1:2] if isinstance(one, ast.Constant)]
        yield from (name for name in names if name[:1] == "_" and name[:2] != "__" and name not in _PUBLIC)


def _is_of_itself(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def test_tests_use_interfaces() -> None:
    """A test that drives a private attribute holds the code to how it is done, not to what it promises."""
    allowed = Counter({path: count for files in PRIVATE.values() for path, count in files.items()})
    found = {path.removeprefix("tests/"): list(private_names(tree)) for path, tree in trees("tests").items()}
    assert {} == {path: names for path, names in found.items() if len(names) > allowed[path]}
    assert set() == allowed.keys() - found.keys(), "files that are no more"


def test_uses_of_private_names_are_found() -> None:
    """Each way; not those of a file's own classes."""
    text = "from gateway.log import _a\none._b = two._c\npatch.setattr(x, '_d', 1)\nself._e = y._e\nz._replace()\n"
    assert ["_a", "_b", "_c", "_d"] == sorted(private_names(ast.parse(text)))
