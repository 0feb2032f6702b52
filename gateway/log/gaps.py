"""Telling of what readers do not get: the one place that logs and counts it, whichever log it is missing in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

import structlog

from gateway.log import Gap, GapReason, LogKind
from gateway.telemetry.metrics import METRICS

#: So many readers stand in a line by name; of all of them it says how many they are.
_NAMED: Final = 10


class _Row(NamedTuple):
    """How one reason is told of.

    Args:
        counter: metric that counts the records of each reader; empty: none does.
        is_error: it is a fault of the installation, not an effect of its settings.
    """

    counter: str
    is_error: bool
    advice: str


_JOURNAL: Final[Mapping[GapReason, _Row]] = {
    "expired": _Row(
        "gateway_journal_expired_events",
        False,
        "these events were not delivered; raise journal.retention and journal.max_bytes, and see why the reader was "
        "behind",
    ),
    "damaged": _Row(
        "", True, "these events cannot be read; run 'gateway journal check', replace the disk or memory at fault"
    ),
}
_KAFKA: Final[Mapping[GapReason, _Row]] = {
    "expired": _Row(
        "gateway_kafka_skipped_offsets",
        False,
        "these events were not delivered; raise retention.ms of the topic, and see why the group was behind",
    ),
    "truncated": _Row(
        "gateway_kafka_skipped_offsets",
        False,
        "the partition is shorter than it was; set unclean.leader.election.enable=false, replication.factor=3 and "
        "min.insync.replicas=2; events may be delivered again",
    ),
}
_ROWS: Final[Mapping[LogKind, Mapping[GapReason, _Row]]] = {"journal": _JOURNAL, "kafka": _KAFKA}
_OTHER: Final = _Row("", False, "these records were passed over")

_log = structlog.get_logger("gateway.gaps")


def report(kind: LogKind, names: Collection[str], gap: Gap, *, topics: Mapping[str, int] | None = None) -> None:
    """Count and log what readers will not get: one line, whatever their number.

    Args:
        kind: the log that it is missing in; the line is named after it, such as ``journal.expired``.
        names: of the readers.
        topics: records by topic, of those that the readers want; None where only offsets are known.
    """
    if not names:
        return
    row = _ROWS[kind].get(gap.reason, _OTHER)
    count = count_of(gap) if topics is None else sum(topics.values())
    _count(kind, row, names, gap, count)
    ordered = sorted(names)
    fields: dict[str, object] = {
        "group": ordered[0] if len(ordered) == 1 else ordered[:_NAMED],
        "groups": len(ordered),
        "stream" if kind == "journal" else "partition": gap.partition,
        "first": gap.first,
        "last": gap.last,
        "count": count,
        "reason": gap.reason,
        "advice": row.advice,
    }
    if topics is not None:
        fields["topics"] = dict(topics)
    (_log.error if row.is_error else _log.warning)(f"{kind}.{gap.reason}", **fields)


def _count(kind: LogKind, row: _Row, names: Collection[str], gap: Gap, count: int | None) -> None:
    if kind == "journal" and gap.reason == "damaged":
        METRICS.counter("gateway_journal_damaged_segments").inc()
    elif row.counter and count is not None:
        for name in names:
            METRICS.counter(row.counter).labels(name).inc(count)


def count_of(gap: Gap) -> int | None:
    """Return how many offsets are missing; None where it cannot be known."""
    return None if gap.first is None or gap.last is None else gap.last - gap.first + 1


def clipped(gap: Gap, passed: int) -> Gap | None:
    """Return what is left of a gap behind everything below ``passed``; None when nothing is."""
    if gap.last is not None and gap.last < passed:
        return None
    if gap.first is None or gap.first >= passed:
        return gap
    return gap._replace(first=passed)


def ahead_of(gaps: Sequence[Gap], positions: Mapping[str, int]) -> list[Gap]:
    """Return what is left of gaps for a cursor that stands at these offsets."""
    left = (clipped(gap, positions.get(gap.partition, 0)) for gap in gaps)
    return [gap for gap in left if gap is not None]
