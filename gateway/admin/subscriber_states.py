"""In which state a subscriber is, out of what several processes say of it. Pure.

Each process that delivers has a breaker of its own for each subscriber; a pause, or a stop by a 410, holds in all. The
processes of this machine say how they are in their reports; those of other machines write it to the topic of states
when it changes. The worst counts: while one of them gets nothing through, events of its partitions wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.fanout.fanout import SubscriberStatus
from gateway.fanout.flow_control import PersistentState, Status
from gateway.telemetry.counts import Counts

#: From bad to good.
_WORST_FIRST: Final[tuple[Status, ...]] = ("stopped", "paused", "open", "half_open", "closed")


@dataclass(frozen=True, slots=True)
class SubscriberState:
    """One subscriber, all processes together as far as they are known.

    Args:
        state: None when nothing is known.
        stopped: why, when that is the state.
        opened_at: Unix seconds since when it counts as down.
        in_flight: attempts under way on this machine; None when none of its processes delivers.
    """

    state: Status | None
    stopped: str = ""
    opened_at: float | None = None
    in_flight: int | None = None


def subscriber_states(
    names: Iterable[str],
    own: Mapping[str, SubscriberStatus],
    others: Iterable[Counts],
    everywhere: Mapping[str, PersistentState],
) -> dict[str, SubscriberState]:
    """Decide for each name.

    Args:
        own: of this process.
        others: what the other processes of this machine report.
        everywhere: the words of all processes of all machines, where these could be read.
    """
    states: dict[str, list[Status]] = {name: [] for name in names}
    in_flight: dict[str, int] = {name: one.in_flight for name, one in own.items()}
    for name, one in own.items():
        states.setdefault(name, []).append(one.state)
    for found in others:
        for (metric, labels), value in found.gauges.items():
            if metric == "gateway_subscriber_state" and labels[0] in states:
                states[labels[0]] += [state for state in _WORST_FIRST if state == labels[1]]
                in_flight.setdefault(labels[0], 0)
            elif metric == "gateway_delivery_in_flight":
                in_flight[labels[0]] = in_flight.get(labels[0], 0) + int(value)
    return {
        name: _state_of(seen, own.get(name), everywhere.get(name), in_flight.get(name)) for name, seen in states.items()
    }


def _state_of(
    seen: list[Status], own: SubscriberStatus | None, kept: PersistentState | None, in_flight: int | None
) -> SubscriberState:
    is_delivered_here = bool(seen)
    if kept is not None:
        # That a subscriber is well is said by those who deliver to it only: a word that is not there is no word.
        words: list[tuple[bool, Status]] = [
            (bool(kept.stopped), "stopped"),
            (kept.paused, "paused"),
            (kept.opened_at is not None, "open"),
        ]
        seen = seen + [word for is_so, word in words if is_so]
    if not seen:
        return SubscriberState(None)
    state = min(seen, key=_WORST_FIRST.index)
    stopped = (own.stopped if own is not None else "") or (kept.stopped if kept is not None else "")
    times = [
        at
        for at in (own.opened_at if own is not None else None, kept.opened_at if kept is not None else None)
        if at is not None
    ]
    return SubscriberState(
        state,
        stopped if state == "stopped" else "",
        min(times, default=None),
        in_flight if is_delivered_here else None,
    )
