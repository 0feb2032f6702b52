"""A ``subscribers`` entry of ``config.yaml`` → a subscription and a sink, or sentences on what is wrong with it.

Everything that can be wrong is found by :mod:`gateway.fanout.subscriber_rules`, before anything runs:
``gateway check``, start-up and a reload all ask :func:`problems` first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from gateway.clock import Clock
from gateway.config.settings import Subscriber
from gateway.event import NotAnEvent, parse
from gateway.fanout import subscriber_rules
from gateway.fanout.attempt import Sink
from gateway.fanout.circuit_breaker import BreakerPolicy
from gateway.fanout.file import FileSink
from gateway.fanout.filters import compile_filter, wants
from gateway.fanout.partition_queue import Window
from gateway.fanout.retry import RetryPolicy
from gateway.fanout.ssrf import Allowed
from gateway.fanout.transform import Transform
from gateway.fanout.webhook import WebhookSink
from gateway.fanout.webhook_client import tls_context
from gateway.log import Record, Start
from gateway.signing import Signer


@dataclass(frozen=True, slots=True)
class Subscription:
    """The numbers and names by which a subscriber is delivered to.

    Args:
        topics: the main topics it reads.
        on_failure: what events of one key do while one of them is retried for long.
        tiers: delays of the retry topics in seconds, rising.
        wants: the compiled filter, None for everything.
    """

    name: str
    topics: tuple[str, ...]
    concurrency: int = 32
    rate_per_s: float | None = None
    timeout_s: float = 10.0
    ordering: Literal["key", "none"] = "key"
    on_failure: Literal["block", "pass"] = "pass"
    start: Start = "latest"
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    tiers: tuple[float, ...] = (60.0, 600.0, 3600.0)
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    window: Window = field(default_factory=Window)
    wants: Callable[[Record], bool] | None = field(default=None, compare=False)


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


def build(subscriber: Subscriber) -> Subscription:
    """Return the numbers and names that a reader applies.

    Raises:
        ConfigError: the filter cannot be used.
    """
    retry, breaker = subscriber.retry, subscriber.breaker
    return Subscription(
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
        wants=wants(compile_filter(subscriber.filter)),
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
        Signer([secret.get_secret_value() for secret in subscriber.secrets]),
        clock=clock,
        rng=rng,
        headers={name: value.get_secret_value() for name, value in subscriber.headers.items()},
        timeout_s=subscriber.timeout_s,
        connections=subscriber.concurrency,
        allowed=Allowed.parse(subscriber.allow, private=subscriber.allow_private),
        tls=tls_context(subscriber.tls),
        transform=transform(subscriber),
    )


def why_skipped(subscriber: Subscriber, value: bytes) -> str | None:
    """Return the key path of the part of the subscriber's filter that rejects an event; None when it is delivered.

    For ``explain``: computed on request, so that passing over an event costs nothing.
    """
    compiled = compile_filter(subscriber.filter)
    if compiled is None:
        return None
    try:
        return compiled.mismatch(parse(value))
    except NotAnEvent:
        return "filter"


def transform(subscriber: Subscriber) -> Transform | None:
    """Return which fields the subscriber gets; None for all.

    Raises:
        ConfigError: a path is not one.
    """
    fields = subscriber.transform
    made = Transform(fields.include, fields.exclude)
    return made if fields.include or fields.exclude else None
