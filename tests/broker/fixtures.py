"""pytest fixtures: import them into the ``conftest.py`` of a folder whose tests need Kafka."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count

import pytest

from tests.broker import assembly, cluster
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
def kafka() -> Iterator[str]:
    """Bootstrap address of one plain node for the whole session (or of ``KAFKA_BOOTSTRAP_SERVERS``)."""
    if named := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield named
        return
    made = make()
    yield made.bootstrap
    made.remove()


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


@pytest.fixture(scope="module")
def three_nodes() -> Iterator[Cluster]:
    """Three nodes, replication 3, two in sync needed. A test leaves them running."""
    made = make(3)
    yield made
    made.remove()


@pytest.fixture(scope="session")
def secure_kafka() -> Iterator[Cluster]:
    """One node with a listener that asks for TLS and SASL, and an authorizer."""
    made = make(secure=True)
    yield made
    made.remove()


@pytest.fixture
def prefix() -> str:
    """A topic prefix of this test's own, so that tests share a broker and no topics."""
    return f"t{os.getpid()}-{next(_NUMBERS)}."
