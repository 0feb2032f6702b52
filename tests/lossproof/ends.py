"""Processes that end: killed, asked to, at chosen points; and one that does not move for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from tests.lossproof.process import Gateway
from tests.lossproof.world import BROKER, Mode, World

#: Where a process can be made to end, by what it runs.
POINTS: Final[Mapping[Mode, Mapping[str, tuple[str, ...]]]] = {
    "embedded": {"run": ("before_commit", "after_commit", "after_delivery")},
    "kafka": {"run": ("before_commit", "after_commit", "after_publish", "after_delivery")},
    "split": {"serve": ("before_commit", "after_commit", "after_publish"), "fanout": ("after_delivery",)},
}
SIGNALS: Final = ("KILL", "TERM")
#: Past every time-out of the clients, of the subscribers and of Kafka's sessions.
LONG_S: Final = 30.0


async def kill(world: World) -> None:
    """SIGKILL of every role in each cycle: one after the other under load, or all together; some while they start."""
    rng = world.rng
    while True:
        order = rng.sample(world.roles, len(world.roles))
        is_together = len(order) > 1 and rng.random() < 0.25
        by_delivery, counts = rng.random() < 0.5, [rng.randint(1, 150) for _ in order]
        again, again_s = rng.choice(order), rng.uniform(0, 1.5) if rng.random() < 0.2 else 0.0
        how = (
            " + ".join(order)
            if is_together
            else ", ".join(f"{c} events, {r}" for r, c in zip(order, counts, strict=True))
        )
        twice = f", {again} again {again_s:.2f} s into its start" if again_s and again != BROKER else ""
        if not world.cycle(f"SIGKILL {how}{' by deliveries' if by_delivery else ''}{twice}"):
            return
        await (world.delivered_more(counts[0], 120) if by_delivery else world.load.more(counts[0]))
        async with asyncio.TaskGroup() as starting:
            if is_together:
                for role in order:
                    await world.kill(role)
            for role, count in zip(order, counts, strict=True):
                if not is_together:
                    if role != order[0]:
                        await world.load.more(count)
                    await world.kill(role)
                restart = _restart(world, role, again_s if twice and role == again else 0.0)
                if role == world.ingest.command:
                    await restart  # the load has to flow for what comes next
                else:
                    starting.create_task(restart)
        await world.delivered_more(20, 120)


async def _restart(world: World, role: str, again_s: float) -> None:
    if again_s:
        gateway = world.gateway(role)
        await gateway.launch(broken=world.broken)
        await asyncio.sleep(again_s)
        await world.kill(role)
    await world.restart(role)


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
        await world.kill(world.fanout.command)
        world.inject("SIGKILL with a backlog")
        for receiver in world.receivers:
            receiver.mood = "well"
        await world.bring_up(world.fanout)


async def points(world: World) -> None:
    """Each process ends by itself at each of its points, by either signal."""
    rng = world.rng
    places = [(role, point, how) for role, of in POINTS[world.mode].items() for point in of for how in SIGNALS]
    down: Gateway | None = None
    for role, name, how in world.deal(places):
        point = f"{name}:{rng.randint(1, 60)}:{how}"
        if not world.cycle(f"{role} ends at {point}"):
            break
        gateway = world.gateway(role)
        if gateway is not down:
            if down is not None:
                await world.bring_up(down)
            await gateway.kill()
        await gateway.launch(point, world.broken)
        await gateway.ended(90)
        world.inject(f"SIG{how} {name}")
        down = gateway
    if down is not None:
        await world.bring_up(down)


async def term(world: World) -> None:
    """SIGTERM under load: what was read is answered, what was answered is there."""
    rng = world.rng
    for gateway in world.deal(world.gateways):
        count = rng.randint(1, 300)
        if not world.cycle(f"SIGTERM {gateway.command} after {count} events"):
            return
        await world.load.more(count)
        await _terminate(world, gateway)
        await world.bring_up(gateway)


async def freeze(world: World) -> None:
    """SIGSTOP: of each role for 30 s in a whole run, then for short times."""
    rng = world.rng
    for role in world.deal(world.roles):
        is_long = world.is_long and world.cycles < len(world.roles)
        seconds = LONG_S if is_long else rng.uniform(0.5, 3.0)
        if not world.cycle(f"SIGSTOP {role} for {seconds:.1f} s"):
            return
        await world.load.more(50)
        if role == BROKER:
            await world.broker_away("SIGSTOP")
            await asyncio.sleep(seconds)
            await world.broker_back("SIGSTOP")
        else:
            await world.gateway(role).stop_for(seconds)
        world.inject(f"SIGSTOP {'30 s ' if is_long else ''}{role}")
        await world.load.more(50)
        await world.delivered_more(20, 120)


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
        world.inject("rolling upgrade")


async def _terminate(world: World, gateway: Gateway) -> None:
    with suppress(ProcessLookupError):
        code = await gateway.terminate()
        world.inject(f"SIGTERM {gateway.command}")
        if code:
            world.breaches.append(f"{gateway.command} ended with {code} after SIGTERM, and not with 0")
