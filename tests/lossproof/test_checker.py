"""The proof can fail: every rule of the checker is broken once, by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.lossproof import history
from tests.lossproof.callbacks import CLIENTS, TOPICS, Item, callback
from tests.lossproof.checker import Verdict, check
from tests.lossproof.history import History, Told
from tests.lossproof.receiver import Arrival, Receiver
from tests.rows import rows


@dataclass(slots=True)
class Case:
    """A run that went well: one client, so many callbacks, each answered before the next was sent."""

    numbers: list[int] = field(default_factory=lambda: list(range(0, 400 * CLIENTS, CLIENTS)))
    told: dict[int, Told] = field(default_factory=dict)
    log: list[Arrival] = field(default_factory=list)
    receivers: list[Receiver] = field(default_factory=list)
    moved: dict[Item, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.receivers = [Receiver("all", TOPICS), Receiver("some", ("sms.dr",), prefix="k0-1")]
        for at, number in enumerate(self.numbers):
            wanted = callback(number)
            self.told[number] = Told(at * 10, at * 10, [(at * 10 + 5, wanted.status)])
            for place, expected in enumerate(wanted.expected):
                key = expected.key or f"r{number}"
                met = Arrival(Item(number, place), f"id-{number}-{place}", key, expected.topic, number)
                self.log.append(met)
                for receiver in self.receivers:
                    if receiver.wants(expected.topic, key):
                        receiver.taken.append(met)

    def of_kind(self, topic: str) -> list[int]:
        """Places in the log."""
        return [at for at, met in enumerate(self.log) if met.topic == topic]

    def verdict(self) -> Verdict:
        for receiver in self.receivers:
            receiver.items = {met.item for met in receiver.taken}
        return check(self.told, {"events": self.log}, self.receivers, self.moved)


def test_a_good_run_is_clean() -> None:
    case = Case()
    verdict = case.verdict()
    assert verdict.is_clean
    assert verdict.accepted == len(case.log) > 400
    assert verdict.repeated_in_log == verdict.repeated_deliveries == 0


@rows("topic", TOPICS)
def test_an_event_that_is_not_in_the_log_is_lost(topic: str) -> None:
    case = Case()
    del case.log[case.of_kind(topic)[3]]
    assert case.verdict().lost == 1


def test_an_event_that_one_subscriber_never_got_is_lost_once() -> None:
    case = Case()
    case.receivers[1].taken.pop(5)
    assert case.verdict().lost == 1


def test_a_callback_without_an_answer_may_be_stored_or_not() -> None:
    case = Case()
    first, second = case.of_kind("sms.dr")[:2]
    for at in (first, second):
        case.told[case.log[at].item.number].answers = []  # type: ignore[union-attr]
    gone = case.log.pop(first)
    for receiver in case.receivers:
        receiver.taken = [met for met in receiver.taken if met != gone]
    assert case.verdict().is_clean


def test_an_event_that_nobody_sent_is_invented() -> None:
    case = Case()
    case.log.append(Arrival(Item(10**9, 0), "x", "k", "sms.dr", 1))
    case.receivers[0].taken.append(Arrival(None, "y", "k", "", 1))
    assert case.verdict().invented == 2


def test_an_event_under_the_wrong_key_or_topic_is_invented() -> None:
    case = Case()
    at = case.of_kind("sms.dr")[0]
    case.log.append(case.log[at]._replace(key="other"))
    case.log.append(case.log[at]._replace(topic="shop.order"))
    assert case.verdict().invented == 2


def test_an_event_that_a_filter_should_have_kept_out_is_invented() -> None:
    case = Case()
    case.receivers[1].taken.append(case.log[case.of_kind("shop.order")[0]])
    assert case.verdict().invented == 1


def test_a_subscriber_that_was_added_late_must_have_what_was_sent_after_that() -> None:
    """What was sent before and answered after it may come or not."""
    case = Case()
    receiver = case.receivers[0]
    middle = case.told[case.numbers[200]]
    receiver.added_at, receiver.not_before = middle.first_sent_at + 1, middle.first_sent_at + 1
    receiver.taken = [met for met in receiver.taken if met.item is not None and met.item.number > case.numbers[200]]
    assert case.verdict().is_clean
    gone = receiver.taken.pop(0)
    verdict = case.verdict()
    assert verdict.losses == [(gone.item, "all")]


def test_a_subscriber_that_was_added_late_must_not_have_what_is_older() -> None:
    case = Case()
    receiver = case.receivers[0]
    receiver.added_at = receiver.not_before = case.told[case.numbers[3]].last_seen_at + 1
    verdict = case.verdict()
    old = [met for met in receiver.taken if met.item is not None and met.item.number <= case.numbers[3]]
    assert verdict.invented == len(old) > 3
    assert "older than its start" in verdict.problems[0]


def test_two_events_of_one_key_the_wrong_way_round() -> None:
    """In the log, and at a subscriber that was promised an order."""
    case = Case()
    places = [at for at in case.of_kind("sms.dr") if case.log[at].key == "k0-1"][:2]
    first, second = places
    case.log[first], case.log[second] = case.log[second], case.log[first]
    assert case.verdict().out_of_order == 1
    case = Case()
    taken = case.receivers[1].taken
    of_key = [at for at, met in enumerate(taken) if met.key == "k0-1"]
    taken[of_key[0]], taken[of_key[1]] = taken[of_key[1]], taken[of_key[0]]
    assert case.verdict().out_of_order == 1


def test_a_key_that_moved_to_another_partition_is_ordered_within_each() -> None:
    """More partitions later: for a while its events are in two."""
    case = Case()
    taken = case.receivers[1].taken
    first, second, third = [at for at, met in enumerate(taken) if met.key == "k0-1"][:3]
    items = [taken[at].item for at in (first, second, third)]
    taken[first], taken[second] = taken[second], taken[first]
    case.moved = dict(zip(items, (("sms.dr-0", 0), ("sms.dr-1", 0), ("sms.dr-1", 0)), strict=True))  # type: ignore[arg-type]
    assert case.verdict().is_clean
    case.moved = dict.fromkeys(items, ("sms.dr-0", 0))  # type: ignore[arg-type]
    assert case.verdict().out_of_order == 1


def test_two_events_that_were_under_way_together_have_no_order() -> None:
    """The first had no answer when the second was sent: a request that hung may be read later."""
    case = Case()
    first, second = [at for at in case.of_kind("sms.dr") if case.log[at].key == "k0-1"][:2]
    told = case.told[case.log[first].item.number]  # type: ignore[union-attr]
    told.answers = [(10**9, 200)]
    case.log[first], case.log[second] = case.log[second], case.log[first]
    assert case.verdict().is_clean


def test_a_repeat_is_counted_and_no_breach_and_only_first_appearances_have_an_order() -> None:
    case = Case()
    case.receivers[0].taken += case.receivers[0].taken[-50:-20]
    case.log += case.log[-10:]
    verdict = case.verdict()
    assert verdict.is_clean
    assert verdict.repeated_deliveries == 30
    assert verdict.repeated_in_log == 10


@pytest.mark.parametrize("change", [{"id": "another"}, {"checksum": 7}])
def test_another_id_or_other_bytes_for_one_event_are_told(change: dict[str, object]) -> None:
    case = Case()
    case.receivers[0].taken.append(case.receivers[0].taken[7]._replace(**change))  # type: ignore[arg-type]
    assert case.verdict().unstable == 1


async def test_history_reads_back_what_was_written(tmp_path: Path) -> None:
    """Sent twice, answered once; a line cut short is left out."""
    one = History(tmp_path / "history")
    one.start()
    one.sent(5)
    one.answered(5, 0)
    one.sent(5)
    one.answered(5, 200)
    one.sent(7)
    await one.close()
    with one.path.open("ab") as file:
        file.write(b"A 7 99 20")
    found = history.read(one.path)
    assert [5, 7] == list(found)
    assert found[5].first_sent_at < found[5].last_sent_at < (found[5].answered_at(200) or 0)
    assert [] == found[7].answers
