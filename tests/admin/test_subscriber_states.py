from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.admin.subscriber_states import BEHIND_S, Facts, Lag, SubscriberState, subscriber_state
from gateway.fanout.flow_control import PersistentState
from gateway.fanout.reader import SubscriberStatus

NOW = 1_770_000_000.0
UNKNOWN_LAG = Lag(None, "Kafka has given no answer for 30 s", 7, NOW - 30)


def status(state: str, in_flight: int = 0, **more: object) -> SubscriberStatus:
    return SubscriberStatus("billing", state, 5, in_flight, "", None, **more)  # type: ignore[arg-type]


def of(*states: str, **facts: object) -> str | None:
    return subscriber_state(Facts([status(state) for state in states], **facts), NOW).state  # type: ignore[arg-type]


def test_each_state_has_its_cause() -> None:
    assert of("closed") == "healthy"
    assert of("closed", "open") == "down"
    assert of("half_open") == "degraded"
    assert of("paused") == "paused"
    assert of("closed", kept=PersistentState(paused=True)) == "paused"
    assert of("closed", kept=PersistentState(stopped="answered 410")) == "stopped"
    assert of("closed", kept=PersistentState(opened_at=7.0)) == "down"
    assert of("closed", open_dead_letters=1) == "degraded"
    assert of("closed", success_share=0.94) == "degraded"
    assert of("closed", success_share=0.95) == "healthy"


def test_while_a_probe_is_in_progress_it_is_down() -> None:
    """It would change twice with each probe, and no alert would ever last."""
    assert subscriber_state(Facts([status("half_open", in_flight=1)]), NOW).state == "down"


def test_what_waits_longer_than_a_minute_is_behind() -> None:
    for age_s, state in ((BEHIND_S, "healthy"), (BEHIND_S + 1, "degraded")):
        assert subscriber_state(Facts([status("closed", oldest_at=NOW - age_s)]), NOW).state == state


def test_what_is_not_known_is_not_healthy() -> None:
    """Nobody who delivers answers, the lag or the dead letters are not known; what is known to be bad stays so."""
    assert of() is None
    assert of(kept=PersistentState()) is None
    assert of(kept=PersistentState(paused=True)) == "paused"
    for unknown in ({"lag": UNKNOWN_LAG}, {"open_dead_letters": None}, {"silent": ["deliver-1"]}):
        assert of("closed", **unknown) is None
        assert of("open", **unknown) == "down"
    assert of("closed", lag=UNKNOWN_LAG, open_dead_letters=3) == "degraded"


def test_the_reason_is_a_sentence_with_everything_that_degrades() -> None:
    facts = Facts([status("closed", oldest_at=NOW - 180)], open_dead_letters=1200, success_share=0.5)
    assert subscriber_state(facts, NOW).reason == (
        "1,200 dead letters are open; its oldest waiting event is 3 min old; "
        "50% of its attempts of the last minute failed."
    )


def test_since_is_when_it_changed_and_not_when_this_process_began() -> None:
    healthy = Facts([status("closed")])
    first = subscriber_state(healthy, NOW)
    assert first.since is None
    paused = subscriber_state(replace(healthy, kept=PersistentState(paused=True)), NOW + 5, first)
    assert (paused.since, subscriber_state(healthy, NOW + 9, paused).since) == (NOW + 5, NOW + 9)
    down = subscriber_state(replace(healthy, kept=PersistentState(opened_at=NOW - 60)), NOW, None)
    assert down.since == NOW - 60
    dark = subscriber_state(replace(healthy, lag=UNKNOWN_LAG), NOW, first)
    assert dark.since == NOW - 30
    starting = subscriber_state(Facts(), NOW)
    assert subscriber_state(healthy, NOW + 2, starting).since is None


FACTS = st.builds(
    Facts,
    st.lists(st.builds(status, st.sampled_from(("closed", "open", "half_open", "paused")), st.integers(0, 3))),
    st.lists(st.just("deliver-1"), max_size=1),
    st.none() | st.builds(PersistentState, st.booleans(), st.sampled_from(("", "410")), st.none() | st.floats(0, NOW)),
    st.sampled_from((Lag(0), Lag(9), UNKNOWN_LAG)),
    st.none() | st.integers(0, 3),
    st.none() | st.floats(0, 1),
)


@given(FACTS, st.lists(FACTS, max_size=4))
def test_healthy_means_that_all_is_known_and_nothing_is_wrong(facts: Facts, history: list[Facts]) -> None:
    """In whatever order things came: the word depends on the facts only, and a state has a reason."""
    before: SubscriberState | None = None
    for past in history:
        before = subscriber_state(past, NOW - 100, before)
    found = subscriber_state(facts, NOW, before)
    assert found.state == subscriber_state(facts, NOW).state
    assert found.reason.endswith(".")
    assert found.since is None or found.since <= NOW
    kept = facts.kept or PersistentState()
    is_fine = (
        {one.state for one in facts.statuses} == {"closed"}
        and (kept.paused, kept.stopped, kept.opened_at) == (False, "", None)
        and not facts.open_dead_letters
        and (facts.success_share is None or facts.success_share >= 0.95)
    )
    is_known = facts.lag.records is not None and facts.open_dead_letters is not None and not facts.silent
    assert (found.state == "healthy") == (is_fine and is_known)


def test_attempts_of_this_machine_are_added_up() -> None:
    both = Facts([status("closed", 2), status("closed", 3)])
    assert subscriber_state(both, NOW).in_flight == 5
    assert subscriber_state(Facts(kept=PersistentState()), NOW).in_flight is None
