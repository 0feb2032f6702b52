"""A subscriber reader around a receiver, started and stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from prometheus_client import CollectorRegistry

from gateway.fanout.attempt import Sink
from gateway.fanout.clock import Clock, SystemClock
from gateway.fanout.delivery import WebhookSink
from gateway.fanout.guard import Allowed
from gateway.fanout.reader import Plan, SubscriberReader
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


@asynccontextmanager
async def running(
    log: EventLog, url: str, *, timeout_s: float = 10.0, clock: Clock | None = None, **options: object
) -> AsyncIterator[SubscriberReader]:
    sink = webhook(url, clock=clock, timeout_s=timeout_s, connections=int(options.get("concurrency", 32)))
    reader = make(log, sink, plan(timeout_s=timeout_s, **options), clock=clock)
    reader.start()
    try:
        yield reader
    finally:
        await reader.stop(5.0)
