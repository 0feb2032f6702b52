"""A ``subscribers`` entry of ``config.yaml`` → a plan and a sink, or sentences on what is wrong with it.

Everything that can be wrong is found by :mod:`gateway.fanout.subscriber_rules`, before anything runs:
``gateway check``, start-up and a reload all ask :func:`problems` first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

from gateway.clock import Clock
from gateway.config.settings import Subscriber
from gateway.event import NotAnEvent, parse
from gateway.fanout import subscriber_rules
from gateway.fanout.attempt import Sink
from gateway.fanout.breaker import BreakerPolicy
from gateway.fanout.filesink import FileSink
from gateway.fanout.filters import Filter, compile_filter
from gateway.fanout.parsed import EVENTS
from gateway.fanout.plan import DeliveryPlan
from gateway.fanout.retry import RetryPolicy
from gateway.fanout.ssrf import Allowed
from gateway.fanout.tls import context
from gateway.fanout.transform import Transform
from gateway.fanout.webhook import WebhookSink
from gateway.log import Record
from gateway.signing import Signer


def problems(subscribers: Iterable[Subscriber]) -> list[str]:
    """Return everything that is wrong with these subscribers beyond their types, with key paths.

    Reads certificate files; does not touch the network. See :mod:`gateway.fanout.subscriber_rules`.
    """
    return [
        f"subscribers[{subscriber.name}]{_below(path)}: {text}"
        for subscriber in subscribers
        for path, text in (*subscriber_rules.problems(subscriber), *subscriber_rules.file_problems(subscriber))
    ]


def _below(path: Iterable[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)


def plan(subscriber: Subscriber) -> DeliveryPlan:
    """Return the settings that a reader applies.

    Raises:
        ConfigError: the filter cannot be used.
    """
    retry, breaker = subscriber.retry, subscriber.breaker
    return DeliveryPlan(
        name=subscriber.name,
        topics=tuple(subscriber.topics),
        concurrency=subscriber.concurrency,
        rate_per_s=subscriber.rate_per_s,
        timeout_s=subscriber.timeout_s,
        ordering=subscriber.ordering,
        on_failure=subscriber.on_failure,
        start=subscriber.start,
        retry=RetryPolicy(retry.attempts, retry.first_delay_s, retry.max_delay_s, retry.max_age),
        tiers=tuple(sorted(set(retry.tiers))),
        breaker=BreakerPolicy(
            failure_rate=breaker.failure_rate,
            window_s=breaker.window,
            min_attempts=breaker.min_attempts,
            first_open_s=breaker.first_open,
            max_open_s=breaker.max_open,
        ),
        wants=wants(_filter(subscriber)),
    )


def sink(subscriber: Subscriber, *, clock: Clock, rng: Random) -> Sink:
    """Return the sink of the subscriber's events; opens nothing yet.

    Raises:
        ConfigError: see :func:`problems`.
    """
    if subscriber.kind == "file":
        assert subscriber.path is not None
        rotation = subscriber.rotation
        return FileSink(
            subscriber.path,
            max_bytes=rotation.max_bytes,
            keep=rotation.keep,
            clock=clock,
            transform=transform(subscriber),
        )
    assert subscriber.url is not None
    return WebhookSink(
        subscriber.url,
        _signer(subscriber),
        clock=clock,
        rng=rng,
        headers={name: value.get_secret_value() for name, value in subscriber.headers.items()},
        timeout_s=subscriber.timeout_s,
        connections=subscriber.concurrency,
        allowed=_allowed(subscriber),
        tls=context(subscriber.tls),
        transform=transform(subscriber),
    )


def wants(compiled: Filter | None) -> Callable[[Record], bool] | None:
    """Return the filter as a predicate of records without a flaw; None accepts all and parses nothing."""
    if compiled is None:
        return None
    matches = compiled.matches

    def is_wanted(record: Record) -> bool:
        return matches(EVENTS.get(record.value))

    return is_wanted


def why_skipped(subscriber: Subscriber, value: bytes) -> str | None:
    """Return the key path of the part of the subscriber's filter that rejects an event; None when it is delivered.

    For ``explain``: computed on request, so that passing over an event costs nothing.
    """
    compiled = _filter(subscriber)
    if compiled is None:
        return None
    try:
        return compiled.mismatch(parse(value))
    except NotAnEvent:
        return "filter"


def _filter(subscriber: Subscriber) -> Filter | None:
    return compile_filter(subscriber.filter)


def _signer(subscriber: Subscriber) -> Signer:
    return Signer([secret.get_secret_value() for secret in subscriber.secrets])


def _allowed(subscriber: Subscriber) -> Allowed:
    return Allowed.parse(subscriber.allow, private=subscriber.allow_private)


def transform(subscriber: Subscriber) -> Transform | None:
    """Return which fields the subscriber gets; None for all.

    Raises:
        ConfigError: a path is not one.
    """
    fields = subscriber.transform
    made = Transform(fields.include, fields.exclude)
    return made if fields.include or fields.exclude else None
