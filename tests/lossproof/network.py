"""The broker and the way to it."""

from __future__ import annotations

import asyncio

from tests.lossproof.world import World


async def broker(world: World) -> None:
    """SIGKILL, an orderly stop or SIGSTOP of the broker for a while; callbacks are taken all the time."""
    assert world.broker is not None
    node = world.broker.nodes[0]
    rng = world.rng
    while True:
        how, seconds = rng.choice(("kill", "stop", "suspend")), rng.uniform(1.0, 8.0)
        if not world.cycle(f"broker: {how} for {seconds:.1f} s"):
            return
        await world.load.more(100)
        if how == "suspend":
            node.suspend()
        else:
            await asyncio.to_thread(node.kill if how == "kill" else node.stop)
        await world.load.more(100)
        await asyncio.sleep(seconds)
        if how == "suspend":
            node.resume()
        else:
            await asyncio.to_thread(node.start)
        await world.delivered_more(50, within_s=120)


async def outage(world: World) -> None:
    """The gateway is killed while the broker is away: what it took meanwhile is in its journal alone."""
    assert world.broker is not None
    node = world.broker.nodes[0]
    rng = world.rng
    while True:
        how, count = rng.choice(("kill", "suspend")), rng.randint(50, 300)
        if not world.cycle(f"broker: {how}, {count} events later SIGKILL {world.ingest.command}"):
            return
        await (asyncio.to_thread(node.kill) if how == "kill" else asyncio.to_thread(node.suspend))
        await world.load.more(count)
        await asyncio.sleep(0.5)  # positions are stored four times a second; one that ran ahead must be
        await world.ingest.kill()
        if how == "kill":
            await asyncio.to_thread(node.start)
        else:
            node.resume()
        await world.bring_up(world.ingest)
        await world.delivered_more(20, within_s=120)


async def network(world: World) -> None:
    """The proxy between gateway and broker resets, swallows or delays."""
    assert world.proxy is not None
    proxy = world.proxy
    rng = world.rng
    while True:
        how, seconds = rng.choice(("cut", "swallow", "slow")), rng.uniform(2.0, 12.0)
        if not world.cycle(f"network: {how} for {seconds:.1f} s"):
            return
        await world.load.more(100)
        if how == "cut":
            proxy.cut()
        elif how == "swallow":
            proxy.swallow()
        else:
            proxy.delay_s = 0.2
        await world.load.more(100)
        await asyncio.sleep(seconds)
        proxy.heal()
        await world.delivered_more(50, within_s=120)


def small_journal(world: World) -> None:
    """So that an outage of seconds fills it."""
    world.config["journal"] = {"dir": str(world.folder / "data"), "max_bytes": "1MiB"}
    world.config["ingest"] = {**world.ingest_config(), "dedup_window": 100}


async def journal_full(world: World) -> None:
    """The broker is away until callbacks are answered 503; when it is back the gateway takes them again by itself."""
    assert world.broker is not None
    node = world.broker.nodes[0]
    while world.cycle("broker suspended until the journal is full"):
        await world.load.more(50)
        node.suspend()
        await world.load.answers(503, 20, within_s=90)
        node.resume()
        await world.load.more(200, within_s=90)
