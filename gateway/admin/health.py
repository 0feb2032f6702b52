"""Is it alive, and can it take callbacks? Kubernetes restarts on the first and routes by the second."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold.

    Args:
        name: what it is, such as ``journal``.
        problem: a sentence of what is wrong and what to do; empty when all is well.
        is_needed: False: told, but the gateway goes on taking callbacks without it (Kafka away, a dead subscriber).
    """

    name: str
    problem: str
    is_needed: bool = True


Checks = Mapping[str, Callable[[], Check]]


def report(checks: Checks) -> tuple[bool, dict[str, str]]:
    """Whether everything that is needed holds, and what each check says."""
    results = [check() for check in checks.values()]
    is_ready = not any(result.problem and result.is_needed for result in results)
    return is_ready, {result.name: result.problem or "ok" for result in results}
