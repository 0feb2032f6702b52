"""Topics lose what nobody read yet: deleted and created again, or past their retention."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import aiohttp

from tests.lossproof import checker, history
from tests.lossproof.gaps import Recreation
from tests.lossproof.history import now
from tests.lossproof.roles import PREFIX, Mode
from tests.lossproof.topic_admin import administering
from tests.lossproof.witness import topic_of
from tests.lossproof.world import World
from tests.waiting import pause, until

#: These lose records; the fourth, of the rejected, stays as it is.
TOPICS: Final = ("sms.dr", "shop.order", "message.status")
_PARTITIONS: Final = 3
#: How many partitions a topic has more when it is created again. In the order of cycles each topic meets each.
CHANGES: Final[Mapping[str, int]] = {"the same": 0, "fewer": -1, "more": 1}
#: While ``fanout`` is stopped the new topic gets fewer, or more, records than it had read of the old one.
WHILE: Final[Mapping[Mode, tuple[str, ...]]] = {
    "kafka": ("running",),
    "split": ("running", "stopped, few records since", "stopped, many records since"),
}
EXPIRED: Final = ("DeleteRecords", "retention.ms")

#: Between two requests of a client: a topic has few records before it is deleted, and quickly more afterwards.
_SLOW_S: Final = 0.12
_BURST_S: Final = 0.01
#: A broker applies what its controller has decided within this.
_APPLIED_S: Final = 1.0
#: Long enough to read each record before it goes, short enough for a test.
_SHORT: Final = {"retention.ms": "3000", "segment.ms": "500"}
_LOOK_S: Final = 0.3


async def recreated(world: World) -> None:
    """Delete topics and create them again with as many, fewer and more partitions, under load."""
    rng, counts = world.rng, dict.fromkeys(TOPICS, _PARTITIONS)
    world.load.pause_s = _SLOW_S
    for when in world.deal(WHILE[world.mode]):
        count, end = rng.randint(100, 300), rng.choice(("SIGKILL", "SIGTERM"))
        turned = world.cycles % len(TOPICS)
        changes = dict(zip(TOPICS[turned:] + TOPICS[:turned], CHANGES, strict=True))
        how = ", ".join(f"{topic}: {change}" for topic, change in sorted(changes.items()))
        is_stopped = when != "running"
        if not world.cycle(f"recreated after {count} events ({how}), fanout {when}{f', {end}' if is_stopped else ''}"):
            return
        await world.load.more(count)
        await world.caught_up()
        if is_stopped:
            await world.end(world.fanout, end)
            await world.load.more(count)
        for topic, change in changes.items():
            if CHANGES[change]:
                world.repartitioned.add(topic)
            counts[topic] = max(1, counts[topic] + CHANGES[change])
            world.inject(f"topic recreated, {change} partitions, fanout {when.partition(',')[0]}")
        before = await _recreate(world, counts)
        if is_stopped:
            await _records_since(world, before // 5 if "few" in when else before * 3 // 2)
            await world.bring_up(world.fanout)
        world.inject(f"topic recreated, fanout {when}")
        await world.load.more(100)
        await world.caught_up()
        world.named()
        unnamed = world.gaps.unnamed({receiver.name: receiver.topics for receiver in world.receivers})
        world.breaches += [f"cycle {world.cycles}: {text}" for text in unnamed]


async def _records_since(world: World, count: int) -> None:
    world.load.pause_s = _BURST_S
    await world.load.more(count, within_s=180)
    world.load.pause_s = _SLOW_S


async def _recreate(world: World, partitions: Mapping[str, int]) -> int:
    """Recreate topics; return how many records the old ones had."""
    since = await _published(world)
    before = sum(world.witness.size(topic) for topic in partitions)
    async with administering(world.bootstrap, PREFIX) as admin:
        await world.witness.look(world.bootstrap)
        at = time.time()
        await admin.recreate(partitions)
    until = now() + int(_APPLIED_S * 1e6)
    for topic in partitions:
        world.gaps.recreations.append(Recreation(topic, world.witness.recreated(topic), since, until, at))
    return before


async def _published(world: World, within_s: float = 30.0) -> int:
    """Wait until all that is accepted by now was read from the topics; return the time of now.

    What is not there by then should have been, and is not excused.
    """
    at = now()
    wanted = set(checker.accepted(history.read(world.history_path))) - world.gaps.in_log
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while not world.witness.items().issuperset(wanted):
                await world.witness.look(world.bootstrap)
    return at


async def expired(world: World) -> None:
    """Delete records that a stopped ``fanout`` has not read; each subscriber must name exactly those."""
    rng = world.rng
    expected: Counter[tuple[str, str]] = Counter()
    for how in world.deal(EXPIRED):
        count, end = rng.randint(100, 300), rng.choice(("SIGKILL", "SIGTERM"))
        shares = [rng.choice((0.0, 0.3, 0.7, 1.0)) for _ in range(len(TOPICS) * _PARTITIONS)]
        if not world.cycle(f"{end} fanout, {how} past its position after {count} events"):
            return
        await world.load.more(count)
        await world.caught_up()
        await world.end(world.fanout, end)
        committed = await _committed(world)
        await world.load.more(count)
        await world.witness.look(world.bootstrap)
        await (_delete(world, shares) if how == "DeleteRecords" else _outlive(world))
        world.inject(f"{how} past a stopped fanout")
        gone = _gone(world, committed)
        if not gone:
            raise AssertionError("nothing was deleted that was not read")
        await world.bring_up(world.fanout)
        await world.load.more(50)
        await world.caught_up()
        expected.update(gone)
        world.named()
        world.breaches += [f"cycle {world.cycles}: {text}" for text in _differences(world, expected)]
        world.breaches += [f"cycle {world.cycles}: {text}" for text in await _miscounted(world, gone)]


async def _delete(world: World, shares: list[float]) -> None:
    """DeleteRecords of a share of each partition: nothing, a part, all."""
    before = {}
    for (partition, (first, end)), share in zip(sorted(world.witness.bounds(TOPICS).items()), shares, strict=True):
        before[partition] = first + int((end - first) * share)
    before[f"{TOPICS[0]}-0"] = world.witness.bounds(TOPICS)[f"{TOPICS[0]}-0"][1]
    async with administering(world.bootstrap, PREFIX) as admin:
        await admin.delete_records(before)
    await world.witness.look(world.bootstrap)


async def _outlive(world: World) -> None:
    """Let a short retention take what is there, and look at each record before it goes."""
    firsts = {partition: end for partition, (_, end) in world.witness.bounds(TOPICS).items()}
    async with administering(world.bootstrap, PREFIX) as admin:
        await admin.configure(list(TOPICS), _SHORT)

        async def are_taken() -> bool:
            await world.witness.look(world.bootstrap)
            return all(world.witness.first(partition, 0) >= end for partition, end in firsts.items())

        await until(are_taken, look_s=_LOOK_S)
        await admin.configure(list(TOPICS), {})
    for _ in range(5):  # a round of retention may be under way with the old settings
        await pause(_LOOK_S, "a round of retention may be under way with the old settings")
        await world.witness.look(world.bootstrap)


async def _committed(world: World) -> dict[str, dict[str, int]]:
    async with administering(world.bootstrap, PREFIX) as admin:
        return {receiver.name: await admin.committed(f"gateway.{receiver.name}") for receiver in world.receivers}


def _gone(world: World, committed: Mapping[str, Mapping[str, int]]) -> Counter[tuple[str, str]]:
    """Return how many offsets went before a subscriber read them, by subscriber and partition."""
    found: Counter[tuple[str, str]] = Counter()
    for receiver in world.receivers:
        for partition, (first, _) in world.witness.bounds(receiver.topics).items():
            count = first - committed[receiver.name].get(partition, 0)
            if count > 0:
                found[receiver.name, partition] = count
    return found


def _differences(world: World, expected: Mapping[tuple[str, str], int]) -> list[str]:
    """Hold what the log lines named by now against what went."""
    found = {
        (gap.group.removeprefix("gateway."), gap.partition): world.gaps.count(gap.group, gap.partition, gap.life)
        for gap in world.gaps.named
    }
    return [
        f"{name} lost {expected.get((name, partition), 0)} records of {partition} unread, and the log names "
        f"{found.get((name, partition), 0)}"
        for name, partition in sorted(expected.keys() | found.keys())
        if topic_of(partition) in TOPICS and expected.get((name, partition), 0) != found.get((name, partition), 0)
    ]


async def _miscounted(world: World, gone: Mapping[tuple[str, str], int]) -> list[str]:
    """Hold the metric of this life of ``fanout`` against what went."""
    async with aiohttp.ClientSession() as session, session.get(f"{world.fanout.admin_url}/metrics") as answer:
        text = await answer.text()
    breaches = []
    for receiver in world.receivers:
        wanted = sum(count for (name, _), count in gone.items() if name == receiver.name)
        sample = (
            rf'gateway_kafka_skipped_offsets_total{{[^}}]*group="gateway\.{re.escape(receiver.name)}"[^}}]*}} (\S+)'
        )
        counted = sum(map(float, re.findall(sample, text)))
        if counted != wanted:
            breaches.append(f"{receiver.name} lost {wanted} records unread, and the metric says {counted:.0f}")
    return breaches


def short_rounds(world: World) -> None:
    """Let the broker look at retention every second, instead of every five minutes."""
    world.broker_settings["log.retention.check.interval.ms"] = "1000"
