"""The log: an ordered, durable sequence of events, and readers with cursors of their own.

Two logs stand behind one interface: :mod:`gateway.log.journal` (a folder on local disk, nothing to install)
and :mod:`gateway.log.kafka` (consumer groups, any number of processes). Fan-out, replay and look-ups are
written against the interface only; one contract suite runs on both.

A *partition* is a sequence with one order. The journal has one for all events (``events``) and one for each
internal topic (``retry.<subscriber>.<delay>``, ``dlq.<subscriber>``); Kafka has ``<topic>-<number>``.
An *offset* counts records in a partition from 0 and never comes back, whatever was trimmed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final, Literal, NamedTuple, Protocol

Headers = tuple[tuple[str, str], ...]
Start = Literal["earliest", "latest"]


class Begin(NamedTuple):
    """Where a name begins in a topic in which the log has no position of it.

    Args:
        since: with the first record appended at or after this time (Unix seconds); 0: with the first record.
        incarnation: of the topic that the name has read, see :meth:`LogReader.incarnations`; empty: of none yet.
    """

    since: float
    incarnation: str = ""


#: By topic.
Begins = Mapping[str, Begin]


class Entry(NamedTuple):
    """A record to be appended. A named tuple, as one is made for every event on the hot path.

    Args:
        topic: family or internal topic, without the configured prefix.
        key: the event's ``partitionkey``; records of one key keep their order.
        id: the event's id, 32 hex digits.
        value: the event's bytes, kept exactly.
        headers: what travels beside the event, such as the attempts of a parked one.
    """

    topic: str
    key: str
    id: str
    value: bytes
    headers: Headers = ()


class Appended(NamedTuple):
    """What became of entries that were appended; all of them are durable.

    Args:
        repeated: indexes of those whose ids the log had already: they were not stored again.
    """

    repeated: frozenset[int] = frozenset()


#: Nothing of it was a repeat.
ALL_NEW: Final = Appended()


class Record(NamedTuple):
    """A record as read back: an :class:`Entry` with its place and the time it was appended (Unix seconds)."""

    partition: str
    offset: int
    appended_at: float
    topic: str
    key: str
    id: str
    value: bytes
    headers: Headers = ()

    @property
    def flaw(self) -> str:
        """Why the value is no event; empty for an event. See :class:`FlawedRecord`."""
        return ""


#: :attr:`Record.flaw` of a record without a value: it deletes its key in a compacted topic, and is passed over.
TOMBSTONE: Final = "the record has no value"


class FlawedRecord(Record):
    """A record that holds no event: other programs write to Kafka's topics too. Never sent to a subscriber.

    Its ``id`` is made from its place, unless we gave it one (a dead letter).

    Args:
        record: its place and bytes.
        flaw: :data:`TOMBSTONE`, or a sentence.
    """

    _flaw: str

    def __new__(cls, record: Record, flaw: str) -> FlawedRecord:
        """Make one of a record as read."""
        self = super().__new__(cls, *record)
        self._flaw = flaw
        return self

    @property
    def flaw(self) -> str:
        """See :attr:`Record.flaw`."""
        return self._flaw


#: Called when partitions are taken away (Kafka's rebalance); returns when what was in flight is settled.
OnRevoked = Callable[[Collection[str]], Awaitable[None]]


class LogReader(Protocol):
    """One consumer group's reading position. Used by one task at a time."""

    async def fetch(self, *, max_records: int, wait_s: float) -> Sequence[Record]:
        """The next records in order, at most ``max_records``; empty when none came within ``wait_s`` seconds.

        Raises:
            Transient: the log cannot be read now; call again later.
        """

    def commit(self, partition: str, offset: int) -> None:
        """Everything below ``offset`` is done. Never blocks; durable within a second, or after :meth:`flush`.

        A crash before that repeats events, never loses any. An offset below an earlier one is ignored.
        """

    async def flush(self) -> None:
        """Make all commits so far durable."""

    def pause(self, partitions: Collection[str]) -> None:
        """Stop returning records of these partitions; the position stays."""

    def resume(self, partitions: Collection[str]) -> None:
        """Return records of these partitions again."""

    async def seek(self, partition: str, offset: int) -> None:
        """Go on from ``offset`` of one partition, back or forward."""

    async def seek_to_time(self, unix_s: float) -> None:
        """Go on from the first record appended at or after this time, in every partition."""

    async def lag(self) -> Mapping[str, int]:
        """Records not yet committed, by partition. On the journal an upper bound: it counts all topics."""

    async def ends(self) -> Mapping[str, int]:
        """The offset that the next record gets, by partition, as of now.

        Raises:
            Transient: the log cannot be asked now.
        """

    async def positions(self) -> Mapping[str, int]:
        """The offset that is looked at next, by partition. What is not there, or of another topic, was passed over.

        Raises:
            Transient: the log cannot be asked now.
        """

    def incarnations(self) -> Mapping[str, str]:
        """What tells each topic from another one of its name, before or after it; without those that it cannot tell."""

    async def close(self) -> None:
        """Flush and give the reader back. May be called twice."""


class EventLog(Protocol):
    """A log that can be appended to and read."""

    async def append(self, entries: Sequence[Entry]) -> Appended:
        """Store all or none; they are durable when this returns. A log may know repeats, and store them once.

        Raises:
            NotNow: nothing was stored; the sender should try again later.
        """

    async def reader(
        self,
        group: str,
        topics: Collection[str],
        *,
        start: Start | Begins = "latest",
        on_revoked: OnRevoked | None = None,
    ) -> LogReader:
        """Open a reading position under a durable name.

        Args:
            group: name of the cursor; the same name goes on where it stood.
            topics: what to read; all of them vendor events, or one internal topic.
            start: where a name that is new begins; a :class:`Begin` for each topic, where that was fixed before.
            on_revoked: awaited before partitions are given away.
        """

    async def browse(self, name: str, topics: Collection[str], *, start: Start = "latest") -> LogReader:
        """Open a reading position that is nobody's: it has all partitions at once, and nothing is kept of it.

        Any number of these read the same topics at a time, also on other machines; none disturbs another or a group.
        Its commits go nowhere.

        Args:
            name: for logs and metrics only.
            topics: as of :meth:`reader`.
            start: where it begins.
        """
