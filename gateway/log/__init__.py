"""The log: an ordered, durable sequence of events, and readers with cursors of their own.

Two logs implement one interface: :mod:`gateway.log.journal` (a folder on local disk, nothing to install)
and :mod:`gateway.log.kafka` (consumer groups, any number of processes). Fan-out, replay and look-ups
use the interface only; one contract suite runs on both.

A *partition* is a sequence with one order. The journal has one for all events (``events``) and one for each
internal topic (``retry.<delay>``, ``dlq.<subscriber>``); Kafka has ``<topic>-<number>``.
An *offset* counts records in a partition from 0 and is never used again, also after records were trimmed.
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
        headers: metadata stored with the event, such as the attempts of an event in a retry topic.
    """

    topic: str
    key: str
    id: str
    value: bytes
    headers: Headers = ()


class Appended(NamedTuple):
    """The result of an append; all entries are durable.

    Args:
        repeated: indexes of the entries whose ids the log had already: they were not stored again.
    """

    repeated: frozenset[int] = frozenset()


#: The result of an append without repeats.
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
        """The reason why the value is no event; empty for an event. See :class:`FlawedRecord`."""
        return ""


#: :attr:`Record.flaw` of a record without a value: it deletes its key in a compacted topic, and readers skip it.
TOMBSTONE: Final = "the record has no value"


class FlawedRecord(Record):
    """A record that holds no event: other programs write to Kafka's topics too. Never sent to a subscriber.

    Its ``id`` is derived from its place, unless the gateway gave it one (a dead letter).

    Args:
        record: its place and bytes.
        flaw: :data:`TOMBSTONE`, or a sentence.
    """

    _flaw: str

    def __new__(cls, record: Record, flaw: str) -> FlawedRecord:
        """Return a flawed record with the contents of a record as read."""
        self = super().__new__(cls, *record)
        self._flaw = flaw
        return self

    @property
    def flaw(self) -> str:
        """See :attr:`Record.flaw`."""
        return self._flaw


#: Why records are missing: retention removed them before they were read; they cannot be read; the topic was deleted and
#: created again; the partition lost its end (a replica that lacked it became leader); a person skipped them.
GapReason = Literal["expired", "damaged", "deleted", "truncated", "skipped"]


class Gap(NamedTuple):
    """Records that are missing for a reader, at their place. Its position passes them as it passes records.

    Args:
        first: the first missing offset; None if it cannot be known.
        last: the last missing offset; None if it cannot be known.
    """

    partition: str
    first: int | None
    last: int | None
    reason: GapReason


class Batch(list[Record]):
    """Records in order, and the gaps between them.

    Args:
        gaps: missing records before, between and behind the records.
        ends: by partition, the offset behind all records that were read for this batch, wanted or not.
    """

    __slots__ = ("ends", "gaps")

    def __init__(
        self, records: Iterable[Record] = (), gaps: Sequence[Gap] = (), ends: Mapping[str, int] | None = None
    ) -> None:
        super().__init__(records)
        self.gaps = gaps
        self.ends: Mapping[str, int] = ends if ends is not None else {}


class Placed(NamedTuple):
    """The offset at which a cursor continues in a partition, and the gap before that offset."""

    offset: int
    gap: Gap | None = None


#: Called when partitions were assigned; returns the offset at which reading begins in each.
OnAssigned = Callable[[Collection[str]], Awaitable[Mapping[str, int]]]

#: Called when partitions are revoked (Kafka's rebalance); returns when events in flight are settled.
OnRevoked = Callable[[Collection[str]], Awaitable[None]]


class PartitionReader(Protocol):
    """Reads partitions in order. Used by one task at a time."""

    async def fetch(self, *, max_records: int, wait_s: float) -> Batch:
        """Return the next records in order; an empty batch if none arrived in time.

        Args:
            max_records: at most so many.
            wait_s: how long to wait for the first one, seconds.

        Raises:
            Transient: the log cannot be read now; call again later.
        """

    def pause(self, partitions: Collection[str]) -> None:
        """Stop returning records of these partitions; the position stays."""

    def resume(self, partitions: Collection[str]) -> None:
        """Return records of these partitions again."""

    async def ends(self) -> Mapping[str, int]:
        """Return the offset that the next record gets, by partition, as of now.

        It may be asked at any time, also while ``fetch`` waits: it never assigns or places partitions itself.

        Raises:
            Transient: the log cannot be asked now.
        """

    def incarnations(self) -> Mapping[str, str]:
        """Return an id of each topic that differs from that of an earlier or later topic of the same name.

        Topics whose id is not known are left out.
        """

    async def close(self) -> None:
        """Release the reader and its partitions. May be called twice."""


class LogReader(PartitionReader, Protocol):
    """A reading position without a cursor, see :meth:`BrowsedLog.browse`."""

    async def seek(self, partition: str, offset: int) -> None:
        """Continue at ``offset`` of one partition, back or forward."""

    async def seek_to_time(self, unix_s: float) -> None:
        """Continue at the first record appended at or after this time (Unix seconds), in every partition."""

    async def positions(self) -> Mapping[str, int]:
        """Return the offset that is read next, by partition. Records that are missing or of other topics are passed.

        Raises:
            Transient: the log cannot be asked now.
        """


class AssignedReader(PartitionReader, Protocol):
    """One reading of the partitions of this process, on behalf of many cursors. It stores no position.

    A batch may contain records of other topics that share a partition. After a partition was revoked, no batch has
    records that were fetched before: the records of a partition follow the offset that ``on_assigned`` returned for it,
    and every hole between them is a gap. Closing calls no callback.
    """

    def subscribe(self, topics: Collection[str]) -> None:
        """Read these topics in addition: their partitions are assigned by ``on_assigned``. Never blocks."""

    def is_certain(self) -> bool:
        """Return whether this process certainly still has the assigned partitions.

        Ask it before an action that must not happen twice. A process that was suspended asks it before it has noticed
        any other consequence.
        """


class CursorStore(Protocol):
    """Durable positions of named cursors; the process that has a partition may move them, forward only."""

    async def load(
        self, cursor: str, topics: Collection[str], partitions: Collection[str], *, start: Start | Begins
    ) -> Mapping[str, Placed]:
        """Return where a cursor continues, in those of the partitions that can hold its topics.

        The position of a new cursor is durable when this returns. A position behind a gap is not committed yet.

        Args:
            cursor: its name, such as ``gateway.billing``.
            topics: topics that it reads.
            partitions: partitions that this process has.
            start: where it begins in topics in which it has no position.

        Raises:
            Transient: the log cannot be asked now.
        """

    def commit(self, cursor: str, partition: str, offset: int) -> None:
        """Record that all records below ``offset`` are done. Never blocks; durable in seconds, or after :meth:`flush`.

        A call is ignored if its offset is below an earlier one, or if the partition was not loaded or was released.

        Args:
            cursor: its name.
            partition: one that was loaded for it.
            offset: the first offset that is not done.
        """

    def committed(self, cursor: str) -> Mapping[str, int]:
        """Return the committed offsets of the partitions loaded here, durable or about to be.

        A position may have moved without a commit: past records that the log has reported as expired.
        """

    async def flush(self) -> None:
        """Make all commits so far durable.

        Raises:
            Transient: not confirmed in time; they are kept for the next try.
        """

    def release(self, partitions: Collection[str]) -> None:
        """Forget partitions that another process has now, for all cursors."""

    def forget(self, cursor: str) -> None:
        """Forget a cursor that this process no longer runs; its commits still become durable."""


#: The kinds of log; the names of their log lines and metrics begin with them.
LogKind = Literal["journal", "kafka"]


class BrowsedLog(Protocol):
    """A log that can be appended to and browsed."""

    async def append(self, entries: Sequence[Entry]) -> Appended:
        """Store all entries or none; they are durable when this returns. A log may recognise repeats and skip them.

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
        """Open a reader without a cursor: it reads all partitions, and the log stores no position for it.

        Any number of readers may browse the same topics, also on other machines, without an effect on each other or on
        a group.

        Args:
            name: for logs and metrics only.
            topics: topics to read: vendor events only, or one internal topic.
            start: where reading begins.
            positions: by partition, the offset at which reading begins; no other partition is read.
        """


class EventLog(BrowsedLog, Protocol):
    """A log that can be appended to, browsed, and read by named cursors."""

    @property
    def kind(self) -> LogKind:
        """The kind of log, for log lines and metrics."""

    @property
    def cursors(self) -> CursorStore:
        """Positions of the cursors that share a reading, see :meth:`join`."""

    async def unfinished(self, group_of: Callable[[str], str | None]) -> Mapping[str, int]:
        """Return the existing internal topics, each with the number of records that its group has not passed.

        Args:
            group_of: returns the group that reads a topic; None: the topic is not asked about.

        Raises:
            Transient: the log cannot be asked now.
        """

    async def join(
        self, group: str, topics: Collection[str], *, on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> AssignedReader:
        """Open the one reader of this process, for the partitions that are assigned to it.

        Args:
            group: consumer group whose members share the partitions.
            topics: topics to read: vendor events and internal topics together. A topic that does not exist is empty.
            on_assigned: awaited when partitions were assigned, also within this call, and again when a topic was
                created again (after its partitions were revoked). A partition that it does not return is not read.
            on_revoked: awaited before partitions are assigned to another process.
        """
