"""Is it alive, and can it take callbacks? Kubernetes restarts on the first and routes by the second."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Final

from gateway.fanout.reader import SubscriberStatus
from gateway.telemetry.counts import counts
from gateway.telemetry.metrics import METRICS, Metrics
from gateway.telemetry.reports import Report, families

#: Processes that take callbacks are called so.
_INGEST: Final = "ingest"
UNKNOWN: Final = "unknown: it gives no answer in 1 s; it has died and is being started again, hangs, or is overloaded"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold.

    Args:
        name: what it is, such as ``journal``.
        problem: a sentence that says what is wrong and what to do; empty when healthy.
        is_needed: False: reported, but callbacks are accepted without it (Kafka unavailable, a dead subscriber).
    """

    name: str
    problem: str
    is_needed: bool = True


Checks = Mapping[str, Callable[[], Check]]
Others = Mapping[str, Report | None]


def report(checks: Checks, others: Others | None = None) -> tuple[bool, dict[str, str]]:
    """Return whether the gateway can accept callbacks, and each check's result, other processes' by ``process.name``.

    Ready means: all that this process needs holds, no other process says that something it needs does not, and at least
    one of those that take callbacks answers. One that is being started again takes no callback from the others, so it
    does not make the machine unready.

    Args:
        checks: of this process.
        others: the reports of the others; None where this process is the only one.
    """
    is_ready, texts = _own(checks)
    for name, one in (others or {}).items():
        if one is None:
            texts[name] = UNKNOWN
        else:
            is_ready = is_ready and one.is_ready
            texts |= {f"{name}.{check}": text or "ok" for check, text in one.checks.items()}
    takers = [one for name, one in (others or {}).items() if name.startswith(_INGEST)]
    return is_ready and (not takers or any(takers)), {name: text or "ok" for name, text in texts.items()}


def own_report(
    process: str,
    started_at: float,
    checks: Checks,
    metrics: Metrics = METRICS,
    *,
    statuses: Iterable[SubscriberStatus] = (),
    with_metrics: bool = False,
) -> Report:
    """Return what a process without the admin port serves.

    Args:
        process: its name, such as ``ingest-0``.
        started_at: of this life, Unix seconds.
        statuses: of the subscribers that it delivers to.
        with_metrics: all of them, which takes milliseconds with hundreds of subscribers.
    """
    is_ready, texts = _own(checks)
    found = families(process, metrics.registry) if with_metrics else ()
    subscribers = [asdict(one) for one in statuses]
    return Report(process, os.getpid(), started_at, is_ready, texts, counts(metrics), found, subscribers)


def _own(checks: Checks) -> tuple[bool, dict[str, str]]:
    results = [check() for check in checks.values()]
    is_ready = not any(result.problem and result.is_needed for result in results)
    return is_ready, {result.name: result.problem for result in results}
