"""Where a partition is read from, and which records before that are gone: decided here, without I/O.

Three things make a gap. Retention or DeleteRecords took records that were not read (``expired``). The topic was deleted
and created again, so that offsets of the old one mean nothing in the new one (``deleted``): all of the new one is
unread. Or the partition ends before the position although it is the same one (``truncated``: a replica that had not all
records became leader), and what was appended since then may stand below the position. Reading goes on at the beginning
in each case: records may come again, and none is passed over in silence.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from gateway.log import Gap
from gateway.log.kafka.incarnation import is_another, marked


@dataclass(frozen=True, slots=True)
class Committed:
    """A position that Kafka keeps for a group.

    Args:
        incarnation: of the topic when the position was committed; None when another program committed it, or a
            gateway that did not keep this yet.
    """

    offset: int
    incarnation: str | None

    @classmethod
    def at(cls, offset: int, metadata: str | None) -> Committed:
        """From what Kafka keeps."""
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
    """Return the offset to read from, and what is missing before it.

    Args:
        position: the next offset to read, as far as the group knows.
        beginning: the first offset that the partition has now.
        was: the topic's incarnation when the position was right; empty: not known.
        now: the incarnation now.
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
    """Where a group begins in the partitions of a topic in which Kafka keeps no position of it.

    Args:
        is_recreated: the group read an earlier topic of this name.
        is_gone: the group read this topic, and Kafka has forgotten how far.
        is_at_start: from the first record; otherwise from the time at which the group began.
    """

    is_recreated: bool = False
    is_gone: bool = False
    is_at_start: bool = False


def origin(others: Collection[Committed | None], *, was: str, now: str) -> Origin:
    """Return where partitions without a position begin.

    A topic's deletion deletes the positions of all groups in it, so an incarnation that the group remembers elsewhere
    (``was``) is often the only sign. A partition that was added to a topic is read from its first record; where the
    others' positions are the gateway's own the time of beginning says the same, and it is also right while several
    processes of a new group commit their first positions one after another.

    Args:
        others: the group's positions in all partitions of the topic.
    """
    known = [one for one in others if one is not None]
    if is_another(was, now) or any(is_another(one.incarnation or "", now) for one in known):
        return Origin(is_recreated=True, is_at_start=True)
    if any(one.incarnation is None for one in known):
        return Origin(is_at_start=True)
    return Origin(is_gone=bool(was) and not known)
