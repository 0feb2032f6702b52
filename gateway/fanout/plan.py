"""The numbers and names by which a subscriber is delivered to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from gateway.fanout.breaker import BreakerPolicy
from gateway.fanout.partition_queue import Window
from gateway.fanout.retry import RetryPolicy
from gateway.log import Record, Start


@dataclass(frozen=True, slots=True)
class DeliveryPlan:
    """Everything about a subscriber that its reader goes by.

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
