"""The journal against a plain list: any sequence of append, read, commit, seek, trim, restart and crash."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.log import Entry, Record
from gateway.log.journal import EVENTS, Journal, JournalReader, Retention
from tests.effort import examples

TOPICS = ("sms.dr", "call.event", "retry.billing.30s")
WANTED = ("sms.dr", "call.event")
GROUPS = ("billing", "audit")
entries = st.lists(
    st.builds(
        Entry,
        topic=st.sampled_from(TOPICS),
        key=st.text(max_size=8).filter(lambda text: text.isprintable()),
        id=st.integers(0, 2**128 - 1).map(lambda number: f"{number:032x}"),
        value=st.binary(max_size=300),
        headers=st.sampled_from([(), (("attempts", "3"), ("why", "é"))]),
    ),
    min_size=1,
    max_size=6,
)


class JournalModel(RuleBasedStateMachine):
    """``stored`` is the truth by stream; positions are what a plain reader of these lists would have."""

    @initialize()
    def open_first(self) -> None:
        self.runner = asyncio.Runner()
        self.root = Path(tempfile.mkdtemp())
        self.generation = 0
        self.now = 1_700_000_000.0
        self.folder = self.root / "0"
        self.stored: dict[str, list[Entry]] = {EVENTS: [], "retry.billing.30s": []}
        self.times: list[float] = []
        self.fetched = dict.fromkeys(GROUPS, 0)
        self.committed = dict.fromkeys(GROUPS, 0)
        self.durable = dict.fromkeys(GROUPS, 0)
        self.floor = 0
        self.journal: Journal
        self.readers: dict[str, JournalReader] = {}
        self._open()

    def _open(self) -> None:
        async def start() -> None:
            self.journal = Journal(self.folder, Retention(1 << 30, 3600.0), clock=lambda: self.now)
            await self.journal.start()
            for group in GROUPS:
                placed = await self.journal.cursors.load(group, WANTED, [EVENTS], start="earliest")
                begins = {name: one.offset for name, one in placed.items()}
                self.readers[group] = await self.journal.browse(group, WANTED, positions=begins)

        self.runner.run(start())
        for group in GROUPS:
            self.fetched[group] = max(self.readers[group].position, self.floor)

    @rule(batches=st.lists(entries, min_size=1, max_size=3))
    def append(self, batches: list[list[Entry]]) -> None:
        """Batches appended at once share a commit and keep their order."""

        async def append_all() -> None:
            await asyncio.gather(*(self.journal.append(batch) for batch in batches))

        self.runner.run(append_all())
        for batch in batches:
            for entry in batch:
                stream = EVENTS if not entry.topic.startswith("retry.") else entry.topic
                self.stored[stream].append(entry)
                if stream == EVENTS:
                    self.times.append(self.now)

    @rule(group=st.sampled_from(GROUPS), limit=st.integers(1, 7))
    def fetch(self, group: str, limit: int) -> None:
        """A reader gets what the list holds from its position on, whole and in order."""
        records = self.runner.run(self.readers[group].fetch(max_records=limit, wait_s=0))
        start = max(self.fetched[group], self.floor)
        for record in records:
            assert self._entry(record) == self.stored[EVENTS][record.offset]
        offsets = [record.offset for record in records]
        assert list(range(start, start + len(offsets))) == offsets
        if start < len(self.stored[EVENTS]):
            assert offsets, "there is something to read"
        self.fetched[group] = start + len(offsets)

    @rule(group=st.sampled_from(GROUPS), share=st.floats(0, 1))
    def commit(self, group: str, share: float) -> None:
        low = self.committed[group]
        offset = low + round(max(0, self.fetched[group] - low) * share)

        async def commit_one() -> None:
            self.journal.cursors.commit(group, EVENTS, offset)

        self.runner.run(commit_one())
        self.committed[group] = max(low, offset)

    @rule()
    def flush(self) -> None:
        self.runner.run(self.journal.cursors.flush())
        self.durable = dict(self.committed)

    @rule(group=st.sampled_from(GROUPS), share=st.floats(0, 1))
    def seek(self, group: str, share: float) -> None:
        target = round(len(self.stored[EVENTS]) * share)
        self.runner.run(self.readers[group].seek(EVENTS, target))
        self.fetched[group] = max(target, self.floor)

    @rule(ago=st.sampled_from([0.0, 10.0, 1000.0]))
    def seek_to_time(self, ago: float) -> None:
        moment = self.now - ago
        expected = next((n for n, at in enumerate(self.times) if at >= moment), len(self.times))
        found = self.runner.run(self.journal.file.offset_at(EVENTS, moment))
        assert max(expected, self.floor) == max(found, self.floor)

    @rule(by=st.sampled_from([1.0, 20.0, 5000.0]))
    def time_passes(self, by: float) -> None:
        """Retention drops from the old end only, never what is young, and readers go on behind it."""
        self.now += by
        self.runner.run(self.journal.writer.housekeep())
        floor = self.journal.floor(EVENTS)
        assert floor >= self.floor
        young = next((n for n, at in enumerate(self.times) if at >= self.now - 3600.0), len(self.times))
        assert floor <= young
        self.floor = floor

    @rule()
    def restart(self) -> None:
        self.runner.run(self.journal.stop())
        self.durable = dict(self.committed)
        self._reopen()

    @rule()
    def crash(self) -> None:
        """What a killed process leaves is the files as they are: all that was answered, none of what was not."""
        self.generation += 1
        copy = self.root / str(self.generation)
        shutil.copytree(self.folder, copy)
        self.runner.run(self.journal.stop())
        self.folder = copy
        self._reopen()

    def _reopen(self) -> None:
        self._open()
        for group in GROUPS:
            position = self.readers[group].position
            assert self.durable[group] <= max(position, self.floor) <= max(self.committed[group], self.floor)
            self.committed[group] = self.durable[group] = max(position, self.durable[group])
            self.fetched[group] = max(position, self.floor)

    @precondition(lambda self: hasattr(self, "journal"))
    @invariant()
    def nothing_is_lost_or_invented(self) -> None:
        assert len(self.stored[EVENTS]) == self.journal.head(EVENTS)
        assert len(self.stored["retry.billing.30s"]) == self.journal.head("retry.billing.30s")

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self.journal.stop())
            self.runner.close()
            shutil.rmtree(self.root)

    @staticmethod
    def _entry(record: Record) -> Entry:
        return Entry(record.topic, record.key, record.id, record.value, record.headers)


TestJournalModel = JournalModel.TestCase
TestJournalModel.settings = settings(max_examples=examples(30), stateful_step_count=30, deadline=None)
