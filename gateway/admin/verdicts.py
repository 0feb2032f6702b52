"""How an event fared with one subscriber, out of what is known. Pure.

The record of attempts tells most. Where there is none, the subscriber's filter and its position in the log do; and
where these tell nothing either, that is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from gateway.fanout.attempts import Attempt
from gateway.fanout.fanout import Status

Outcome = Literal[
    "delivered",
    "retrying",
    "parked",
    "dead_lettered",
    "resolved",
    "lost",
    "stopped",
    "skipped",
    "waiting",
    "fetched",
    "unknown",
]

_OF_ATTEMPT: Final[dict[str, Outcome]] = {
    "delivered": "delivered",
    "retried": "retrying",
    "parked": "parked",
    "dead_lettered": "dead_lettered",
    "lost": "lost",
    "stopped": "stopped",
    "abandoned": "retrying",
    "cancelled": "retrying",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """In a word, and in a sentence."""

    outcome: Outcome
    why: str


#: Why an event was delivered without trouble.
AT_ONCE: Final = "at the first attempt"
#: Of subscribers of kind ``stream``.
FETCHED: Final = Verdict("fetched", "its clients fetch events themselves; what they took in only they know")


def verdict(
    attempts: Sequence[Attempt], status: Status | None, *, left_out_by: str | None, is_passed: bool | None
) -> Verdict:
    """Decide.

    Args:
        attempts: on the event for this subscriber, in order of time.
        status: of the subscriber; None when it is not of this process.
        left_out_by: the key path of what in its filter says no; None where nothing does.
        is_passed: its position is past the event; None when that cannot be told.
    """
    if attempts:
        return _by_attempts(attempts, status)
    if left_out_by is not None:
        return Verdict(
            "skipped", f"its {left_out_by} leaves this event out; a replay of all events sends it all the same"
        )
    if is_passed:
        return Verdict(
            "unknown",
            "its position is past this event and no attempt is kept: it was delivered and the record expired, "
            "or the subscriber was added after the event",
        )
    if status is None:
        return Verdict("unknown", "no attempt is kept, and this process does not deliver to it")
    return Verdict("waiting", _waiting(status))


def _by_attempts(attempts: Sequence[Attempt], status: Status | None) -> Verdict:
    first = [attempt for attempt in attempts if not attempt.replay]
    found = _of_one(first, status) if first else None
    for name in dict.fromkeys(attempt.replay for attempt in attempts if attempt.replay):
        again = _of_replay(name, [attempt for attempt in attempts if attempt.replay == name], found, status)
        if found is None:
            found = again
        else:
            # An event that was delivered stays so, whatever becomes of it when it is delivered again.
            stays = found.outcome == "delivered" or again.outcome == "unknown"
            found = Verdict(found.outcome if stays else again.outcome, f"{found.why}; {again.why}")
    assert found is not None
    return found


def _of_replay(name: str, attempts: Sequence[Attempt], before: Verdict | None, status: Status | None) -> Verdict:
    """Decide what became of the event in one replay."""
    if attempts[-1].outcome == "withdrawn":
        return Verdict("unknown", f"replay {name} was cancelled before it was delivered again")
    found = _of_one(attempts, status)
    if found.outcome == "delivered":
        again = "again " if before is None or before.outcome == "delivered" else ""
        late = "" if found.why == AT_ONCE else f" {found.why}"
        return Verdict("delivered", f"delivered {again}by replay {name}{late}")
    return Verdict(found.outcome, f"in replay {name}: {found.why}")


def _of_one(attempts: Sequence[Attempt], status: Status | None) -> Verdict:
    """Decide by the attempts of one delivery."""
    last = attempts[-1]
    outcome = _OF_ATTEMPT.get(last.outcome, "unknown")
    if any(attempt.outcome == "delivered" for attempt in attempts):
        count = len(attempts)
        return Verdict("delivered", AT_ONCE if count == 1 else f"after {count} attempts")
    match outcome:
        case "parked":
            return Verdict(outcome, f"the last answer was {last.result}; it waits in a retry topic")
        case "dead_lettered":
            return Verdict(outcome, f"given up after {_times(last.number)}, the last answer was {last.result}")
        case "lost":
            return Verdict(outcome, "given up, and the log refused the dead letter; replay it by its id")
        case "stopped":
            return Verdict(outcome, f"the subscriber answered {last.result} and wants no more events; resume it")
        case "retrying" if last.outcome == "cancelled":
            return Verdict(outcome, "the last attempt was cut off when its partition moved; it will be tried again")
        case "retrying":
            held = "" if status is None or status.state == "closed" else f" {_waiting(status)}"
            return Verdict(outcome, f"the last answer was {last.result}; it will be tried again.{held}")
    return Verdict("unknown", f"the last attempt ended as {last.outcome}")


def _times(count: int) -> str:
    return "one attempt" if count == 1 else f"{count} attempts"


def _waiting(status: Status) -> str:
    match status.state:
        case "paused":
            return "The subscriber is paused; its events wait in the log."
        case "stopped":
            return f"The subscriber is stopped ({status.stopped}); its events wait in the log."
        case "open" | "half_open":
            return "The subscriber is down; its events wait in the log until a probe succeeds."
    return "Not attempted yet."
