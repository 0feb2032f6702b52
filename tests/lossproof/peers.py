"""Subscribers: they fail in every way, they come and go."""

from __future__ import annotations

import os
import signal
from typing import Final

from tests.lossproof.callbacks import TOPICS
from tests.lossproof.receiver import MOODS, Mood, Receiver
from tests.lossproof.world import World
from tests.waiting import pause, until

ALL_FAIL: Final = "every failure of subscribers at once"
RELOADS: Final = ("a subscriber changes", "a subscriber leaves", "a bad file")


def bad_company(world: World) -> None:
    """Beside the good ones: one for each way to fail, one that lets nothing pass, one that will be gone."""
    for mood in MOODS:
        # What is retried for long may be passed by others of its key: no order is promised.
        world.receivers.append(Receiver(f"bad-{mood}", TOPICS, is_ordered=False))
    world.receivers.append(Receiver("strict", TOPICS, settings={"on_failure": "block"}))
    world.receivers.append(Receiver("leaver", ("sms.dr",)))


async def fail(world: World) -> None:
    """All bad ones fail at once for a while, then are well again; the good ones must not notice."""
    bad = {receiver.name.removeprefix("bad-"): receiver for receiver in world.receivers}
    rng = world.rng
    while True:
        seconds, strict = rng.uniform(1.0, 3.0), rng.choice(("500", "503", "reset", "half"))
        if not world.cycle(f"all fail for {seconds:.1f} s, strict by {strict}"):
            break
        for name in MOODS:
            bad[name].mood = name
        moods: dict[str, Mood] = {"strict": strict, "leaver": "gone"}
        for name, mood in moods.items():
            bad[name].mood = mood
        await pause(seconds, "so long all fail")
        await world.delivered_more(100)
        for receiver in world.receivers:
            receiver.mood = "gone" if receiver.name == "leaver" else "well"
        await world.load.more(50)
        world.inject(ALL_FAIL)
        if rng.random() < 0.3:
            await world.kill(world.fanout.command)
            await world.bring_up(world.fanout)
    # With a broker its group may join late; until it said so, it must have all.
    await until(lambda: bad["leaver"].is_gone, within_s=120)


async def reload(world: World) -> None:
    """A subscriber is changed, one is added and taken away again, by SIGHUP while events flow."""
    gateway = world.fanout
    rng = world.rng
    full = list(gateway.config["subscribers"])
    for kind in world.deal(RELOADS):
        concurrency, drop, is_bad = rng.randint(1, 64), kind == "a subscriber leaves", kind == "a bad file"
        if not world.cycle(
            f"concurrency {concurrency}{', orders away' if drop else ''}{', bad file' if is_bad else ''}"
        ):
            break
        rows = [{**full[0], "concurrency": concurrency}, *full[1:]]
        gateway.config["subscribers"] = [row for row in rows if not (drop and row["name"] == "orders")]
        if is_bad:
            gateway.config["subscribers"] = [{"name": "no url"}]
        gateway.write()
        os.kill(gateway.pid, signal.SIGHUP)
        await world.load.more(rng.randint(50, 200))
        world.inject(f"reload: {kind}")
    gateway.config["subscribers"] = full
    gateway.write()
    os.kill(gateway.pid, signal.SIGHUP)
