"""Decision after a failed attempt: pure, so that every row of the table can be tested.

=====================================  =================================================================
result                                 outcome
=====================================  =================================================================
410                                    :class:`Stop`: the subscriber does not want events any more
429, 503                               :class:`Retry`, not before ``Retry-After``
3xx, other 4xx and 5xx, no answer      :class:`Retry`; a redirect is a failure, it is never followed
any of these at the last attempt       :class:`GiveUp`
=====================================  =================================================================

Waiting is exponential with *full jitter* (Exponential Backoff And Jitter, AWS Architecture Blog, 2015):
uniform between 0 and the exponential bound, which spreads a crowd best. ``Retry-After`` is RFC 9110,
section 10.2.3: a number of seconds or an HTTP date.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random
from typing import Final

from gateway.fanout.attempt import AttemptResult

#: Attempts with the same ``Retry-After`` are spread over this share of it.
_RETRY_AFTER_SPREAD: Final = 0.1
#: 2**62 seconds is beyond any bound; more would only cost digits.
_MAX_DOUBLINGS: Final = 62


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to try again and when to give up.

    Args:
        attempts: how often an event is tried, the first time included.
        first_delay_s: bound of the first wait; each further bound doubles.
        max_delay_s: no wait is longer, whatever ``Retry-After`` says.
        max_age_s: a failing event older than this is given up; None: attempts alone decide.
    """

    attempts: int = 12
    first_delay_s: float = 5.0
    max_delay_s: float = 21600.0
    max_age_s: float | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again in ``delay_s`` seconds."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """To the dead letters; ``reason`` is ``attempts`` or ``age``."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Send no more events to this subscriber until an operator resumes it."""

    reason: str


Outcome = Retry | GiveUp | Stop


def decide(policy: RetryPolicy, attempt: int, result: AttemptResult, rng: Random, *, age_s: float = 0.0) -> Outcome:
    """Turn the result of a failed attempt into what happens next.

    Args:
        policy: of the subscriber.
        attempt: its number, from 1.
        result: not a success.
        rng: jitter.
        age_s: seconds since the event was stored; only failing events are given up for it.
    """
    if result.status == 410:
        return Stop("gone")
    if attempt >= policy.attempts:
        return GiveUp("attempts")
    if policy.max_age_s is not None and age_s >= policy.max_age_s:
        return GiveUp("age")
    return Retry(delay_s(policy, attempt, result.retry_after_s, rng))


def delay_s(policy: RetryPolicy, attempt: int, retry_after_s: float | None, rng: Random) -> float:
    """Return the seconds to wait after failed attempt number ``attempt``; at most ``max_delay_s``."""
    bound = min(policy.max_delay_s, policy.first_delay_s * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS))
    backoff = rng.uniform(0.0, bound)
    if retry_after_s is None:
        return backoff
    asked = retry_after_s * (1.0 + rng.uniform(0.0, _RETRY_AFTER_SPREAD))
    return min(policy.max_delay_s, max(backoff, asked))


def retry_after_s(value: str | None, now: float) -> float | None:
    """Return the seconds that a ``Retry-After`` header requests, at least 0; None when absent or not understood.

    Args:
        value: the header's text.
        now: Unix seconds, to read a date against.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the second: a year or a zone of twenty digits
        return None
    if moment.tzinfo is None:  # "-0000": a date in UTC from an unknown zone (RFC 5322, section 3.3)
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.fromtimestamp(now, UTC)).total_seconds())
