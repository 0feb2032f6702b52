"""New settings while the gateway runs: from a changed file, or on SIGHUP.

The file's content is compared, not its time: a ConfigMap of Kubernetes changes by swapping a symbolic link two folders
up, which no time stamp or inode of the file itself shows. A file is taken when two looks in a row find the same
content, so that one that an editor is still writing is not read as a shorter one.

A file that is wrong or cannot be applied is refused as a whole, which is logged once; what was in force stays. Only
``subscribers`` take effect at once; other sections are read at start, and a change of them is logged as waiting for a
restart.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Final

import structlog

from gateway.config import document
from gateway.config.loading import load
from gateway.config.settings import Settings
from gateway.errors import ConfigError

#: A read of a small cached file each time; ten times more and people wonder whether their change was seen.
POLL_S: Final = 2.0
#: Long enough for an editor to finish writing.
SETTLE_S: Final = 0.2

_log = structlog.get_logger("gateway.config")


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
    seen: bytes | None = None
    while True:
        content = await _settled(path, settle_s, seen)
        if content != seen or asked.is_set():
            was_asked = asked.is_set()
            asked.clear()
            is_first, seen = seen is None, content
            found = await asyncio.to_thread(_read, path, environ, check)
            if found is not None and found != current:
                current = found
                if waiting := restart_needed(started, found):
                    advice = "only subscribers take effect without one"
                    _log.warning("config.restart_needed", sections=waiting, advice=advice)
                yield found
            elif found is not None and (was_asked or not is_first):
                _log.info("config.unchanged", path=str(path))
        await _either(asked, poll_s)


def restart_needed(old: Settings, new: Settings) -> list[str]:
    """Return the sections that differ and are read at start only."""
    names = [name for name in Settings.model_fields if name != "subscribers"]
    return [name for name in names if getattr(old, name) != getattr(new, name)]


def _read(path: Path, environ: Mapping[str, str], check: Callable[[Settings], None]) -> Settings | None:
    try:
        found = load(path, environ)
        check(found)
        return found
    except ConfigError as exc:
        _log.error(
            "config.refused", path=str(path), problems=exc.problems, advice="the previous settings stay in force"
        )
        return None


async def _settled(path: Path, settle_s: float, seen: bytes | None) -> bytes:
    """Return the digest of the content, once it is equal at two looks in a row or has not changed at all."""
    content = await asyncio.to_thread(_digest, path)
    while seen is not None and content != seen:
        await asyncio.sleep(settle_s)
        again = await asyncio.to_thread(_digest, path)
        if again == content:
            break
        content = again
    return content


def _digest(path: Path) -> bytes:
    try:
        return hashlib.blake2b(document.content(path)).digest()
    except OSError as exc:
        return repr(exc.errno).encode()
    except ConfigError as exc:
        return str(exc).encode()


async def _either(asked: asyncio.Event, poll_s: float) -> None:
    try:
        async with asyncio.timeout(poll_s):
            await asked.wait()
    except TimeoutError:
        return
