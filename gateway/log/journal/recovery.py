"""Report of commits that SQLite's recovery drops when a journal is opened: a log line and a metric."""

from __future__ import annotations

from pathlib import Path

import structlog

from gateway.log.journal import wal
from gateway.log.journal.store import FILE_NAME
from gateway.telemetry.metrics import METRICS

_log = structlog.get_logger("gateway.journal")


def leftover(folder: Path) -> None:
    """Report, before the file is opened, commits that SQLite's recovery will silently drop."""
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
