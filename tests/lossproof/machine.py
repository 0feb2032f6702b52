"""The machine: its clock jumps, its file descriptors run out."""

from __future__ import annotations

import asyncio
import resource
from urllib.parse import urlsplit

from tests.lossproof.world import World

_HOUR_S = 3600


async def clock(world: World) -> None:
    """The wall clock jumps while it runs, and between two lives."""
    assert world.shim is not None
    rng = world.rng
    while True:
        offset, dies = rng.choice((-_HOUR_S, 0, _HOUR_S)), rng.random() < 0.5
        if not world.cycle(f"clock {offset:+d} s{', then SIGKILL' if dies else ''}"):
            break
        await world.load.more(100)
        world.shim.set(clock_offset_s=offset)
        await world.load.more(100)
        if dies:
            gateway = rng.choice(world.gateways)
            await gateway.kill()
            await world.bring_up(gateway)
    world.shim.calm()


async def files(world: World) -> None:
    """Connections that nobody needs take every descriptor the process may have; it goes on when they leave."""
    gateway = world.ingest
    while True:
        room = world.rng.randint(0, 3)
        if not world.cycle(f"all but {room} file descriptors taken"):
            return
        await world.load.more(50)
        used = gateway.open_files()
        before = resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (used + room + 20, before[1]))
        port = urlsplit(gateway.url).port
        # The kernel accepts into the backlog, so that more can connect than the process may have.
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(room + 40)]
        await asyncio.sleep(1.0)
        for _, writer in idle:
            writer.transport.abort()
        resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, before)
        await world.load.more(50)
