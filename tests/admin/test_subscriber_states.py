from __future__ import annotations

from itertools import permutations

import pytest

from gateway.admin.subscriber_states import SubscriberState, subscriber_states
from gateway.fanout.fanout import SubscriberStatus
from gateway.fanout.flow_control import PersistentState
from gateway.telemetry.counts import Counts


def status(state: str, in_flight: int = 1, opened_at: float | None = None) -> SubscriberStatus:
    return SubscriberStatus("billing", state, 5, in_flight, "gone" if state == "stopped" else "", opened_at)  # type: ignore[arg-type]


def reported(state: str, in_flight: int = 0) -> Counts:
    gauges = {("gateway_subscriber_state", ("billing", state)): 1.0}
    if in_flight:
        gauges["gateway_delivery_in_flight", ("billing",)] = float(in_flight)
    return Counts(gauges=gauges)


def of(own: SubscriberStatus | None, others: list[Counts], kept: PersistentState | None) -> SubscriberState:
    found = subscriber_states(
        ["billing"],
        {} if own is None else {"billing": own},
        others,
        {} if kept is None else {"billing": kept},
    )
    return found["billing"]


@pytest.mark.parametrize("states", list(permutations(("closed", "open", "half_open"))))
def test_the_worst_that_a_process_says_counts(states: tuple[str, ...]) -> None:
    first, *others = states
    found = of(status(first), [reported(state) for state in others], None)
    assert found.state == "open"


def test_what_another_machine_says_counts() -> None:
    """It is down there since then, paused, or stopped with its reason; that nothing is said there changes nothing."""
    assert of(status("closed"), [], PersistentState()).state == "closed"
    assert of(status("closed"), [], PersistentState(opened_at=7.0)) == SubscriberState("open", "", 7.0, 1)
    assert of(status("open", opened_at=5.0), [], PersistentState(opened_at=7.0)).opened_at == 5.0
    assert of(status("closed"), [], PersistentState(paused=True)).state == "paused"
    assert of(status("closed"), [], PersistentState(stopped="gone")) == SubscriberState("stopped", "gone", None, 1)


def test_nobody_who_delivers_is_heard_and_nothing_is_said_to_be_well() -> None:
    assert of(None, [], None) == SubscriberState(None)
    assert of(None, [], PersistentState()) == SubscriberState(None)
    assert of(None, [], PersistentState(paused=True)) == SubscriberState("paused")


def test_attempts_of_this_machine_are_added_up() -> None:
    assert of(status("closed", 2), [reported("closed", 3), reported("closed")], PersistentState()).in_flight == 5
    assert of(None, [reported("closed")], None).in_flight == 0
