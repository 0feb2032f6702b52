from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.alerts.rules import Key, Notice, Outbox, Tracked, step

DOWN, OTHER = Key("subscriber_down", "billing"), Key("dead_letters", "billing")
FOR_S, REPEAT_S = {"subscriber_down": 120.0, "dead_letters": 0.0}, 3600.0
GONE_S = 60.0

#: What is seen of a problem: it is there, it is not, it is not known.
SIGHT = st.sampled_from(("bad", "good", "unknown"))
#: Seconds between looks, and what is seen of both problems.
LOOKS = st.lists(st.tuples(st.sampled_from((1.0, 5.0, 50.0, 400.0, 4000.0)), SIGHT, SIGHT), max_size=60)


def look(
    before: Mapping[Key, Tracked], sights: Mapping[Key, str], now: float
) -> tuple[dict[Key, Tracked], list[Notice]]:
    return step(
        before,
        {key: f"{key.subject} is bad" for key, sight in sights.items() if sight == "bad"},
        lambda key: sights.get(key) == "unknown",
        for_s=FOR_S.__getitem__,
        repeat_s=REPEAT_S,
        gone_s=GONE_S,
        now=now,
    )


@given(LOOKS)
def test_any_history_is_told_in_order_and_in_time(looks: list[tuple[float, str, str]]) -> None:
    """Of each problem: told once it has lasted, again after the interval only, over once it was gone, once.

    What is not known begins nothing and ends nothing.
    """
    tracked: dict[Key, Tracked] = {}
    now = 0.0
    bad_since: dict[Key, float] = {}
    good_since: dict[Key, float] = {}
    told_at: dict[Key, float] = {}
    for wait_s, *seen in looks:
        now += wait_s
        sights = dict(zip((DOWN, OTHER), seen, strict=True))
        for key, sight in sights.items():
            if sight == "bad":
                bad_since.setdefault(key, now)
                good_since.pop(key, None)
            elif sight == "good":
                good_since.setdefault(key, now)
                if key not in told_at:
                    bad_since.pop(key, None)
        tracked, notices = look(tracked, sights, now)
        for notice in notices:
            key = notice.key
            assert sights[key] != "unknown"
            assert notice.since == bad_since[key]
            if notice.state == "firing":
                assert sights[key] == "bad"
                assert now - bad_since[key] >= FOR_S[key.rule]
                assert now - told_at.get(key, -REPEAT_S) >= REPEAT_S
                told_at[key] = now
            else:
                assert key in told_at, "over without having been told"
                assert now - good_since[key] >= GONE_S
                del told_at[key], bad_since[key]
        # Nothing that is due is left out.
        for key, sight in sights.items():
            if sight == "bad" and now - bad_since[key] >= FOR_S[key.rule]:
                assert now - told_at[key] < REPEAT_S
            if sight == "good" and key in told_at:
                assert now - good_since[key] < GONE_S
        assert {key for key, one in tracked.items() if one.told_at is not None} == told_at.keys()


def test_without_an_interval_a_problem_is_told_once() -> None:
    tracked: dict[Key, Tracked] = {}
    told: list[Notice] = []
    for now in range(0, 100_000, 500):
        tracked, notices = step(
            tracked, {OTHER: "bad"}, lambda _: False, for_s=FOR_S.__getitem__, repeat_s=0, gone_s=GONE_S, now=float(now)
        )
        told += notices
    assert len(told) == 1


@given(LOOKS, st.lists(st.booleans(), min_size=200, max_size=200))
@settings(deadline=None)
def test_messages_are_apart_and_hold_the_newest_of_each_problem(
    looks: list[tuple[float, str, str]], accepted: list[bool]
) -> None:
    """Whatever fails: at most one message an interval, and nothing is told to be over that was not told before."""
    outbox, tracked, now, last_at = Outbox(), dict[Key, Tracked](), 0.0, float("-inf")
    known: set[Key] = set()
    answers = iter(accepted)
    for wait_s, *seen in looks:
        now += wait_s
        tracked, notices = look(tracked, dict(zip((DOWN, OTHER), seen, strict=True)), now)
        outbox.add(notices)
        assert len(outbox) <= 2
        message = outbox.due(now, 60.0)
        if not message or not next(answers):
            continue
        assert now - last_at >= 60.0
        last_at = now
        outbox.sent(message, now)
        for notice in message:
            if notice.state == "firing":
                known.add(notice.key)
            else:
                assert notice.key in known
                known.remove(notice.key)
    message = outbox.due(now + 1000, 60.0)
    outbox.sent(message, now + 1000)
    assert len(outbox) == 0
    for notice in message:
        known.add(notice.key) if notice.state == "firing" else known.remove(notice.key)
    assert known == {key for key, one in tracked.items() if one.told_at is not None}
