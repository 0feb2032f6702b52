"""The broker and the way to it."""

from __future__ import annotations

from typing import Final

from gateway.publisher import GROUP
from tests.lossproof.roles import ingest_config
from tests.lossproof.world import World
from tests.waiting import pause

ENDS: Final = ("SIGKILL", "SIGTERM", "SIGSTOP")
AWAY: Final = ("SIGKILL", "SIGSTOP")
TROUBLES: Final = ("cut", "swallows", "slow")


async def broker(world: World) -> None:
    """SIGKILL, an orderly stop or SIGSTOP of the broker for a while; callbacks are taken all the time."""
    for how in world.deal(ENDS):
        seconds = world.rng.uniform(1.0, 8.0)
        if not world.cycle(f"broker: {how} for {seconds:.1f} s"):
            return
        await world.load.more(100)
        await world.broker_away(how)
        await world.load.more(100)
        await pause(seconds, "so long it is away")
        await world.broker_back(how)
        await world.delivered_more(50, within_s=120)


async def outage(world: World) -> None:
    """The gateway is killed while the broker is away: what it took meanwhile is in its journal alone."""
    for how in world.deal(AWAY):
        count = world.rng.randint(50, 300)
        if not world.cycle(f"broker: {how}, {count} events later SIGKILL {world.ingest.command}"):
            return
        await world.broker_away(how)
        await world.load.more(count)
        await world.positions_stored(GROUP)
        await world.kill(world.ingest.command)
        world.inject("SIGKILL while the broker is away")
        await world.broker_back(how)
        await world.bring_up(world.ingest)
        await world.delivered_more(20, within_s=120)


async def network(world: World) -> None:
    """The proxy between gateway and broker resets, swallows or delays."""
    assert world.proxy is not None
    proxy = world.proxy
    for how in world.deal(TROUBLES):
        seconds = world.rng.uniform(2.0, 12.0)
        if not world.cycle(f"network: {how} for {seconds:.1f} s"):
            return
        await world.load.more(100)
        if how == "cut":
            proxy.cut()
        elif how == "swallows":
            proxy.swallow()
        else:
            proxy.delay_s = 0.2
        await world.load.more(100)
        await pause(seconds, "so long it is away")
        proxy.heal()
        world.inject(f"network {how}")
        await world.delivered_more(50, within_s=120)


def small_journal(world: World) -> None:
    """So that an outage of seconds fills it."""
    world.config["journal"] = {"dir": str(world.folder / "data"), "max_bytes": "1MiB"}
    world.config["ingest"] = {**ingest_config(), "dedup_window": 100}


async def journal_full(world: World) -> None:
    """The broker is away until callbacks are answered 503; when it is back the gateway takes them again by itself."""
    while world.cycle("broker suspended until the journal is full"):
        await world.load.more(50)
        await world.broker_away("SIGSTOP")
        await world.load.answers(503, 20, within_s=90)
        await world.broker_back("SIGSTOP")
        world.inject("journal full")
        await world.load.more(200, within_s=90)
