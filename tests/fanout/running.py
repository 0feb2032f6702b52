"""A subscriber reader around a receiver, with a shared reading of its own, started and stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from prometheus_client import CollectorRegistry

from gateway.clock import Clock, SystemClock
from gateway.fanout.attempt import Sink
from gateway.fanout.attempt_log import AttemptLog
from gateway.fanout.attempts import AttemptWriter
from gateway.fanout.cursor import Beginning
from gateway.fanout.reader import SubscriberReader
from gateway.fanout.retry_topics import RetryTopics
from gateway.fanout.ssrf import Allowed
from gateway.fanout.subscription import Subscription
from gateway.fanout.subscriptions import GROUP
from gateway.fanout.webhook import WebhookSink
from gateway.log import EventLog
from gateway.log.shared_reader import SharedReader
from gateway.signing import Signer
from gateway.telemetry.metrics import Metrics

PRIVATE = Allowed(private=True)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def webhook(
    url: str, *, clock: Clock | None = None, secrets: tuple[str, ...] = (SECRET,), **options: object
) -> WebhookSink:
    return WebhookSink(
        url, Signer(secrets), clock=clock or SystemClock(), rng=Random(7), **{"allowed": PRIVATE, **options}
    )


class OneReader(SubscriberReader):
    """One that nobody shares its reading with: it is started and stopped with it."""

    def __init__(self, log: EventLog, subscription: Subscription, sink: Sink, **options: Any) -> None:
        self.reading = SharedReader(log, GROUP, options["clock"])
        super().__init__(subscription, log, sink, reading=self.reading, **options)

    def start(self) -> None:
        super().start()
        self.reading.start()

    async def stop(self, deadline_s: float) -> None:
        await super().stop(deadline_s)
        await self.reading.stop()

    async def lag(self) -> int | None:
        return (await self.reading.lags())[self.cursor]


def make(
    log: EventLog,
    sink: Sink,
    subscription: Subscription,
    *,
    clock: Clock | None = None,
    seed: int = 7,
    writer: AttemptWriter | None = None,
    metrics: Metrics | None = None,
    beginning: Beginning | None = None,
) -> OneReader:
    clock = clock or SystemClock()
    metrics = metrics or Metrics(CollectorRegistry())
    return OneReader(
        log,
        subscription,
        sink,
        clock=clock,
        rng=Random(seed),
        attempt_log=AttemptLog(subscription.name, clock=clock, metrics=metrics, writer=writer),
        beginning=beginning,
    )


def subscription(name: str = "billing", **options: object) -> Subscription:
    return Subscription(**{"name": name, "topics": ("sms.dr",), "start": "earliest", "tiers": (60.0, 600.0), **options})


class OwnRetryTopics(RetryTopics):
    """Those that nobody shares their reading with: it is started and stopped with them."""

    def __init__(self, log: EventLog, **options: Any) -> None:
        self.reading = SharedReader(log, f"{GROUP}.retry", options["clock"])
        super().__init__(log, self.reading, **options)

    def start(self) -> None:
        super().start()
        self.reading.start()

    async def stop(self) -> None:
        await super().stop()
        await self.reading.stop()


def retry_topics(
    log: EventLog,
    *readers: SubscriberReader,
    clock: Clock | None = None,
    tiers: Collection[float] = (60.0, 600.0),
    known: Collection[str] = (),
    metrics: Metrics | None = None,
    **options: Any,
) -> RetryTopics:
    """The shared topics of a process that has these subscribers; started by the caller."""
    by_name = {reader.subscription.name: reader for reader in readers}
    made = OwnRetryTopics(
        log,
        find=by_name.get,
        known=lambda: {*by_name, *known},
        clock=clock or SystemClock(),
        metrics=metrics or Metrics(CollectorRegistry()),
        **options,
    )
    made.apply(tiers)
    return made


@asynccontextmanager
async def running(
    log: EventLog, url: str, *, timeout_s: float = 10.0, clock: Clock | None = None, **options: object
) -> AsyncIterator[OneReader]:
    sink = webhook(url, clock=clock, timeout_s=timeout_s, connections=int(options.get("concurrency", 32)))
    reader = make(log, sink, subscription(timeout_s=timeout_s, **options), clock=clock)
    topics = retry_topics(log, reader, clock=clock, tiers=reader.subscription.tiers)
    reader.start()
    topics.start()
    try:
        yield reader
    finally:
        await reader.stop(5.0)
        await topics.stop()
