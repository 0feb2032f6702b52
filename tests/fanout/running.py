"""A subscriber reader around a receiver, started and stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from random import Random

from prometheus_client import CollectorRegistry

from gateway.fanout.attempt import Sink
from gateway.fanout.clock import Clock, SystemClock
from gateway.fanout.delivery import WebhookSink
from gateway.fanout.guard import Allowed
from gateway.fanout.reader import Plan, SubscriberReader
from gateway.fanout.retry_topics import RetryTopics
from gateway.fanout.telling import OnAttempt, Telling
from gateway.log import EventLog
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


def make(
    log: EventLog,
    sink: Sink,
    plan: Plan,
    *,
    clock: Clock | None = None,
    seed: int = 7,
    on_attempt: OnAttempt | None = None,
    metrics: Metrics | None = None,
) -> SubscriberReader:
    return SubscriberReader(
        plan,
        log,
        sink,
        clock=clock or SystemClock(),
        rng=Random(seed),
        telling=Telling(plan.name, metrics=metrics or Metrics(CollectorRegistry()), on_attempt=on_attempt),
    )


def plan(name: str = "billing", **options: object) -> Plan:
    return Plan(**{"name": name, "topics": ("sms.dr",), "start": "earliest", "tiers": (60.0, 600.0), **options})


def retry_topics(
    log: EventLog,
    *readers: SubscriberReader,
    clock: Clock | None = None,
    tiers: Collection[float] = (60.0, 600.0),
    known: Collection[str] = (),
    metrics: Metrics | None = None,
    **bounds: int,
) -> RetryTopics:
    """The shared topics of a process that has these subscribers; started by the caller."""
    by_name = {reader.plan.name: reader for reader in readers}
    made = RetryTopics(
        log,
        find=by_name.get,
        is_known=lambda name: name in by_name or name in known,
        clock=clock or SystemClock(),
        metrics=metrics or Metrics(CollectorRegistry()),
        **bounds,
    )
    made.apply(tiers)
    return made


@asynccontextmanager
async def running(
    log: EventLog, url: str, *, timeout_s: float = 10.0, clock: Clock | None = None, **options: object
) -> AsyncIterator[SubscriberReader]:
    sink = webhook(url, clock=clock, timeout_s=timeout_s, connections=int(options.get("concurrency", 32)))
    reader = make(log, sink, plan(timeout_s=timeout_s, **options), clock=clock)
    topics = retry_topics(log, reader, clock=clock, tiers=reader.plan.tiers)
    reader.start()
    topics.start()
    try:
        yield reader
    finally:
        await reader.stop(5.0)
        await topics.stop()
