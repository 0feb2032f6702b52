"""Send many requests to a gateway, and count its answers.

With a rate, each request has a scheduled time, and its latency counts from this time and not from the moment at which a
connection was free, so a stall of the gateway is visible (coordinated omission). Without a rate, every connection sends
the next request after each answer.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final

import orjson

from gateway.errors import Transient
from gateway.traffic.client import ClientConnection, GatewayAnswer, Target

#: Requests stored for repeats; a repeat follows soon after the original.
_REMEMBERED: Final = 1000
#: Kinds of failures in the summary; the answers of another server could be unlimited.
_MOST_KINDS: Final = 20
#: Characters of a failure's kind, enough for the gateway's reason. Longer answers quote the request and all differ.
_SHOWN_BYTES: Final = 120


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """A serialised request, and the test of its answer."""

    callback: str
    message: bytes
    is_success: Callable[[GatewayAnswer], bool]


@dataclass(frozen=True, slots=True)
class LoadProfile:
    """Parameters of the load.

    Args:
        count: number of requests.
        concurrency: connections, each with one request in progress.
        rate_per_s: requests per second; None: as fast as they are answered.
        repeat_rate: share of requests that repeat an earlier one byte for byte.
    """

    count: int
    concurrency: int = 32
    rate_per_s: float | None = None
    repeat_rate: float = 0.0


@dataclass(slots=True)
class LoadResult:
    """Counts of answers, updated while the load runs."""

    latencies_s: list[float] = field(default_factory=list)
    by_status: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    succeeded: int = 0
    repeats: int = 0
    took_s: float = 0.0

    @property
    def sent(self) -> int:
        """Number of requests with an answer or an error."""
        return self.by_status.total()

    @property
    def failed(self) -> int:
        """Number of requests without the platform's success answer."""
        return self.sent - self.succeeded

    def note(self, prepared: LoadRequest, answer: GatewayAnswer, latency_s: float) -> None:
        """Count one answer.

        Args:
            prepared: its request.
            answer: of the gateway.
            latency_s: seconds since the request was due.
        """
        self.latencies_s.append(latency_s)
        self.by_status[str(answer.status)] += 1
        if prepared.is_success(answer):
            self.succeeded += 1
        else:
            shown = answer.body[:_SHOWN_BYTES].decode("utf-8", "replace").partition("\n")[0]
            self._refuse(f"{prepared.callback}: {answer.status} {shown}")

    def note_error(self, prepared: LoadRequest, error: Transient) -> None:
        """Count one request without an answer.

        Args:
            prepared: the request.
            error: its reason.
        """
        self.by_status["no answer"] += 1
        self._refuse(f"{prepared.callback}: {error}")

    def _refuse(self, kind: str) -> None:
        self.refused[kind if kind in self.refused or len(self.refused) < _MOST_KINDS else "others"] += 1


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that at least a share of the values does not exceed; 0 without values.

    Args:
        values: sorted.
        share: between 0 and 1.
    """
    if not values:
        return 0.0
    return values[min(len(values) - 1, max(0, -int(-len(values) * share // 1) - 1))]


def is_success(expected: bytes) -> Callable[[GatewayAnswer], bool]:
    """Return a test of answers: status 200 with the expected body, or with ``retCode`` 0 (Callbot)."""

    def judge(answer: GatewayAnswer) -> bool:
        return answer.status == 200 and (answer.body == expected or _ret_code(answer.body) == 0)

    return judge


async def drive(
    target: Target, prepared: Iterator[LoadRequest], plan: LoadProfile, rng: Random, result: LoadResult
) -> None:
    """Send ``plan.count`` requests, and count the answers in ``result``, which may be read meanwhile.

    After a cancellation ``result`` has the answers received until then.

    Args:
        target: the gateway.
        prepared: the requests.
        plan: parameters of the load.
        rng: selects repeated requests.
        result: updated in place.
    """
    started = time.perf_counter()
    try:
        async with asyncio.TaskGroup() as group:
            rows = _scheduled(prepared, plan, rng, started, result)
            for _ in range(min(plan.concurrency, plan.count)):
                group.create_task(_work(target, rows, result))
    finally:
        result.took_s = time.perf_counter() - started


def _scheduled(
    prepared: Iterator[LoadRequest], plan: LoadProfile, rng: Random, started: float, result: LoadResult
) -> Iterator[tuple[LoadRequest, float | None]]:
    """Yield requests with their scheduled times, None for at once. All connections share the iterator."""
    earlier: deque[LoadRequest] = deque(maxlen=_REMEMBERED)
    for position in range(plan.count):
        if earlier and rng.random() < plan.repeat_rate:
            one = earlier[int(rng.random() * len(earlier))]
            result.repeats += 1
        else:
            one = next(prepared)
            earlier.append(one)
        yield one, started + position / plan.rate_per_s if plan.rate_per_s else None


async def _work(target: Target, rows: Iterator[tuple[LoadRequest, float | None]], result: LoadResult) -> None:
    async with ClientConnection(target) as connection:
        for prepared, due in rows:
            if due is not None and (wait_s := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            begun = due if due is not None else time.perf_counter()
            try:
                answer = await connection.exchange(prepared.message)
            except Transient as exc:
                result.note_error(prepared, exc)
            else:
                result.note(prepared, answer, time.perf_counter() - begun)


def _ret_code(body: bytes) -> object:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return parsed.get("retCode") if isinstance(parsed, dict) else None
