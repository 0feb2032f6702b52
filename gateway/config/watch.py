"""New settings while the gateway runs: from a changed file, or on SIGHUP.

The file's content is compared, not its time: a ConfigMap of Kubernetes changes by swapping a symbolic link two folders
up, which no time stamp or inode of the file itself shows. A file is taken when two looks in a row find the same
content, so that one that an editor is still writing is not read as a shorter one. The content that was compared is
applied, without another read: the file may be written again at any moment.

A file that is wrong or cannot be applied is refused as a whole, which is logged once; the settings in force stay. An
empty file is refused, too, because an editor leaves one on a full disk; ``subscribers: []`` removes all subscribers.
Only ``subscribers`` and ``alerts`` take effect at once; other sections are read at start, and a change of them is
logged as waiting for a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from gateway.config import document
from gateway.config.loading import load_content
from gateway.config.settings import Settings
from gateway.errors import ConfigError

#: A read of a small cached file each time; ten times more and people wonder whether their change was seen.
POLL_S: Final = 2.0
#: Long enough for an editor to finish writing.
SETTLE_S: Final = 0.2

_log = structlog.get_logger("gateway.config")


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """Content of the file at one moment, or the problems of reading it.

    Args:
        content: bytes of the file; they may contain secrets.
        problems: sentences; the content is empty if there are any.
    """

    content: bytes = field(repr=False)
    problems: list[str] = field(default_factory=list)


async def watch(
    path: Path,
    environ: Mapping[str, str],
    current: Settings,
    check: Callable[[Settings], None],
    *,
    asked: asyncio.Event,
    poll_s: float = POLL_S,
    settle_s: float = SETTLE_S,
) -> AsyncIterator[Settings]:
    """Yield each new configuration that can be applied and differs from the one before. It runs until it is closed.

    Args:
        path: the file that ``current`` came from. A change between then and now is noticed.
        environ: as for :func:`gateway.config.loading.load`.
        current: what is in force.
        check: called in a thread with a valid configuration; raises ConfigError where it cannot be applied.
        asked: set on SIGHUP: read the file at once, and log if nothing has changed. Cleared by each reading.
        poll_s: seconds between looks at the file.
        settle_s: seconds between the two looks that must agree.
    """
    started = current
    seen: _Snapshot | None = None
    while True:
        snapshot = await _settled(path, settle_s, seen)
        if snapshot != seen or asked.is_set():
            was_asked = asked.is_set()
            asked.clear()
            is_first, seen = seen is None, snapshot
            found = await asyncio.to_thread(_read, path, snapshot, current, environ, check)
            if found is not None and found != current:
                current = found
                if waiting := restart_needed(started, found):
                    advice = "only subscribers and alerts take effect without one"
                    _log.warning("config.restart_needed", sections=waiting, advice=advice)
                yield found
            elif found is not None and (was_asked or not is_first):
                _log.info("config.unchanged", path=str(path))
        await _either(asked, poll_s)


def restart_needed(old: Settings, new: Settings) -> list[str]:
    """Return the sections that differ and are read at start only."""
    names = (name for name in Settings.model_fields if name not in ("subscribers", "alerts"))
    return [name for name in names if getattr(old, name) != getattr(new, name)]


def _read(
    path: Path, snapshot: _Snapshot, current: Settings, environ: Mapping[str, str], check: Callable[[Settings], None]
) -> Settings | None:
    try:
        if snapshot.problems:
            raise ConfigError(snapshot.problems)
        found = load_content(snapshot.content, path, environ)
        if found != current and not snapshot.content.strip():
            raise ConfigError([f"{path.name}: the file is empty; to remove all subscribers, write 'subscribers: []'"])
        check(found)
        return found
    except ConfigError as exc:
        _log.error(
            "config.refused", path=str(path), problems=exc.problems, advice="the previous settings stay in force"
        )
        return None


async def _settled(path: Path, settle_s: float, seen: _Snapshot | None) -> _Snapshot:
    """Return the snapshot once two in a row are equal, or at once if it is equal to the one seen before."""
    snapshot = await asyncio.to_thread(_snapshot, path)
    while snapshot != seen:
        await asyncio.sleep(settle_s)
        again = await asyncio.to_thread(_snapshot, path)
        if again == snapshot:
            break
        snapshot = again
    return snapshot


def _snapshot(path: Path) -> _Snapshot:
    try:
        return _Snapshot(document.content(path))
    except ConfigError as exc:
        return _Snapshot(b"", exc.problems)


async def _either(asked: asyncio.Event, poll_s: float) -> None:
    try:
        async with asyncio.timeout(poll_s):
            await asked.wait()
    except TimeoutError:
        return
