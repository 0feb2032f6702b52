"""Of what an operator deleted from Kafka, only what a group named may be missing at its subscriber."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.lossproof import stored
from tests.lossproof.callbacks import TOPICS, Item, callback
from tests.lossproof.gaps import EXPIRED, RECREATED, Gaps, Recreation
from tests.lossproof.history import Told
from tests.lossproof.receiver import Arrival
from tests.lossproof.witness import Witness

PARTITION = "sms.dr-0"
#: Requests whose one event goes to the topic above.
NUMBERS = [n for n in range(200) if callback(n).expected[0].topic == "sms.dr"][:20]
#: The topic was deleted and created again between these, in microseconds of the history, and at this time.
RECREATION = Recreation("sms.dr", 0, 1000, 2000, 50.0)


@pytest.fixture
async def gaps(monkeypatch: pytest.MonkeyPatch) -> Gaps:
    """Ten records in a partition, the first five of them deleted since."""
    first, records = 0, {offset: arrival(number) for offset, number in enumerate(NUMBERS[:10])}

    async def partitions(*_: Any) -> dict[str, stored.Partition]:
        return {PARTITION: stored.Partition(first, 10, records if not first else {})}

    monkeypatch.setattr(stored, "partitions", partitions)
    witness = Witness("lp.")
    await witness.look("")
    first = 5
    await witness.look("")
    return Gaps(witness)


def arrival(number: int) -> Arrival:
    return Arrival(Item(number, 0), f"{number}", callback(number).expected[0].key, "sms.dr", number)


def line(event: str, at: float = 60.0, **fields: Any) -> dict[str, Any]:
    """A line of the gateway's log."""
    return {"event": event, "timestamp": datetime.fromtimestamp(at, UTC).isoformat(), "group": "gateway.all"} | fields


def items(gaps: Gaps, where: str) -> list[int]:
    """Places among the numbers above that are excused."""
    return [place for place, number in enumerate(NUMBERS) if gaps.covers(Item(number, 0), where)]


def test_named_offsets_are_excused_at_the_subscriber_of_the_group_alone(gaps: Gaps) -> None:
    """Neither at another one, nor in the log, which is what was ever read from the topics."""
    gaps.read([line(EXPIRED, partition=PARTITION, first=2, last=4)], {})
    assert items(gaps, "all") == [2, 3, 4]
    assert items(gaps, "orders") == items(gaps, "") == []
    assert gaps.breaches() == []
    assert gaps.count("gateway.all", PARTITION, 0) == 3


def test_a_line_of_several_groups_names_them_for_each(gaps: Gaps) -> None:
    gaps.witness.recreated("sms.dr")
    gaps.recreations.append(RECREATION)
    two = ["gateway.all", "gateway.filtered"]
    gaps.read([line(EXPIRED, 40.0, group=two, partition=PARTITION, first=2, last=4)], {})
    assert items(gaps, "all") == items(gaps, "filtered") == [2, 3, 4]
    gaps.read([line(RECREATED, group=two, topic="sms.dr", positions={PARTITION: 8})], {})
    assert items(gaps, "all") == items(gaps, "filtered") == [2, 3, 4, 8, 9]
    assert items(gaps, "orders") == []
    assert gaps.unnamed({"all": TOPICS, "filtered": TOPICS}) == []


def test_offsets_that_are_named_twice_count_once(gaps: Gaps) -> None:
    """A process that is killed before it stores its position names them again."""
    gaps.read([line(EXPIRED, partition=PARTITION, first=first, last=4) for first in (0, 0, 2)], {})
    assert gaps.count("gateway.all", PARTITION, 0) == 5


def test_offsets_that_are_named_and_still_there_are_a_breach(gaps: Gaps) -> None:
    """A gateway must not skip what it could deliver."""
    gaps.read([line(EXPIRED, partition=PARTITION, first=2, last=6)], {})
    (breach,) = gaps.breaches()
    assert "begins at 5" in breach


def test_of_a_topic_that_was_recreated_what_was_behind_the_position_is_excused(gaps: Gaps) -> None:
    """And nothing before it, and only when the group named the topic."""
    gaps.witness.recreated("sms.dr")
    gaps.recreations.append(RECREATION)
    gaps.read([], {})
    assert items(gaps, "all") == []
    assert len(gaps.unnamed({"all": TOPICS, "orders": ("shop.order",)})) == 1
    gaps.read([line(RECREATED, topic="sms.dr", positions={PARTITION: 8})], {})
    assert items(gaps, "all") == [8, 9]
    assert gaps.unnamed({"all": TOPICS}) == []


def test_a_line_from_before_the_recreation_names_nothing(gaps: Gaps) -> None:
    """It was of an earlier one."""
    gaps.witness.recreated("sms.dr")
    gaps.recreations.append(RECREATION)
    gaps.read([line(RECREATED, at=40.0, topic="sms.dr", positions={PARTITION: 0})], {})
    assert items(gaps, "all") == []


@pytest.mark.parametrize(("answered_at", "is_excused"), [(999, False), (1000, True), (2000, True), (2001, False)])
def test_what_no_topic_had_is_excused_when_it_was_accepted_around_the_deletion(
    gaps: Gaps, answered_at: int, is_excused: bool
) -> None:
    """In the log, and at the subscribers that named the topic."""
    number = NUMBERS[15]
    gaps.witness.recreated("sms.dr")
    gaps.recreations.append(RECREATION)
    history = {number: Told(0, 0, [(answered_at, 200)])}
    gaps.read([line(RECREATED, topic="sms.dr", positions={PARTITION: 10})], history)
    assert gaps.covers(Item(number, 0), "") == gaps.covers(Item(number, 0), "all") == is_excused
    assert not gaps.covers(Item(number, 0), "filtered")


async def test_records_that_went_unread_end_the_run(gaps: Gaps) -> None:
    """What was at these offsets is not known, so nothing can be proven."""
    gaps.witness._records[PARTITION, 0].clear()
    gaps.witness._records[PARTITION, 0][2] = arrival(NUMBERS[2])
    with pytest.raises(AssertionError, match="begins at 5, and was read up to 3"):
        await gaps.witness.look("")
