"""Delivery status of an event at one subscriber, derived from what is known. Pure.

The record of attempts is the best source. Without one, the status follows from the subscriber's filter and its position
in the log; where these do not determine it, it is reported as unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from gateway.admin.subscriber_states import SubscriberState
from gateway.fanout.attempts import Attempt

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


#: States in which no event is attempted, or a probe only.
_HELD: Final = frozenset({"stopped", "paused", "down"})


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """In a word, and in a sentence."""

    outcome: Outcome
    why: str


#: Why an event was delivered without trouble.
AT_ONCE: Final = "at the first attempt"
#: Of subscribers of kind ``stream``.
FETCHED: Final = DeliveryStatus("fetched", "its clients fetch events themselves; only they know what they processed")


def delivery_status(
    attempts: Sequence[Attempt], state: SubscriberState | None, *, left_out_by: str | None, is_passed: bool | None
) -> DeliveryStatus:
    """Decide.

    Args:
        attempts: on the event for this subscriber, in order of time.
        state: of the subscriber; None when it is not of this process.
        left_out_by: the key path of what in its filter says no; None where nothing does.
        is_passed: its position is past the event; None when that is unknown.
    """
    if attempts:
        return _by_attempts(attempts, state)
    if left_out_by is not None:
        return DeliveryStatus(
            "skipped", f"its {left_out_by} leaves this event out; a replay of all events sends it all the same"
        )
    if is_passed:
        return DeliveryStatus(
            "unknown",
            "its position is past this event and no attempt is kept: it was delivered and the record expired, "
            "or the subscriber was added after the event",
        )
    if state is None:
        return DeliveryStatus("unknown", "no attempt is kept, and this process does not deliver to it")
    return DeliveryStatus("waiting", _waiting(state))


def _by_attempts(attempts: Sequence[Attempt], state: SubscriberState | None) -> DeliveryStatus:
    first = [attempt for attempt in attempts if not attempt.replay]
    found = _of_one(first, state) if first else None
    for name in dict.fromkeys(attempt.replay for attempt in attempts if attempt.replay):
        again = _of_replay(name, [attempt for attempt in attempts if attempt.replay == name], found, state)
        if found is None:
            found = again
        else:
            # An event that was delivered stays so, whatever becomes of it when it is delivered again.
            stays = found.outcome == "delivered" or again.outcome == "unknown"
            found = DeliveryStatus(found.outcome if stays else again.outcome, f"{found.why}; {again.why}")
    assert found is not None
    return found


def _of_replay(
    name: str, attempts: Sequence[Attempt], before: DeliveryStatus | None, state: SubscriberState | None
) -> DeliveryStatus:
    """Decide what became of the event in one replay."""
    if attempts[-1].outcome == "withdrawn":
        return DeliveryStatus("unknown", f"replay {name} was cancelled before it was delivered again")
    found = _of_one(attempts, state)
    if found.outcome == "delivered":
        again = "again " if before is None or before.outcome == "delivered" else ""
        late = "" if found.why == AT_ONCE else f" {found.why}"
        return DeliveryStatus("delivered", f"delivered {again}by replay {name}{late}")
    return DeliveryStatus(found.outcome, f"in replay {name}: {found.why}")


def _of_one(attempts: Sequence[Attempt], state: SubscriberState | None) -> DeliveryStatus:
    """Decide by the attempts of one delivery."""
    last = attempts[-1]
    outcome = _OF_ATTEMPT.get(last.outcome, "unknown")
    if any(attempt.outcome == "delivered" for attempt in attempts):
        count = len(attempts)
        return DeliveryStatus("delivered", AT_ONCE if count == 1 else f"after {count} attempts")
    match outcome:
        case "parked":
            return DeliveryStatus(outcome, f"{last.sentence}; it waits in a retry topic")
        case "dead_lettered":
            return DeliveryStatus(outcome, f"given up after {_times(last.number)}; the last one: {last.sentence}")
        case "lost":
            return DeliveryStatus(outcome, "given up, and the log refused the dead letter; replay it by its id")
        case "stopped":
            return DeliveryStatus(outcome, f"the subscriber answered {last.result} and wants no more events; resume it")
        case "retrying" if last.outcome == "cancelled":
            return DeliveryStatus(
                outcome, "the last attempt was cut off when its partition moved; it will be tried again"
            )
        case "retrying":
            held = f" {state.reason}" if state is not None and state.state in _HELD else ""
            return DeliveryStatus(outcome, f"{last.sentence}; it will be tried again.{held}")
    return DeliveryStatus("unknown", f"the last attempt ended as {last.outcome}")


def _times(count: int) -> str:
    return "one attempt" if count == 1 else f"{count} attempts"


def _waiting(state: SubscriberState) -> str:
    return state.reason if state.state in _HELD else "Not attempted yet."
