"""The machine: its clock jumps, its file descriptors run out."""

from __future__ import annotations

import asyncio
import resource
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.lossproof.world import World
from tests.waiting import pause, until

_HOUR_S: Final = 3600
#: More than an hour ahead is what brokers refuse as a record's time: nothing is published until the clock is right.
JUMPS: Final = (-1, 1, 2, 0)


async def clock(world: World) -> None:
    """The wall clock jumps while it runs, and between two lives; 0 is back to what it should be."""
    assert world.shim is not None
    rng = world.rng
    for hours in world.deal(JUMPS):
        dies = rng.random() < 0.5
        if not world.cycle(f"clock {hours:+d} h{', then SIGKILL' if dies else ''}"):
            break
        await world.load.more(100)
        world.shim.set(clock_offset_s=hours * _HOUR_S)
        await world.load.more(100)
        if hours:
            world.inject(f"clock {hours:+d} h")
        if dies:
            gateway = rng.choice(world.gateways)
            await world.kill(gateway.command)
            await world.bring_up(gateway)
    world.shim.calm()


async def files(world: World) -> None:
    """Connections that nobody needs take every descriptor the processes may have; it goes on when they leave."""
    gateway = world.ingest
    while True:
        room = world.rng.randint(0, 3)
        if not world.cycle(f"all but {room} file descriptors taken"):
            return
        await world.load.more(50)
        children = {name: child.pid for name, child in gateway.children.items()}
        before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in children.values()}
        taking = [pid for name, pid in children.items() if name.startswith("ingest")]
        # The others open files and connections of their own, and take what is left by themselves.
        most = {pid: _open_files(pid) + room + (20 if pid in taking else 0) for pid in children.values()}
        for pid, count in most.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, before[pid][1]))
        port = urlsplit(gateway.url).port
        idle: list[asyncio.StreamWriter] = []
        with suppress(TimeoutError):
            await until(partial(_are_full, {pid: most[pid] for pid in taking}, port, idle), within_s=20)
            await pause(1.0, "time for what fails without a descriptor: accepting, opening, connecting")
            world.inject("out of file descriptors")
        for writer in idle:
            writer.transport.abort()
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        await world.load.more(50)


async def _are_full(most: dict[int, int], port: int, idle: list[asyncio.StreamWriter]) -> bool:
    """Connect some more until each process has as many descriptors as it may: the table of its files has no event.

    One process may get most connections, and closes those for which it has no descriptor. The kernel accepts into the
    backlog.
    """
    if all(_open_files(pid) >= count for pid, count in most.items()):
        return True
    idle.extend([(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(10)])
    return False


def _open_files(pid: int) -> int:
    """File descriptors in use."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
