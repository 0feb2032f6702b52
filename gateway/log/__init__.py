"""The log: an ordered, durable sequence of events, and readers with cursors of their own.

Two logs stand behind one interface: :mod:`gateway.log.journal` (a folder on local disk, nothing to install)
and :mod:`gateway.log.kafka` (consumer groups, any number of processes). Fan-out, replay and look-ups are
written against the interface only; one contract suite runs on both.

A *partition* is a sequence with one order. The journal has one for all events (``events``) and one for each
internal topic (``retry.<delay>``, ``dlq.<subscriber>``); Kafka has ``<topic>-<number>``.
An *offset* counts records in a partition from 0 and never comes back, whatever was trimmed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
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


#: Why records are missing: retention took them before they were read; they cannot be read; the topic was deleted and
#: made again; the partition lost its end (a replica that lacked it became leader); a person passed over them.
GapReason = Literal["expired", "damaged", "deleted", "truncated", "skipped"]


class Gap(NamedTuple):
    """Records that a reader does not get, where it does not get them. Its position passes them as it passes records.

    Args:
        first: the first offset that is missing; None where it cannot be known.
        last: the last one; likewise.
    """

    partition: str
    first: int | None
    last: int | None
    reason: GapReason


class Batch(list[Record]):
    """Records in order, and what is missing between them.

    Args:
        gaps: what is missing before, between and behind the records.
        ends: by partition, the offset behind everything that was looked at for this batch, wanted or not.
    """

    __slots__ = ("ends", "gaps")

    def __init__(
        self, records: Iterable[Record] = (), gaps: Sequence[Gap] = (), ends: Mapping[str, int] | None = None
    ) -> None:
        super().__init__(records)
        self.gaps = gaps
        self.ends: Mapping[str, int] = ends if ends is not None else {}


class Placed(NamedTuple):
    """Where a cursor goes on in a partition, and what it will not get before that."""

    offset: int
    gap: Gap | None = None


#: Called when partitions have come; returns where reading begins in each.
OnAssigned = Callable[[Collection[str]], Awaitable[Mapping[str, int]]]

#: Called when partitions are taken away (Kafka's rebalance); returns when what was in flight is settled.
OnRevoked = Callable[[Collection[str]], Awaitable[None]]


class LogReader(Protocol):
    """A reading position that is nobody's, see :meth:`BrowsedLog.browse`. Used by one task at a time."""

    async def fetch(self, *, max_records: int, wait_s: float) -> Batch:
        """The next records in order, at most ``max_records``; empty when none came within ``wait_s`` seconds.

        Raises:
            Transient: the log cannot be read now; call again later.
        """

    def pause(self, partitions: Collection[str]) -> None:
        """Stop returning records of these partitions; the position stays."""

    def resume(self, partitions: Collection[str]) -> None:
        """Return records of these partitions again."""

    async def seek(self, partition: str, offset: int) -> None:
        """Go on from ``offset`` of one partition, back or forward."""

    async def seek_to_time(self, unix_s: float) -> None:
        """Go on from the first record appended at or after this time, in every partition."""

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
        """Give the reader back. May be called twice."""


class AssignedReader(Protocol):
    """One reading of the partitions that this process has, on behalf of many cursors. It keeps no position.

    What is fetched after a partition was taken away is never of the time before: records of a partition follow, without
    a hole that is not a gap, the offset that ``on_assigned`` gave for it. Closing calls nobody.
    """

    async def fetch(self, *, max_records: int, wait_s: float) -> Batch:
        """Return what comes next in the assigned partitions, at most ``max_records`` records.

        Records of other topics may be among them where they share a partition. One task at a time.

        Raises:
            Transient: the log cannot be read now; call again later.
        """

    def subscribe(self, topics: Collection[str]) -> None:
        """Read these topics as well from now on: their partitions come by ``on_assigned``. Never blocks."""

    def pause(self, partitions: Collection[str]) -> None:
        """Stop returning records of these partitions; the position stays."""

    def resume(self, partitions: Collection[str]) -> None:
        """Return records of these partitions again."""

    def is_certain(self) -> bool:
        """Return whether the assigned partitions are still ours for sure; ask before what must not happen twice.

        A process that was suspended is asked this before it has noticed anything else.
        """

    async def ends(self) -> Mapping[str, int]:
        """Return the offset that the next record gets, by assigned partition.

        Raises:
            Transient: the log cannot be asked now.
        """

    def incarnations(self) -> Mapping[str, str]:
        """Return what tells each topic from another one of its name; see :meth:`LogReader.incarnations`."""

    async def close(self) -> None:
        """Give the partitions back. May be called twice."""


class CursorStore(Protocol):
    """Durable positions of named cursors; whoever has a partition may move them, forward only."""

    async def load(
        self, cursor: str, topics: Collection[str], partitions: Collection[str], *, start: Start | Begins
    ) -> Mapping[str, Placed]:
        """Return where a cursor goes on, in those of the partitions that can hold its topics.

        The position of one that is new is durable when this returns. What a gap says is not committed yet.

        Args:
            cursor: its name, such as ``gateway.billing``.
            topics: what it reads.
            partitions: those that this process has.
            start: where it begins in topics in which it has no position.

        Raises:
            Transient: the log cannot be asked now.
        """

    def commit(self, cursor: str, partition: str, offset: int) -> None:
        """Everything below ``offset`` is done. Never blocks; durable within seconds, or after :meth:`flush`.

        An offset below an earlier one is ignored, and so is a partition that was not loaded, or was released.
        """

    def committed(self, cursor: str) -> Mapping[str, int]:
        """Return what is committed of the partitions loaded here, durable or about to be.

        It may have moved by itself: past what the log has reported as expired.
        """

    async def flush(self) -> None:
        """Make all commits so far durable.

        Raises:
            Transient: not confirmed in time; they are kept for the next try.
        """

    def release(self, partitions: Collection[str]) -> None:
        """Forget partitions that another process has from now on, for all cursors."""

    def forget(self, cursor: str) -> None:
        """Forget a cursor that goes on no more in this process; what it has committed becomes durable all the same."""


#: The logs that there are: names of their log lines and metrics begin so.
LogKind = Literal["journal", "kafka"]


class BrowsedLog(Protocol):
    """A log that can be appended to and looked through."""

    async def append(self, entries: Sequence[Entry]) -> Appended:
        """Store all or none; they are durable when this returns. A log may know repeats, and store them once.

        Raises:
            NotNow: nothing was stored; the sender should try again later.
        """

    async def browse(
        self,
        name: str,
        topics: Collection[str],
        *,
        start: Start = "latest",
        positions: Mapping[str, int] | None = None,
    ) -> LogReader:
        """Open a reading position that is nobody's: it has all partitions at once, and nothing is kept of it.

        Any number of these read the same topics at a time, also on other machines; none disturbs another or a group.

        Args:
            name: for logs and metrics only.
            topics: what to read; all of them vendor events, or one internal topic.
            start: where it begins.
            positions: read these partitions and no others, from these offsets.
        """


class EventLog(BrowsedLog, Protocol):
    """A log that can be appended to, looked through, and shared by cursors that have names."""

    @property
    def kind(self) -> LogKind:
        """Which log it is, for log lines and metrics."""

    @property
    def cursors(self) -> CursorStore:
        """Positions of the cursors that share a reading, see :meth:`join`."""

    async def unfinished(self, group_of: Callable[[str], str | None]) -> Mapping[str, int]:
        """Return internal topics that exist, each with the number of records that a group has not passed in it.

        Args:
            group_of: returns the group that reads a topic; None: the topic is not asked about.

        Raises:
            Transient: the log cannot be asked now.
        """

    async def join(
        self, group: str, topics: Collection[str], *, on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> AssignedReader:
        """Open the one reading of this process, of the partitions that it is given.

        Args:
            group: whose members share the partitions between them.
            topics: what to read: vendor events and internal topics together. One that is not there yet is empty.
            on_assigned: awaited when partitions have come, also within this call, and again when a topic was made anew
                (after they were revoked). One that it leaves out of its answer is not read.
            on_revoked: awaited before partitions are given away.
        """
