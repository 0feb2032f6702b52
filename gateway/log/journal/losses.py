"""What the journal says of losses: damage, dropped commits, and what expired unread. Each has a line and a metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from gateway.log.journal import wal
from gateway.log.journal.rows import SegmentInfo
from gateway.log.journal.store import FILE_NAME
from gateway.telemetry.metrics import METRICS

_log = structlog.get_logger("gateway.journal")


@dataclass(frozen=True, slots=True)
class Expired:
    """Records that went before a reader had read them."""

    group: str
    stream: str
    first: int
    last: int
    by_topic: Mapping[str, int]

    @property
    def count(self) -> int:
        """How many of the topics that the reader wants."""
        return sum(self.by_topic.values())


def leftover(folder: Path) -> None:
    """Report, before the file is opened, what SQLite's recovery drops without a word."""
    examined = wal.examine(folder / FILE_NAME)
    if examined is None:
        return
    found, copy = examined
    about = {"commits": found.commits, "pages": found.pages, "copy": str(copy)}
    if not found.is_certain:
        _log.warning(
            "journal.commit_dropped",
            **about,
            advice="one commit stands behind damage in the write-ahead log: one that failed and was answered 503, "
            "or one that a disk or memory fault has cost",
        )
        return
    METRICS.counter("gateway_journal_damaged_segments").inc(found.commits)
    _log.error(
        "journal.commits_lost",
        **about,
        advice="commits stand behind damage in the write-ahead log and cannot be read; the copy keeps them for "
        "salvage by hand; replace the disk or memory at fault",
    )


def expired(item: Expired) -> None:
    """Tell of records that went before a reader had read them."""
    METRICS.counter("gateway_journal_expired_events").labels(item.group).inc(item.count)
    _log.warning(
        "journal.expired",
        group=item.group,
        stream=item.stream,
        first=item.first,
        last=item.last,
        count=item.count,
        topics=dict(item.by_topic),
    )


def damaged(stream: str, info: SegmentInfo, group: str) -> None:
    """Tell of a segment whose bytes are not what was written."""
    METRICS.counter("gateway_journal_damaged_segments").inc()
    _log.error(
        "journal.damaged",
        stream=stream,
        first=info.base,
        last=info.end - 1,
        count=info.count,
        topics=dict(info.topics),
        group=group,
        advice="these events cannot be read; run 'gateway journal check', replace the disk or memory at fault",
    )
