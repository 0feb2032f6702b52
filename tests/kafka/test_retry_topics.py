"""Retry topics that all subscribers share, on a real Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from functools import partial

import pytest
from prometheus_client import CollectorRegistry

from gateway.clock import SystemClock
from gateway.config.settings import Subscriber
from gateway.fanout import dead_letters
from gateway.fanout.replay import Selection, replay
from gateway.fanout.subscriptions import FanOut, own_topics
from gateway.log.kafka import KafkaLog, KafkaOptions, topics
from gateway.telemetry.metrics import Metrics
from tests.fanout.events import entries, entry
from tests.fanout.receiver import Receiver, ok, status
from tests.fanout.test_subscriptions import subscriber
from tests.waiting import until

CLOCK = SystemClock()
PATIENCE_S = 60.0


@asynccontextmanager
async def gateway(options: KafkaOptions, subscribers: Collection[Subscriber]) -> AsyncIterator[KafkaLog]:
    log = KafkaLog(options, at_start=[*own_topics(subscribers), "sms.dr"])
    fanout = FanOut(log, list(subscribers), keeps_times=True, load_wait_s=10.0, metrics=Metrics(CollectorRegistry()))
    await log.start()
    fanout.start()
    async with asyncio.timeout(PATIENCE_S):
        await fanout.is_started.wait()
    try:
        yield log
    finally:
        await fanout.stop(5.0)
        await log.stop()


async def _is_finished(log: KafkaLog, group_of: Callable[[str], str | None]) -> bool:
    return not any((await log.unfinished(group_of)).values())


async def names(options: KafkaOptions) -> set[str]:
    return {info.name for info in await topics.describe(options)}


@pytest.mark.kafka
async def test_a_start_creates_six_topics_in_one_request_and_dead_letters_the_first_time(
    kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many subscribers there are; looking at dead letters, replays and added subscribers creates nothing."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=2)
    requests: list[set[str]] = []
    create = topics.create

    async def counted(options: KafkaOptions, wanted: Collection[str]) -> list[str]:
        if wanted:
            requests.append(set(wanted))
        return await create(options, wanted)

    monkeypatch.setattr(topics, "create", counted)
    own = {"replay", "retry.60s", "retry.600s", "retry.3600s", "fanout.state", "fanout.attempts"}
    async with Receiver(status(422)) as receiver:
        once = {"attempts": 1}
        all_ = [subscriber(f"s{number}", receiver.url, retry=once) for number in range(3)]
        async with gateway(options, all_) as log:
            assert [own | {"sms.dr"}] == requests
            assert [] == await dead_letters.find(log, "s0")
            assert own | {"sms.dr"} == await names(options)
            await log.append([entry(1)])
            await receiver.until(lambda: len(receiver.posts) == 3, within_s=PATIENCE_S)

            async def are_made() -> bool:
                return await names(options) >= {"dlq.s0", "dlq.s1", "dlq.s2"}

            await until(are_made, within_s=PATIENCE_S, look_s=0.2)
            letters = await until(lambda: dead_letters.find(log, "s1"), within_s=PATIENCE_S, look_s=0.2)
            assert [entry(1).id] == [letter.id for letter in letters]
            receiver.answer = ok
            await replay(log, all_[1], Selection(is_from_dlq=True), clock=CLOCK)
            marked = "gateway-replay"
            await receiver.until(
                lambda: any(marked in post.headers for post in receiver.delivered), within_s=PATIENCE_S
            )


@pytest.mark.kafka
async def test_parked_events_are_delivered_when_they_are_due_and_their_group_is_behind_nothing(
    kafka: str, prefix: str
) -> None:
    """Failed once, parked, delivered at the second attempt; the group has passed all of it."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=2)
    seen: set[str] = set()

    async def refuse_first(post: object) -> object:
        is_first = post.id not in seen  # type: ignore[attr-defined]
        seen.add(post.id)  # type: ignore[attr-defined]
        return await (status(422) if is_first else ok)(post)  # type: ignore[arg-type]

    async with Receiver(refuse_first) as receiver:  # type: ignore[arg-type]
        retry = {"first_delay_s": 1.0, "max_delay_s": 2.0, "tiers": [0.001]}
        breaker = {"min_attempts": 10_000}
        one = subscriber("billing", receiver.url, retry=retry, breaker=breaker)
        async with gateway(options, [one]) as log:
            await log.append(entries(40, 20))
            await receiver.until_delivered(40, within_s=PATIENCE_S)
            own = partial(_is_finished, log, lambda name: "gateway.retry" if "retry." in name else None)
            await until(own, within_s=PATIENCE_S, look_s=0.2)
            assert {"retry.1ms", "retry.60s"} <= await names(options)
    assert 80 == len(receiver.posts)
