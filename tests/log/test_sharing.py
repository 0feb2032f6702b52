"""The contract of :mod:`tests.log.sharing`, kept by the journal, in this process and behind the link."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.log import EventLog
from gateway.log.journal import Journal, JournalWriter, Retention
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


@pytest.fixture(params=["journal", "link"])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SharingSubject]:
    made: JournalSubject | LinkSubject = {"journal": JournalSubject, "link": LinkSubject}[request.param](tmp_path)
    yield made
    await made.close()


class TestSharing(SharingContract):
    """Every promise, on every implementation."""
