"""The contract of :mod:`tests.log.contract`, kept by the journal and by Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.log import EventLog
from gateway.log.journal import Journal, Retention
from gateway.log.kafka import KafkaLog, KafkaOptions
from tests.log.contract import EventLogContract, Subject
from tests.log.linked import Linked

_DAY_S = 86_400.0


class JournalSubject:
    """The journal in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: Journal | None = None

    async def open(self) -> EventLog:
        self._open = Journal(self._folder, Retention(max_bytes=2**30, max_age_s=_DAY_S))
        await self._open.start()
        return self._open

    async def close(self) -> None:
        if self._open is not None:
            await self._open.stop()


class LinkSubject:
    """The journal in a folder, its writer behind the link."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: Linked | None = None

    async def open(self) -> EventLog:
        self._open = Linked(self._folder)
        await self._open.start()
        return self._open.journal

    async def close(self) -> None:
        if self._open is not None:
            await self._open.stop()


class KafkaSubject:
    """Topics of this test's own on a real broker."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._options = KafkaOptions((bootstrap,), prefix=prefix, partitions=3)
        self._open: KafkaLog | None = None

    async def open(self) -> EventLog:
        self._open = KafkaLog(self._options)
        await self._open.start()
        return self._open

    async def close(self) -> None:
        if self._open is not None:
            await self._open.stop()


@pytest.fixture(params=["journal", "link", pytest.param("kafka", marks=pytest.mark.kafka)])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    made: JournalSubject | LinkSubject | KafkaSubject
    if request.param == "journal":
        made = JournalSubject(tmp_path)
    elif request.param == "link":
        made = LinkSubject(tmp_path)
    else:
        made = KafkaSubject(request.getfixturevalue("kafka"), request.getfixturevalue("prefix"))
    yield made
    await made.close()


class TestContract(EventLogContract):
    """Every promise, on every implementation."""
