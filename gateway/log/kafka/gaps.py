"""Where reading of a partition begins, and which records before that are gone: decided without I/O.

There are three causes of a gap. Retention or DeleteRecords removed records that were not read (``expired``). The topic
was deleted and created again, so that offsets of the old topic are invalid in the new one (``deleted``): all records of
the new one are unread. Or the partition ends before the position although it is the same one (``truncated``: a replica
without all records became leader), and records that were appended since then may be below the position. In each case
reading continues at the beginning: records may repeat, and none is skipped silently.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from gateway.log import Gap
from gateway.log.kafka.incarnation import is_another, marked


@dataclass(frozen=True, slots=True)
class Committed:
    """A position that Kafka has for a group.

    Args:
        incarnation: that of the topic when the position was committed; None if another program committed it, or an old
            version of the gateway that did not store it.
    """

    offset: int
    incarnation: str | None

    @classmethod
    def at(cls, offset: int, metadata: str | None) -> Committed:
        """Return the position from Kafka's offset and metadata."""
        return cls(offset, marked(metadata))


def proceed(
    partition: str,
    position: int,
    *,
    beginning: int,
    was: str = "",
    now: str = "",
    is_out_of_range: bool = False,
) -> tuple[int, Gap | None]:
    """Return the offset at which to read, and the gap before it.

    Args:
        partition: its name.
        position: the next offset of the group.
        beginning: the first offset of the partition now.
        was: the topic's incarnation when the position was stored; empty if not known.
        now: the present incarnation.
        is_out_of_range: the broker refused to read at the position.
    """
    if is_another(was, now):
        return beginning, Gap(partition, position, None, "deleted")
    if position < beginning:
        return beginning, Gap(partition, position, beginning - 1, "expired")
    if is_out_of_range:
        return beginning, Gap(partition, position, None, "truncated" if was and was == now else "deleted")
    return position, None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a group begins in those partitions of a topic in which Kafka has no position of it.

    Args:
        is_recreated: the group read an earlier topic of this name.
        is_gone: the group read this topic, and Kafka has forgotten its positions.
        is_at_start: at the first record; otherwise at the time at which the group began.
    """

    is_recreated: bool = False
    is_gone: bool = False
    is_at_start: bool = False


def origin(others: Collection[Committed | None], *, was: str, now: str) -> Origin:
    """Return where partitions without a position begin.

    A topic's deletion deletes the positions of all groups in it, so an incarnation that the group has stored elsewhere
    (``was``) is often the only sign. A partition that was added to a topic is read from its first record; if the
    gateway committed the other positions, the time of beginning leads to the same record, and it is also right while
    several processes of a new group commit their first positions one after another.

    Args:
        others: the group's positions in all partitions of the topic.
        was: the incarnation that the group has stored; empty if none.
        now: the present incarnation.
    """
    known = [one for one in others if one is not None]
    if is_another(was, now) or any(is_another(one.incarnation or "", now) for one in known):
        return Origin(is_recreated=True, is_at_start=True)
    if any(one.incarnation is None for one in known):
        return Origin(is_at_start=True)
    return Origin(is_gone=bool(was) and not known)
