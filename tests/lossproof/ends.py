"""Processes that end: killed, asked to, at chosen points; and some that do not move for a while."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from gateway.fanout.reader import group_name
from tests.lossproof.process import Gateway
from tests.lossproof.roles import BROKER, CHILDREN, COMMANDS, ROLES, SUPERVISOR, Mode
from tests.lossproof.world import World
from tests.waiting import pause

_LOG: Final = ("before_commit", "after_commit", "before_acknowledgement", "torn_acknowledgement", "torn_push")
_INGEST: Final = ("torn_frame", "after_frame", "before_answer")
#: Where a process can be made to end, by its kind. See ``hooks``.
POINTS: Final[Mapping[Mode, Mapping[str, tuple[str, ...]]]] = {
    "embedded": {"run/log": _LOG, "run/ingest": _INGEST, "run/deliver": ("after_delivery", "torn_note")},
    "kafka": {"run/log": _LOG, "run/ingest": _INGEST, "run/deliver": ("after_publish", "after_delivery", "torn_note")},
    "split": {
        "serve/log": _LOG,
        "serve/ingest": _INGEST,
        "serve/deliver": ("after_publish", "torn_note"),
        "fanout/deliver": ("after_delivery",),
    },
}
SIGNALS: Final = ("KILL", "TERM")
#: How the log process dies while the others wait for it.
AT_RANDOM: Final = "at random"
RECONNECTS: Final = (AT_RANDOM, *_LOG[:-1])
#: Past every time-out of the clients, of the link, of the subscribers and of Kafka's sessions.
LONG_S: Final = 30.0
#: What waits for a log process that is back within this is not refused: ingest keeps it for 2 s.
_SOON_S: Final = 1.2


def frozen(mode: Mode) -> tuple[str, ...]:
    """What is stopped. A supervisor alone does nothing for as long as nothing ends."""
    return tuple(role for role in ROLES[mode] if not role.endswith(SUPERVISOR))


def terminated(mode: Mode) -> tuple[str, ...]:
    """What gets SIGTERM: one child, or the supervisor, which sends it to all of its own."""
    return (*CHILDREN[mode], *COMMANDS[mode])


@dataclass(frozen=True, slots=True)
class _Round:
    """One cycle of kills, drawn before the first.

    Args:
        order: the roles.
        tops: those of them that end a supervisor.
        counts: events before each.
        draws: from 0 to 1, which of several of a kind.
        is_together: all but the tops at once.
        by_delivery: the first after so many deliveries.
        again: is killed once more, ``again_s`` after its start began; 0 is never.
    """

    order: tuple[str, ...]
    tops: tuple[str, ...]
    counts: Mapping[str, int]
    draws: Mapping[str, float]
    is_together: bool
    by_delivery: bool
    again: str
    again_s: float

    @classmethod
    def of(cls, world: World, tops: tuple[str, ...]) -> _Round:
        """Draw one."""
        rng = world.rng
        order = [*rng.sample(world.children, len(world.children)), *rng.sample(tops, len(tops))]
        again = rng.choice(order)
        if world.mode != "embedded":
            order.insert(rng.randrange(len(order)), BROKER)
        return cls(
            tuple(order),
            tops,
            {role: rng.randint(1, 150) for role in order},
            {role: rng.random() for role in order},
            rng.random() < 0.25,
            rng.random() < 0.5,
            again,
            rng.uniform(0, 1.5 if again in tops else 0.5) if rng.random() < 0.3 else 0.0,
        )

    def __str__(self) -> str:
        counted = [f"{self.counts[role]} events, {role}" for role in self.order]
        each = " + ".join(self.order) if self.is_together else ", ".join(counted)
        again = f", {self.again} again {self.again_s:.2f} s into its start" if self.again_s else ""
        return f"{each}{' by deliveries' if self.by_delivery else ''}{again}"


async def kill(world: World) -> None:
    """SIGKILL of every kind of process and of the broker in each cycle: one after the other under load, or together.

    Then of the supervisors: alone, so that their children have to end and be started again by another one, or with all
    their children at once. Some are killed again while they start.
    """
    tops = [world.deal((command, f"{command}/{SUPERVISOR}")) for command in COMMANDS[world.mode]]
    while True:
        drawn = _Round.of(world, tuple(next(of) for of in tops))
        if not world.cycle(f"SIGKILL {drawn}"):
            return
        first = drawn.counts[drawn.order[0]]
        await (world.delivered_more(first, 120) if drawn.by_delivery else world.load.more(first))
        await _kill_each(world, drawn)
        await world.delivered_more(20, 120)


async def _kill_each(world: World, drawn: _Round) -> None:
    """Kill and start again; the first now. All are there when this returns."""
    async with asyncio.TaskGroup() as starting:
        if drawn.is_together:
            at_once = [role for role in drawn.order if role not in drawn.tops]
            await asyncio.gather(*(world.kill(role, drawn.draws[role]) for role in at_once))
        for role in drawn.order:
            if role != drawn.order[0]:
                await world.load.more(drawn.counts[role])
            if role in drawn.tops:
                await world.gateway(role).whole()
            if role in drawn.tops or not drawn.is_together:
                await world.kill(role, drawn.draws[role])
            restart = _restart(world, role, drawn.again_s if role == drawn.again else 0.0)
            if role == BROKER or (role in drawn.tops and world.gateway(role) is not world.ingest):
                starting.create_task(restart)
            else:
                await restart  # the load has to flow for what comes next
    for gateway in world.gateways:
        await gateway.whole()


async def _restart(world: World, role: str, again_s: float) -> None:
    gateway = world.gateway(role) if role != BROKER else None
    if role in world.children:  # which its supervisor starts while the next is killed
        if again_s:
            await pause(again_s, "the first start is so far when the second end comes")
            await world.kill(role)
        return
    if gateway is not None and again_s:
        await gateway.launch(broken=world.broken)
        await pause(again_s, "the first start is so far when the second end comes")
        await world.kill(gateway.command)
    await world.restart(role)


async def reconnect(world: World) -> None:
    """The log process dies around a commit and its acknowledgement. What waits is stored once, and not refused."""
    gateway = world.ingest
    for point in world.deal(RECONNECTS):
        passages, draw = world.rng.randint(20, 80), world.rng.random()
        if not world.cycle(f"log dies {point}, {passages} passages later"):
            return
        await _terminate(world, gateway)
        await world.bring_up(gateway, "" if point == AT_RANDOM else f"{point}:{passages}:KILL")
        refused, silent = world.load.statuses[503], world.load.statuses[0]
        if point == AT_RANDOM:
            await world.load.more(passages)
            await gateway.end_child("log", signal.SIGKILL, draw)
        else:
            await gateway.died("log")
        since = time.monotonic()
        await gateway.whole()
        is_soon = time.monotonic() - since < _SOON_S
        await world.load.settled()
        await world.load.more(50)
        world.inject(f"log dies {point}")
        if count := world.load.statuses[0] - silent:
            world.breaches.append(f"cycle {world.cycles}: {count} callbacks were not answered when the log died")
        if is_soon:
            world.inject("log dies, and is back soon")
            if count := world.load.statuses[503] - refused:
                world.breaches.append(f"cycle {world.cycles}: {count} callbacks were refused, and a log was back soon")


async def backlog(world: World) -> None:
    """SIGKILL while every subscriber is slow, so that much is read and little delivered."""
    rng = world.rng
    for role in world.deal((f"{world.fanout.command}/deliver", world.fanout.command)):
        count = rng.randint(50, 200)
        if not world.cycle(f"SIGKILL {role} while subscribers are slow, {count} events behind"):
            return
        for receiver in world.receivers:
            receiver.mood = "slow"
        world.receivers[0].mood = "hang"  # it takes nothing: a backlog that does not depend on the machine's speed
        await world.load.more(count)
        await world.positions_stored(group_name(world.receivers[0].name))
        await world.kill(role)
        world.inject("SIGKILL with a backlog")
        for receiver in world.receivers:
            receiver.mood = "well"
        await world.restart(role)


async def points(world: World) -> None:
    """Each process ends by itself at each of its points: killed alone, or with all others when it all is stopped."""
    rng = world.rng
    places = [(role, point, how) for role, of in POINTS[world.mode].items() for point in of for how in SIGNALS]
    for role, name, how in world.deal(places):
        point = f"{name}:{rng.randint(1, 60)}:{how}"
        if not world.cycle(f"{role} ends at {point}"):
            return
        gateway, kind = world.gateway(role), role.partition("/")[2]
        await gateway.kill()
        await gateway.launch(point, world.broken)
        if how == "KILL":
            await gateway.died(kind)
            await gateway.whole()
        else:
            await gateway.ended(90)
            await world.bring_up(gateway)
        world.inject(f"SIG{how} {role} {name}")


async def term(world: World) -> None:
    """SIGTERM under load: what was read is answered, what was answered is there. Of one child, or of all."""
    rng = world.rng
    for role in world.deal(terminated(world.mode)):
        count, draw = rng.randint(1, 300), rng.random()
        if not world.cycle(f"SIGTERM {role} after {count} events"):
            return
        await world.load.more(count)
        gateway = world.gateway(role)
        if role in world.children:
            code = await gateway.end_child(role.partition("/")[2], signal.SIGTERM, draw)
            world.inject(f"SIGTERM {role}")
            if code:
                world.breaches.append(f"{role} ended with {code} after SIGTERM, and not with 0")
            await gateway.whole()
        else:
            await _terminate(world, gateway)
            await world.bring_up(gateway)


async def freeze(world: World) -> None:
    """SIGSTOP: of each for 30 s in a whole run, then for short times."""
    rng = world.rng
    roles = frozen(world.mode)
    for role in world.deal(roles):
        is_long = world.is_long and world.cycles < len(roles)
        seconds, draw = LONG_S if is_long else rng.uniform(0.5, 3.0), rng.random()
        if not world.cycle(f"SIGSTOP {role} for {seconds:.1f} s"):
            return
        await world.load.more(50)
        if role == BROKER:
            await world.broker_away("SIGSTOP")
            await pause(seconds, "so long it is stopped")
            await world.broker_back("SIGSTOP")
        else:
            gateway, kind = world.gateway(role), role.partition("/")[2]
            pids = [(await gateway.child(kind, draw))[1]] if kind else gateway.pids
            await gateway.stop_for(seconds, pids)
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
