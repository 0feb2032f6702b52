"""Repeats of vendor events: the journal stores the first of each id, and says which of the others it had already."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from gateway.errors import JournalUnavailable
from gateway.log import ALL_NEW, Appended, Entry
from gateway.log.journal import EVENTS, Journal, JournalWriter, Retention, batch_format
from gateway.log.journal.batch_format import KnownIds
from gateway.log.journal.storage import Store
from tests.effort import examples

INTERNAL = "retry.billing.30s"
ROOMY = Retention(1 << 30, 3600.0)
#: Few ids, so that most of them come again.
appends = st.lists(
    st.builds(
        Entry,
        topic=st.sampled_from(["sms.dr", "call.event", INTERNAL]),
        key=st.just("k"),
        id=st.integers(0, 25).map(lambda number: f"{number:032x}"),
        value=st.binary(max_size=3),
    ),
    max_size=6,
)
turns = st.lists(appends, min_size=1, max_size=4)
ids = st.integers(0, 40).map(lambda number: number.to_bytes(16, "big"))


def entry(number: int, topic: str = "sms.dr") -> Entry:
    return Entry(topic, "k", f"{number:032x}", b"{}")


def writer_of(journal: Journal) -> JournalWriter:
    assert isinstance(journal.writer, JournalWriter)
    return journal.writer


# -- the window ----------------------------------------------------------------------------------------------------


@given(size=st.integers(1, 10), added=st.lists(st.lists(ids, max_size=20), max_size=6))
def test_window_knows_at_least_the_newest_and_never_more_than_twice_its_size(
    size: int, added: list[list[bytes]]
) -> None:
    known = KnownIds(size)
    for batch in added:
        known.update(batch)
    newest = list(dict.fromkeys(reversed([event_id for batch in added for event_id in batch])))[:size]
    assert all(event_id in known for event_id in newest)
    assert len(known) <= 2 * size
    assert not any(number.to_bytes(16, "big") in known for number in range(50, 60))


def test_window_of_size_0_knows_nothing() -> None:
    known = KnownIds(0)
    known.update([bytes(16)])
    assert bytes(16) not in known
    assert len(known) == 0


# -- the journal against a list ------------------------------------------------------------------------------------


class Commits:
    """The commits of a store, watched: no append of theirs may be answered before they are in the file."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[Appended]] = []
        self.is_failing = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        original = Store.commit

        def commit(store: Store, *arguments: Any) -> dict[str, int]:
            assert not any(future.done() for future in self.waiting)
            if self.is_failing:
                raise JournalUnavailable("no disk") from sqlite3.OperationalError("disk I/O error")
            bases = original(store, *arguments)
            assert not any(future.done() for future in self.waiting)
            return bases

        with patch.object(Store, "commit", commit):
            yield


class KnownIdsModel(RuleBasedStateMachine):
    """``events`` and ``internal`` are what the journal must hold, in order, and nothing else."""

    @initialize(size=st.sampled_from([0, 1, 3, 8, 1000]))
    def open_first(self, size: int) -> None:
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.size = size
        self.events: list[Entry] = []
        self.internal: list[Entry] = []
        self._open()

    def _open(self) -> None:
        self.journal = Journal(self.folder, ROOMY, known_ids=self.size)
        self.runner.run(self.journal.start())
        assert self.journal.known_ids <= min(2 * self.size, len({one.id for one in self.events}))

    @rule(batches=turns)
    def append(self, batches: list[list[Entry]]) -> None:
        """Appends of one turn share a commit, and are answered when it is in the file."""
        commits = Commits()

        async def append() -> list[Appended]:
            commits.waiting = [self.journal.append_soon(batch) for batch in batches]
            with commits.watched():
                return await asyncio.gather(*commits.waiting)

        for batch, appended in zip(batches, self.runner.run(append()), strict=True):
            self._stored(batch, appended)

    @rule(batches=turns)
    def fail(self, batches: list[list[Entry]]) -> None:
        """A commit that fails stores nothing and makes nothing known; without records none is needed."""
        commits = Commits()

        async def append() -> list[Appended | BaseException]:
            commits.is_failing = True
            commits.waiting = [self.journal.append_soon(batch) for batch in batches]
            with commits.watched():
                return await asyncio.gather(*commits.waiting, return_exceptions=True)

        found = self.runner.run(append())
        if any(isinstance(one, BaseException) for one in found):
            assert all(isinstance(one, JournalUnavailable) for one in found)
        else:
            for batch, appended in zip(batches, found, strict=True):
                assert isinstance(appended, Appended)
                assert appended.repeated == set(range(len(batch)))
                self._stored(batch, appended)

    @rule(batches=turns)
    def stop_while_appends_wait(self, batches: list[list[Entry]]) -> None:
        async def append() -> list[Appended]:
            waiting = [self.journal.append_soon(batch) for batch in batches]
            await self.journal.stop()
            return [future.result() for future in waiting]

        for batch, appended in zip(batches, self.runner.run(append()), strict=True):
            self._stored(batch, appended)
        self._open()

    @rule()
    def restart(self) -> None:
        self.runner.run(self.journal.stop())
        self._open()

    def _stored(self, batch: Sequence[Entry], appended: Appended) -> None:
        """Take over what one append has done; exactly what the window must know was a repeat."""
        assert appended.repeated <= set(range(len(batch)))
        for index, one in enumerate(batch):
            is_repeat = index in appended.repeated
            if one.topic == INTERNAL:
                assert not is_repeat
                self.internal.append(one)
                continue
            if is_repeat:
                assert one.id in {other.id for other in self.events}
            else:
                window = self.events[-self.size :] if self.size else []
                assert one.id not in {other.id for other in window}
                self.events.append(one)

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self._holds_exactly())
            self.runner.run(self.journal.stop())
            self.runner.close()
            shutil.rmtree(self.folder)

    async def _holds_exactly(self) -> None:
        for topics, expected in (([], self.events), ([INTERNAL], self.internal)):
            reader = await self.journal.browse("test", topics, start="earliest")
            found: list[Entry] = []
            while records := await reader.fetch(max_records=100, wait_s=0):
                found += [Entry(one.topic, one.key, one.id, one.value, one.headers) for one in records]
            assert expected == found
            await reader.close()


TestKnownIdsModel = KnownIdsModel.TestCase
TestKnownIdsModel.settings = settings(max_examples=examples(20), stateful_step_count=12, deadline=None)


# -- single promises -----------------------------------------------------------------------------------------------


@pytest.fixture
async def journal(tmp_path: Path) -> Any:
    made = Journal(tmp_path, ROOMY, known_ids=100)
    await made.start()
    yield made
    await made.stop()


async def test_the_first_of_each_id_is_stored_and_the_indexes_of_the_others_are_returned(journal: Journal) -> None:
    """Within one append, between appends of one turn, and later."""
    first = journal.append_soon([entry(1), entry(2), entry(1, "call.event")])
    second = journal.append_soon([entry(3), entry(2)])
    assert await first == Appended(frozenset({2}))
    assert await second == Appended(frozenset({1}))
    assert await journal.append([entry(3), entry(4), entry(1)]) == Appended(frozenset({0, 2}))
    assert await journal.append([entry(5)]) is ALL_NEW
    assert [f"{number:032x}" for number in (1, 2, 3, 4, 5)] == [
        event_id.hex() for event_id in writer_of(journal).store.newest_ids(100)
    ]


async def test_a_repeat_of_what_waits_fails_with_it(journal: Journal) -> None:
    """It is not answered with success because the other one was on its way; afterwards either can be stored."""
    commits = Commits()
    commits.is_failing = True
    with commits.watched():
        commits.waiting = [journal.append_soon([entry(1)]), journal.append_soon([entry(1)])]
        found = await asyncio.gather(*commits.waiting, return_exceptions=True)
    assert [JournalUnavailable, JournalUnavailable] == [type(one) for one in found]
    assert journal.head(EVENTS) == 0
    assert await journal.append([entry(1)]) is ALL_NEW
    assert await journal.append([entry(1)]) == Appended(frozenset({0}))
    assert journal.head(EVENTS) == 1


async def test_a_caller_that_goes_away_takes_its_records_from_nobody(journal: Journal) -> None:
    """They are stored and known all the same: others of the turn may repeat them."""
    gone, stays = journal.append_soon([entry(1)]), journal.append_soon([entry(1)])
    gone.cancel()
    assert await stays == Appended(frozenset({0}))
    assert journal.head(EVENTS) == 1


async def test_followers_hear_of_stored_records_only(journal: Journal) -> None:
    reader = await journal.browse("test", [])
    await journal.append([entry(1), entry(1), entry(2), entry(1, INTERNAL), entry(1, INTERNAL)])
    await journal.append([entry(2)])
    assert [1, 2] == [int(record.id, 16) for record in await reader.fetch(max_records=10, wait_s=0)]
    assert (2, 2) == (journal.head(EVENTS), journal.head(INTERNAL))


async def test_a_turn_of_repeats_needs_no_commit(journal: Journal) -> None:
    """A disk that is full does not refuse what it holds already."""
    await journal.append([entry(1)])
    commits = Commits()
    commits.is_failing = True
    with commits.watched():
        assert await journal.append([entry(1)]) == Appended(frozenset({0}))


async def test_a_repeat_does_not_hide_that_commits_fail(journal: Journal) -> None:
    """Nor do positions that were stored: not ready until records can be stored again."""
    await journal.append([entry(1)])
    commits = Commits()
    commits.is_failing = True
    with commits.watched():
        with pytest.raises(JournalUnavailable):
            await journal.append([entry(2)])
        await journal.append([entry(1)])
        await journal.append([])
        assert journal.last_failure
    journal.note_cursor("test", EVENTS, 1)
    await journal.flush()
    assert journal.last_failure
    await journal.append([entry(2)])
    assert not journal.last_failure


async def test_bytes_that_are_no_records_put_nothing_in(journal: Journal) -> None:
    """Whole records before the place where they end, or a topic that is no text: all or none."""
    good = batch_format.encode(entry(1))
    bad = batch_format.encode(entry(2)).replace(b"sms.dr", b"\xff\xfe.dr.")
    for records in (good + good[:-1], good + good[:7], good + bad):
        with pytest.raises(ValueError, match=r"bytes end within|can't decode"):
            journal.writer.append(records)
    await journal.flush()
    assert journal.head(EVENTS) == 0
    assert await journal.append([entry(1)]) is ALL_NEW
