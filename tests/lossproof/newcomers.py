"""Subscribers with ``start: latest``, added when neither Kafka nor the disk can keep where that is.

Where such a subscriber begins is the moment in which a process of the gateway first applied the configuration that
names it. Everything that is first sent after the log line ``config.applied`` (or ``gateway.started``) must come to it,
and nothing of long before.
"""

from __future__ import annotations

import os
import signal
from typing import Final

from tests.lossproof.callbacks import TOPICS
from tests.lossproof.disk import FAILURES
from tests.lossproof.history import now
from tests.lossproof.network import AWAY
from tests.lossproof.process import Gateway
from tests.lossproof.receiver import Receiver
from tests.lossproof.roles import NO_TIERS
from tests.lossproof.world import World

FRESH: Final = "subscriber added on a fresh cluster"
ADDED: Final = "subscriber added while the broker is away"
THEN_KILLED: Final = "subscriber added while the broker is away, then SIGKILL"
BAD_DISK: Final = "subscriber added while fsync fails"
#: Between two requests of a client: each subscriber more gets everything.
_PAUSE_S: Final = 0.1
FAULTS: Final = (FRESH, ADDED, THEN_KILLED)


def fresh(world: World) -> None:
    """Add one from the start. ``serve`` accepts before ``fanout``, and the broker, run for the first time."""
    world.receivers.append(_newcomer("fresh"))
    world.is_ingest_first = True


async def added(world: World) -> None:
    """Add one by SIGHUP in an outage; kill the process that knows of it before Kafka does."""
    rng = world.rng
    world.load.pause_s = _PAUSE_S
    world.inject(FRESH)
    await world.caught_up()
    for how, dies in world.deal([(how, dies) for how in AWAY for dies in (False, True)]):
        counts = [rng.randint(20, 100) for _ in range(4)]
        if not world.cycle(f"broker: {how}, subscriber added{f', SIGKILL {world.ingest.command}' if dies else ''}"):
            return
        receiver = _newcomer(f"added-{world.cycles}")
        receiver.not_before = now()
        await world.load.more(counts[0])
        await world.broker_away(how)
        await world.load.more(counts[1])
        await world.join(receiver)
        await _apply(world.ingest, receiver)
        receiver.added_at = now()
        await world.load.more(counts[2])
        if dies:
            await world.kill(world.ingest.command)
            await world.bring_up(world.ingest)
            await world.load.more(20)
        if world.fanout is not world.ingest:
            await _apply(world.fanout, receiver)
        await world.broker_back(how)
        world.inject(THEN_KILLED if dies else ADDED)
        await world.load.more(counts[3])
        await world.caught_up()


async def added_on_a_bad_disk(world: World) -> None:
    """Add one by SIGHUP while the journal cannot store where it begins; everything accepted since must come to it."""
    assert world.shim is not None
    for dies in world.deal((False, True)):
        count = world.rng.randint(50, 200)
        if not world.cycle(f"fsync fails, subscriber added{', SIGKILL' if dies else ''}"):
            return
        receiver = _newcomer(f"added-{world.cycles}")
        await world.load.more(count)
        await world.caught_up()
        receiver.not_before = now()
        await world.load.more(count)
        world.shim.set(**FAILURES["fsync fails"])
        await world.load.answers(503, 30)
        await world.join(receiver)
        await _apply(world.ingest, receiver)
        receiver.added_at = now()
        world.inject(f"{BAD_DISK}{', then SIGKILL' if dies else ''}")
        if dies:
            await world.kill(world.ingest.command)
        world.shim.calm()
        if dies:
            await world.bring_up(world.ingest)
        await world.load.more(count)
        await world.caught_up()


def _newcomer(name: str) -> Receiver:
    return Receiver(name, TOPICS, settings={**NO_TIERS, "start": "latest"})


async def _apply(gateway: Gateway, receiver: Receiver) -> None:
    """Give a running process the configuration with this subscriber, and wait until it says that it is in force."""
    gateway.config["subscribers"] = [*gateway.config["subscribers"], receiver.row()]
    gateway.write()
    os.kill(gateway.pid, signal.SIGHUP)
    await gateway.logged("config.applied", where=lambda line: receiver.name in line["subscribers"])
