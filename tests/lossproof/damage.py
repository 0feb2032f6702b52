"""Damage to the journal's files while nothing runs: what disks and memory do, done on purpose."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random
from typing import Final

WAL: Final = "journal.sqlite-wal"
MAIN: Final = "journal.sqlite"
_WAL_HEAD: Final = 32
_FRAME_HEAD: Final = 24


def torn_end(folder: Path, rng: Random) -> bool:
    """Put a commit behind the WAL's end that never returned: a frame whose page was half written."""
    wal = folder / WAL
    if not wal.exists() or wal.stat().st_size < _WAL_HEAD:
        return False
    data = wal.read_bytes()
    page_size = int(struct.unpack_from(">I", data, 8)[0])
    end = _end(data, page_size)
    frame = struct.pack(">II", 2, 2) + data[16:24] + rng.randbytes(8) + rng.randbytes(page_size // 2)
    with wal.open("r+b") as file:
        file.seek(end)
        file.write(frame)
        file.truncate()
    return True


def flip_in_wal(folder: Path, rng: Random, *, behind: float = 0.3, before: float = 0.7) -> bool:
    """Flip a bit of a page in the middle of what the WAL holds, so that sound frames stand behind it."""
    wal = folder / WAL
    data = wal.read_bytes() if wal.exists() else b""
    if len(data) < _WAL_HEAD:
        return False
    page_size = int(struct.unpack_from(">I", data, 8)[0])
    size = _FRAME_HEAD + page_size
    frames = (_end(data, page_size) - _WAL_HEAD) // size
    if frames < 10:
        return False
    frame = rng.randrange(int(frames * behind), int(frames * before))
    _flip(wal, _WAL_HEAD + frame * size + _FRAME_HEAD + rng.randrange(page_size), rng)
    return True


def flip_in_records(folder: Path, rng: Random) -> bool:
    """Flip a bit of an event's bytes in the file itself."""
    path = folder / MAIN
    data = path.read_bytes() if path.exists() else b""
    at = data.find(b'"specversion"', rng.randrange(max(1, len(data) // 2)))
    if at < 0:
        at = data.find(b'"specversion"')
    if at < 0:
        return False
    _flip(path, at + 14, rng)
    return True


def _flip(path: Path, at: int, rng: Random) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << rng.randrange(8)]))


def _end(data: bytes, page_size: int) -> int:
    """Behind the last frame of the WAL's present round: frames of an earlier one have other salts."""
    at = _WAL_HEAD
    while at + _FRAME_HEAD + page_size <= len(data) and data[at + 8 : at + 16] == data[16:24]:
        at += _FRAME_HEAD + page_size
    return at
