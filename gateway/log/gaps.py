"""Reports of missing records: the one place that logs and counts gaps, for both logs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import structlog

from gateway.log import Gap, GapReason, LogKind
from gateway.telemetry.metrics import METRICS

#: A log line names at most so many readers; it has the number of all of them.
_NAMED: Final = 10


class _Row(NamedTuple):
    """How a gap of one reason is reported.

    Args:
        counter: metric that counts the records of each reader; empty if none does.
        is_error: the reason is a fault of the installation, not an effect of its settings.
        advice: for the log line.
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

_DELETED: Final = "events of the deleted topic that were not read yet are gone; reading begins at the new topic's start"

_log = structlog.get_logger("gateway.gaps")


def report_each(kind: LogKind, missing: Iterable[tuple[str, Gap]]) -> None:
    """Count and log gaps. Readers with the same gap share a line.

    A deleted topic is one line with all of its partitions.

    Args:
        kind: the log in which records are missing.
        missing: pairs of a reader's name and its gap.
    """
    names: defaultdict[Gap, list[str]] = defaultdict(list)
    deleted: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for name, gap in missing:
        if gap.reason != "deleted":
            names[gap].append(name)
            continue
        positions = deleted[name, _topic(gap.partition)]
        if gap.first is not None:
            positions[gap.partition] = gap.first
    for gap, of in names.items():
        report(kind, of, gap)
    alike: defaultdict[tuple[str, tuple[tuple[str, int], ...]], list[str]] = defaultdict(list)
    for (name, topic), positions in deleted.items():
        alike[topic, tuple(sorted(positions.items()))].append(name)
    for (topic, places), of in alike.items():
        report_deleted(of, topic, dict(places))


def report_deleted(names: Collection[str], topic: str, positions: Mapping[str, int], *, advice: str = _DELETED) -> None:
    """Count and log that a topic of Kafka was deleted and created again: one line, whatever the number of names.

    Args:
        names: names of the readers, or of the writer.
        topic: its name.
        positions: the offset that all of them had reached in the old topic, by partition; unknown ones are left out.
        advice: for the log line.
    """
    for name in names:
        METRICS.counter("gateway_kafka_recreated_topics").labels(name).inc()
    _log.warning("kafka.recreated", **_who(names), topic=topic, positions=positions, reason="recreated", advice=advice)


def report(kind: LogKind, names: Collection[str], gap: Gap, *, topics: Mapping[str, int] | None = None) -> None:
    """Count and log a gap of several readers in one line.

    Args:
        kind: the log in which records are missing; the line is named after it, such as ``journal.expired``.
        names: names of the readers.
        gap: the missing records.
        topics: missing records by topic, of the topics that the readers want; None if only offsets are known.
    """
    if not names:
        return
    row = _ROWS[kind].get(gap.reason, _OTHER)
    count = count_of(gap) if topics is None else sum(topics.values())
    _count(kind, row, names, gap, count)
    fields: dict[str, object] = {
        **_who(names),
        **({"stream": gap.partition} if kind == "journal" else _place(gap.partition)),
        "first": gap.first,
        "last": gap.last,
        "count": count,
        "reason": gap.reason,
        "advice": row.advice,
    }
    if topics is not None:
        fields["topics"] = dict(topics)
    (_log.error if row.is_error else _log.warning)(f"{kind}.{gap.reason}", **fields)


def _who(names: Collection[str]) -> dict[str, object]:
    ordered = sorted(names)
    return {"group": ordered[0] if len(ordered) == 1 else ordered[:_NAMED], "groups": len(ordered)}


def _place(partition: str) -> dict[str, object]:
    return {"topic": _topic(partition), "partition": partition}


def _topic(partition: str) -> str:
    return partition.rpartition("-")[0]


def _count(kind: LogKind, row: _Row, names: Collection[str], gap: Gap, count: int | None) -> None:
    if kind == "journal" and gap.reason == "damaged":
        METRICS.counter("gateway_journal_damaged_segments").inc()
    elif row.counter and count is not None:
        for name in names:
            METRICS.counter(row.counter).labels(name).inc(count)


def count_of(gap: Gap) -> int | None:
    """Return how many offsets are missing; None if it cannot be known."""
    return None if gap.first is None or gap.last is None else gap.last - gap.first + 1


def clipped(gap: Gap, passed: int) -> Gap | None:
    """Return the part of a gap from offset ``passed`` on; None if there is none.

    A gap of a deleted topic is returned whole: its offsets are not those of the new topic, in which the reader
    continues.
    """
    if gap.reason == "deleted":
        return gap
    if gap.last is not None and gap.last < passed:
        return None
    if gap.first is None or gap.first >= passed:
        return gap
    return gap._replace(first=passed)


def ahead_of(gaps: Sequence[Gap], positions: Mapping[str, int]) -> list[Gap]:
    """Return the parts of gaps that a cursor has not passed.

    Args:
        gaps: of any partitions.
        positions: the next offset of the cursor, by partition.
    """
    left = (clipped(gap, positions.get(gap.partition, 0)) for gap in gaps)
    return [gap for gap in left if gap is not None]
