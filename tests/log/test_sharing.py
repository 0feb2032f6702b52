"""The contract of :mod:`tests.log.sharing`, kept by the journal, in this process and behind the link, and by Kafka."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.log import EventLog
from gateway.log.journal import Journal, JournalWriter, Retention
from gateway.log.kafka import KafkaLog, KafkaOptions
from tests.kafka.surgery import delete_records
from tests.log.linked import Linked
from tests.log.sharing import SharingContract, SharingSubject

_DAY_S = 86_400.0
_RETENTION = Retention(1 << 30, _DAY_S)


class _Aging:
    """A clock for a journal that keeps a day."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> float:
        return time.time() + self.ahead_s


class JournalSubject:
    """The journal in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._clock = _Aging()
        self._open: Journal | None = None

    async def open(self) -> EventLog:
        self._open = Journal(self._folder, _RETENTION, clock=self._clock.now)
        await self._open.start()
        return self._open

    async def close(self) -> None:
        if self._open is not None:
            await self._open.stop()

    async def expire(self, topic: str) -> None:
        assert self._open is not None
        assert isinstance(self._open.writer, JournalWriter)
        self._clock.ahead_s += 2 * _DAY_S
        await self._open.writer.housekeep()


class LinkSubject:
    """The journal in a folder, its writer behind the link."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._clock = _Aging()
        self._open: Linked | None = None

    async def open(self) -> EventLog:
        self._open = Linked(self._folder, _RETENTION, clock=self._clock.now)
        await self._open.start()
        return self._open.journal

    async def close(self) -> None:
        if self._open is not None:
            await self._open.stop()

    async def expire(self, topic: str) -> None:
        assert self._open is not None
        self._clock.ahead_s += 2 * _DAY_S
        await self._open.writer.housekeep()
        await self._open.journal.sync()


class KafkaSubject:
    """Topics of this test's own on a real broker."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._options = KafkaOptions((bootstrap,), prefix=prefix, partitions=3, instance_id="contract")
        self._open: KafkaLog | None = None

    async def open(self) -> EventLog:
        self._open = KafkaLog(self._options)
        await self._open.start()
        return self._open

    async def close(self) -> None:
        if self._open is not None:
            await self._open.stop()

    async def expire(self, topic: str) -> None:
        assert self._open is not None
        reader = await self._open.browse("ends", [topic])
        for name, end in (await reader.ends()).items():
            await delete_records(self._options, topic, int(name.rpartition("-")[2]), end)
        await reader.close()


@pytest.fixture(params=["journal", "link", pytest.param("kafka", marks=pytest.mark.kafka)])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SharingSubject]:
    made: JournalSubject | LinkSubject | KafkaSubject
    if request.param == "kafka":
        made = KafkaSubject(request.getfixturevalue("kafka"), request.getfixturevalue("prefix"))
    else:
        made = {"journal": JournalSubject, "link": LinkSubject}[request.param](tmp_path)
    yield made
    await made.close()


class TestSharing(SharingContract):
    """Every promise, on every implementation."""
