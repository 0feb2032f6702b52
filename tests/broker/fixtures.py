"""pytest fixtures of Kafka, for all tests: the ``conftest.py`` at the top imports them.

Nodes cost: two seconds of processor time to start, some percent of a processor while they idle. So the plain one is
the whole run's (:mod:`tests.broker.shared`), and those that several tests share end with the last of these. Their
tests are in the files of :data:`tests.order.NODES`, which go to one worker.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count

import pytest

from tests.broker import assembly, cluster, shared
from tests.broker.cluster import Cluster
from tests.components import missing

_NUMBERS = count(1)


def make(
    nodes: int = 1, *, secure: bool = False, extra: dict[str, str] | None = None, is_started: bool = True
) -> Cluster:
    """A cluster for a fixture; without Java and Maven the test skips, on CI it fails."""
    try:
        made = cluster.create(nodes, secure=secure, extra=extra)
    except assembly.KafkaMissing as exc:
        missing("Kafka", install=str(exc))
    if is_started:
        made.start()
    return made


@pytest.fixture(scope="session")
def kafka() -> str:
    """Bootstrap address of one plain node for the whole run (or of ``KAFKA_BOOTSTRAP_SERVERS``)."""
    if named := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        return named
    try:
        return shared.bootstrap()
    except assembly.KafkaMissing as exc:
        missing("Kafka", install=str(exc))


@pytest.fixture
def broker() -> Iterator[Cluster]:
    """One node of this test's own, to be killed, suspended and restarted."""
    made = make()
    yield made
    made.remove()


@pytest.fixture
def small_broker() -> Iterator[Cluster]:
    """One node that takes batches of at most 64 KiB."""
    made = make(extra={"message.max.bytes": "65536"})
    yield made
    made.remove()


@pytest.fixture
def three_nodes(request: pytest.FixtureRequest, _three_nodes: Cluster) -> Iterator[Cluster]:
    """Three nodes, replication 3, two in sync needed. A test leaves them running."""
    yield from _to_the_last(request, _three_nodes)


@pytest.fixture
def secure_kafka(request: pytest.FixtureRequest, _secure_kafka: Cluster) -> Iterator[Cluster]:
    """One node with a listener that asks for TLS and SASL, and an authorizer. A test leaves it running."""
    yield from _to_the_last(request, _secure_kafka)


def _to_the_last(request: pytest.FixtureRequest, made: Cluster) -> Iterator[Cluster]:
    """Lend a cluster of the session, and end it with the last test that asks for it."""
    assert request.fixturename is not None
    yield made
    users = (item for item in reversed(request.session.items) if isinstance(item, pytest.Function))
    if request.node is next(item for item in users if request.fixturename in item.fixturenames):
        made.remove()


@pytest.fixture(scope="session")
def _three_nodes() -> Iterator[Cluster]:
    made = make(3)
    yield made
    made.remove()


@pytest.fixture(scope="session")
def _secure_kafka() -> Iterator[Cluster]:
    made = make(secure=True)
    yield made
    made.remove()


@pytest.fixture
def prefix() -> str:
    """A topic prefix of this test's own, so that tests share a broker and no topics."""
    return f"t{os.getpid()}-{next(_NUMBERS)}."
