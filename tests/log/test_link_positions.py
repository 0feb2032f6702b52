"""Positions that go to the log process, and a file that is another one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from gateway.errors import JournalUnavailable
from gateway.link import LogClient
from gateway.log.journal import EVENTS
from gateway.log.journal.following import Positions, Writer
from gateway.log.journal.journal import JournalCursors
from tests.log.test_link import entry, linked
from tests.waiting import turn, until


async def test_another_file_in_its_place_is_noticed(tmp_path: Path) -> None:
    """What this process knows of offsets and positions is not of that file."""
    replaced: list[str] = []
    async with linked(tmp_path, on_replaced=replaced.append) as made:
        await made.journal.append([entry(1)])
        await made.stop_log()
        for path in list(tmp_path.glob("journal.sqlite*")):  # noqa: ASYNC240
            path.rename(tmp_path / f"old-{path.name}")
        await made.start_log()
        await until(lambda: replaced, within_s=10)
        assert str(tmp_path) in replaced[0]


async def test_a_position_that_could_not_be_stored_does_not_replace_a_newer_one(tmp_path: Path) -> None:
    """Its answer may come after that of a position that was sent behind it."""
    async with linked(tmp_path) as made:
        late: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        cursors = JournalCursors(made.journal, cast("Writer", _Late(made.client, late)))
        cursors.note("any", EVENTS, 10)
        older = cursors.save()
        cursors.note("any", EVENTS, 20)
        await cursors.save()
        late.set_exception(JournalUnavailable("it has not answered"))
        with pytest.raises(JournalUnavailable):
            await older
        await cursors.save()
        assert made.writer.store.cursors()["any", EVENTS] == 20


class _Late:
    """A writer whose first answer comes late."""

    def __init__(self, writer: LogClient, late: asyncio.Future[None]) -> None:
        self._writer = writer
        self._late = [late]

    def note(self, positions: Positions) -> asyncio.Future[None]:
        return self._late.pop() if self._late else self._writer.note(positions)


async def test_positions_in_a_file_do_not_go_to_another_in_its_place(tmp_path: Path) -> None:
    """Neither those that are on their way, nor those to come: what is at these offsets there was never read."""
    replaced = asyncio.Event()
    async with linked(tmp_path, on_replaced=lambda _: replaced.set()) as made:
        await made.journal.append([entry(number) for number in range(50)])
        await made.journal.cursors.load("any", ["sms.dr"], [EVENTS], start="earliest")
        await made.journal.flush()
        await made.stop_log()
        for path in list(tmp_path.glob("journal.sqlite*")):  # noqa: ASYNC240
            path.rename(tmp_path / f"old-{path.name}")
        made.journal.cursors.commit("any", EVENTS, 30)
        asked = asyncio.create_task(made.journal.flush())
        await turn()
        await made.start_log()
        await replaced.wait()
        made.journal.cursors.commit("any", EVENTS, 40)
        with pytest.raises(JournalUnavailable, match="replaced"):
            await asked
        with pytest.raises(JournalUnavailable, match="replaced"):
            await made.journal.flush()
        await made.journal.stop()
        assert made.writer.store.cursors() == {}


async def test_positions_outlast_a_log_process(tmp_path: Path) -> None:
    """What was on its way when it died goes to the next."""
    async with linked(tmp_path) as made:
        await made.journal.append([entry(number) for number in range(5)])
        await made.journal.cursors.load("any", ["sms.dr"], [EVENTS], start="earliest")
        await made.stop_log()
        made.journal.cursors.commit("any", EVENTS, 4)
        await made.start_log()
        await made.journal.flush()
        assert made.writer.store.cursors()["any", EVENTS] == 4
