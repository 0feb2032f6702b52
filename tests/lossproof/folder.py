"""The journal's files are removed, moved, replaced or cut under a gateway that has them open."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final, Literal

import aiohttp

from tests.lossproof.damage import MAIN, WAL
from tests.lossproof.destroyed import Removal
from tests.lossproof.disk import salvage
from tests.lossproof.history import now
from tests.lossproof.world import World
from tests.waiting import until

#: Within which the gateway must have named it and be not ready. It compares its files before a commit when the newest
#: comparison is 0.1 s old, and every second by itself; the rest is for a busy machine.
NOTICED_S: Final = 3.0
#: The log line that names it.
NAMED: Final = "journal.moved"

#: What is done to the files → how the gateway comes to a journal again.
WAYS: Final[dict[str, Literal["new", "rescued", "put back", "restarted", "salvaged"]]] = {
    "folder removed": "new",
    "folder removed, then rescued": "rescued",
    "folder moved away and back": "put back",
    "folder replaced by an empty one": "new",
    "WAL removed": "restarted",
    "WAL cut to nothing": "salvaged",
}
#: Those that destroy what the gateway accepted. After the others nothing at all may be missing.
_DESTRUCTIVE: Final = ("new", "salvaged")
_ENDS: Final = ("SIGKILL", "SIGTERM")


async def gone(world: World) -> None:
    """Take the files away under load. The gateway must refuse callbacks, and take them again when it has a journal."""
    rng, gateway = world.rng, world.ingest
    world.destroyed.is_the_log = world.mode == "embedded"
    for how in world.deal(list(WAYS)):
        count, end = rng.randint(50, 300), rng.choice(_ENDS)
        if not world.cycle(f"journal: {how} after {count} events, {end}"):
            return
        await world.load.more(count)
        since = now()
        await world.caught_up()
        named = len(gateway.told(NAMED))
        _take_away(world.data, how, world.cycles)
        world.inject(f"journal: {how}")
        if is_noticed := await _is_noticed(world, named):
            await _refused(world, how)
            if WAYS[how] in _DESTRUCTIVE:
                world.destroyed.removals.append(Removal(since, now()))
        else:
            world.breaches.append(f"cycle {world.cycles}: {how}, and not noticed within {NOTICED_S:.0f} s")
            await world.load.more(100)
        await _bring_back(world, WAYS[how] if is_noticed else "new", end)
        await world.load.more(50)


def _take_away(folder: Path, how: str, cycle: int) -> None:
    if how == "WAL removed":
        (folder / WAL).unlink()
    elif how == "WAL cut to nothing":
        with (folder / WAL).open("r+b") as file:
            file.truncate()
    elif how.startswith("folder removed"):
        while folder.exists():  # the gateway may create files in it meanwhile
            shutil.rmtree(folder, ignore_errors=True)
    else:
        folder.rename(_away(folder, cycle))
        if how == "folder replaced by an empty one":
            folder.mkdir()


def _away(folder: Path, cycle: int) -> Path:
    return folder.with_name(f"{folder.name}-away-{cycle}")


async def _is_noticed(world: World, named: int) -> bool:
    """Wait until the gateway has named it once more and is not ready; False when that takes too long."""
    gateway = world.ingest
    async with aiohttp.ClientSession() as session:

        async def is_so() -> bool:  # readiness has no signal
            async with session.get(f"{gateway.admin_url}/readyz") as answer:
                return answer.status != 200 and len(gateway.told(NAMED)) > named

        try:
            return await until(is_so, within_s=NOTICED_S)
        except TimeoutError:
            return False


async def _refused(world: World, how: str) -> None:
    """Now no callback may be answered with success, not even a repeat: what it repeats may be gone."""
    await world.load.answers(503, 20)
    accepted = world.load.accepted
    await world.load.answers(503, 40)
    if world.load.accepted != accepted:
        world.breaches.append(f"cycle {world.cycles}: answered with success without a journal ({how})")


async def _bring_back(world: World, way: str, end: str) -> None:
    """Do as an operator would, by the advice in the log."""
    gateway = world.ingest
    if way == "put back":
        _away(world.data, world.cycles).rename(world.data)
        await world.load.more(50)  # without a restart
    rescued = _rescued(world) if way == "rescued" else None
    await world.end(gateway, end, is_well=False)
    if rescued is not None:
        rescued.rename(world.data)
    if way == "salvaged":
        await salvage(world)
    await world.bring_up(gateway)


def _rescued(world: World) -> Path:
    """Copy the open files as the log line advises."""
    advice = world.ingest.told(NAMED)[-1]["advice"]
    new = world.folder / f"rescued-{world.cycles}"
    new.mkdir()
    for name in (MAIN, WAL):
        found = re.search(rf"(/proc/\d+/fd/\d+) to NEW/{re.escape(name)}[ ,;]", advice)
        if found is None:
            raise AssertionError(f"no way to save {name} in the advice: {advice}")
        shutil.copyfile(found[1], new / name)
    return new
