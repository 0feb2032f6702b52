"""The disk under the journal: full, failing, torn, flipped."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.lossproof import damage
from tests.lossproof.world import World

_SMALL: Final = "48m"
TORN: Final = ("a write is cut in the middle", "half a page behind the WAL")
FLIPPED: Final = ("WAL", "file")
FAILURES: Final = {
    "fsync fails": {"sync_errno": errno.EIO},
    "writes fail": {"write_errno": errno.EIO},
    "fsync takes 200 ms": {"sync_delay_us": 200_000},
}


async def torn(world: World) -> None:
    """A write is cut in the middle and the log process with it; or a half page stands behind the WAL after a kill."""
    assert world.shim is not None
    rng = world.rng
    for kind in world.deal(TORN):
        by_write, writes = kind == TORN[0], rng.randint(1, 200)
        if not world.cycle(f"write {writes} is cut in the middle" if by_write else kind):
            return
        if by_write:
            world.shim.set(torn_write=writes)
            await world.ingest.died("log")
            world.shim.calm()
            await world.ingest.whole()
        else:
            await world.load.more(writes)
            await world.ingest.kill()
            if not damage.torn_end(world.data, rng):
                raise AssertionError("there is no WAL to tear")
            await world.bring_up(world.ingest)
        world.inject(f"torn: {kind}")


async def flip(world: World) -> None:
    """A bit of what was acknowledged is flipped. That loses events; that exactly those are named is what is proven."""
    rng = world.rng
    gateway = world.ingest
    for place in world.deal(FLIPPED):
        if not world.cycle(f"a bit flipped in the {place}"):
            return
        await world.load.more(150)
        await world.delivered_more(20)
        in_wal = place == "WAL"
        await (gateway.kill() if in_wal else gateway.terminate())
        sound = await asyncio.to_thread(_copied, world, "sound")
        if not (damage.flip_in_wal if in_wal else damage.flip_in_records)(world.data, rng):
            raise AssertionError(f"the {place} has no bit to flip")
        flipped = await asyncio.to_thread(_copied, world, "flipped")
        world.inject(f"bit flipped in the {place}")
        world.damaged.saw(sound, flipped)
        await gateway.launch(broken=world.broken)
        try:
            await gateway.ready()
        except AssertionError:
            await gateway.ended()
            await salvage(world)
            await world.bring_up(gateway)
            world.damaged.salvaged(flipped)
        if in_wal:
            world.breaches += [f"cycle {world.cycles}: {text}" for text in world.damaged.dropped(gateway.told)]


def _copied(world: World, name: str) -> Path:
    """Of the journal as it lies there; to be looked at without a write to the original."""
    to = world.folder / f"{name}-{world.cycles}"
    return Path(shutil.copytree(world.data, to, ignore=lambda folder, names: {"run"}))  # its sockets cannot be copied


async def salvage(world: World) -> None:
    """Copy what can be read and move it into place, as an operator would."""
    to = world.folder / f"salvaged-{world.cycles}"
    command = [sys.executable, "-m", "gateway", "journal", "salvage", "--dir", str(world.data), "--to", str(to)]
    process = await asyncio.create_subprocess_exec(*command)
    if await process.wait():
        raise AssertionError("gateway journal salvage failed")
    shutil.rmtree(world.data)
    to.rename(world.data)


def small_disk(world: World) -> None:
    """The journal on a file system of its own, where we may mount one; the shim says "no space" otherwise."""
    folder = world.folder / "small"
    folder.mkdir()
    if shutil.which("mount") and os.geteuid() == 0:
        command = ["mount", "-t", "tmpfs", "-o", f"size={_SMALL}", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            world.journal_folder = folder / "data"
            world.undo.append(lambda: subprocess.run(["umount", "-l", str(folder)], check=False))


async def full(world: World) -> None:
    """No space until callbacks are answered 503; with space again it goes on by itself."""
    assert world.shim is not None
    while True:
        dies = world.rng.random() < 0.3
        where = "tmpfs" if world.journal_folder else "shim"
        if not world.cycle(f"disk full ({where}){', then SIGKILL' if dies else ''}"):
            return
        await world.load.more(100)
        filler = world.data.parent / "filler"
        if world.journal_folder is None:
            world.shim.set(write_errno=errno.ENOSPC)
        else:
            await asyncio.to_thread(_fill, filler)
        await world.load.answers(503, 20, within_s=90)
        world.inject("disk full")
        if dies:
            await world.kill(world.ingest.command)
        filler.unlink(missing_ok=True)
        world.shim.calm()
        if dies:
            await world.bring_up(world.ingest)
        await world.load.more(100)


def _fill(path: Path) -> None:
    # Unbuffered: what did not fit would be written again by the close, and raise there.
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(65536))


async def refuses(world: World) -> None:
    """Every write or sync fails for a while, or takes long. No new callback may be answered with success then."""
    assert world.shim is not None
    rng = world.rng
    for kind in world.deal(list(FAILURES)):
        dies = rng.random() < 0.3
        if not world.cycle(f"{kind}{', then SIGKILL' if dies else ''}"):
            break
        await world.load.more(100)
        world.shim.set(**FAILURES[kind])
        if "sync_delay_us" in FAILURES[kind]:
            await world.load.more(30)
        else:
            await world.load.answers(503, 30)
            before = world.load.fresh
            await world.load.answers(503, 30)
            if world.load.fresh != before:
                world.breaches.append(f"cycle {world.cycles}: answered with success while {kind}")
        world.inject(kind)
        if dies:
            await world.kill(world.ingest.command)
        world.shim.calm()
        if dies:
            await world.bring_up(world.ingest)
        await world.load.more(50)
