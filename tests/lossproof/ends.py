"""Processes that end: killed, asked to, at chosen points; and one that does not move for a while."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from tests.lossproof.process import Gateway
from tests.lossproof.world import World

#: Where a process can be made to end, by what it runs.
_POINTS: Final = {
    ("embedded", "run"): ("before_commit", "after_commit", "after_delivery"),
    ("kafka", "run"): ("before_commit", "after_commit", "after_publish", "after_delivery"),
    ("split", "serve"): ("before_commit", "after_commit", "after_publish"),
    ("split", "fanout"): ("after_delivery",),
}


async def kill(world: World) -> None:
    """SIGKILL after a drawn number of callbacks or deliveries; every fifth time once more while it starts."""
    rng = world.rng
    while True:
        gateway = rng.choice(world.gateways)
        by_delivery, count, again_s = rng.random() < 0.5, rng.randint(1, 200), rng.uniform(0, 1.5)
        is_twice = rng.random() < 0.2
        twice = f", again {again_s:.2f} s into its start" if is_twice else ""
        what = "deliveries" if by_delivery else "events"
        if not world.cycle(f"SIGKILL {gateway.command} after {count} {what}{twice}"):
            return
        await (world.delivered_more(count) if by_delivery else world.load.more(count))
        await gateway.kill()
        if is_twice:
            await gateway.launch(broken=world.broken)
            await asyncio.sleep(again_s)
            await gateway.kill()
        await world.bring_up(gateway)


async def backlog(world: World) -> None:
    """SIGKILL while every subscriber is slow, so that much is read and little delivered."""
    rng = world.rng
    while True:
        count = rng.randint(50, 200)
        if not world.cycle(f"SIGKILL {world.fanout.command} while subscribers are slow, {count} events behind"):
            return
        for receiver in world.receivers:
            receiver.mood = "slow"
        await world.load.more(count)
        await asyncio.sleep(0.5)  # positions are stored four times a second; one that ran ahead must be
        await world.fanout.kill()
        for receiver in world.receivers:
            receiver.mood = "well"
        await world.bring_up(world.fanout)


async def points(world: World) -> None:
    """Each process ends by itself where it is told to, by SIGKILL for the most part."""
    rng = world.rng
    while True:
        gateway = rng.choice(world.gateways)
        name = rng.choice(_POINTS[world.mode, gateway.command])
        number = rng.choice(("KILL", "KILL", "KILL", "TERM"))
        point = f"{name}:{rng.randint(1, 60)}:{number}"
        if not world.cycle(f"{gateway.command} ends at {point}"):
            return
        await gateway.kill()
        await gateway.launch(point, world.broken)
        await gateway.ended(90)
        await world.bring_up(gateway)


async def term(world: World) -> None:
    """SIGTERM under load: what was read is answered, what was answered is there."""
    rng = world.rng
    while True:
        gateway, count = rng.choice(world.gateways), rng.randint(1, 300)
        if not world.cycle(f"SIGTERM {gateway.command} after {count} events"):
            return
        await world.load.more(count)
        await _terminate(world, gateway)
        await world.bring_up(gateway)


async def freeze(world: World) -> None:
    """SIGSTOP: short ones, and one of 30 s in a long run, past every time-out of the client and of Kafka."""
    rng = world.rng
    while True:
        gateway = rng.choice(world.gateways)
        seconds = 30.0 if world.cycles == 1 and world.is_long else rng.uniform(0.5, 3.0)
        if not world.cycle(f"SIGSTOP {gateway.command} for {seconds:.1f} s"):
            return
        await world.load.more(50)
        await gateway.stop_for(seconds)
        await world.load.more(50)


async def rolling(world: World) -> None:
    """A new version: fan-out first, then intake, each while the other goes on."""
    rng = world.rng
    while True:
        count = rng.randint(100, 400)
        if not world.cycle(f"replace fanout, then serve, {count} events between"):
            return
        for gateway in reversed(world.gateways):
            await world.load.more(count)
            await _terminate(world, gateway)
            await world.bring_up(gateway)
        await world.delivered_more(count)


async def _terminate(world: World, gateway: Gateway) -> None:
    with suppress(ProcessLookupError):
        code = await gateway.terminate()
        if code:
            world.breaches.append(f"{gateway.command} ended with {code} after SIGTERM, and not with 0")
