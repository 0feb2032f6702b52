"""A gateway that is broken on purpose is caught: the proof is worth what it can refute."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable

import pytest

from tests.effort import nightly
from tests.lossproof.plan import Play
from tests.lossproof.report import Row, table
from tests.lossproof.roles import Mode
from tests.lossproof.run import play

#: Within which a broken build is caught on a machine that has much else to do, start-up included.
pytestmark = pytest.mark.timeout(240)


def needs_broker(test: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Run it nightly; skip where no broker can be assembled, and fail there on CI."""
    has_broker = bool(shutil.which("java") and shutil.which("mvn")) or bool(os.environ.get("CI"))
    marks = (nightly, pytest.mark.skipif(not has_broker, reason="needs Java 17 and Maven"), pytest.mark.kafka)
    for mark in (*marks, pytest.mark.slow):
        test = mark(test)
    return test


async def caught(broken: str, scenario: str, mode: Mode, cycles: int, seed: int = 1, by: str = "") -> Row:
    """Play a scenario with a broken build, which must lose events, or breach what ``by`` says."""
    row = await play(Play(scenario, mode, cycles), seed=seed, broken=broken)
    print(table([row]))
    assert not row.failure, row.failure
    assert any(by in text for text in row.verdict.problems) if by else row.verdict.lost, f"{broken} was not caught"
    return row


@pytest.mark.slow
async def test_an_acknowledgement_before_the_commit_is_caught() -> None:
    """When the log process dies between the two, success was told of what is nowhere: the log itself lacks it."""
    row = await caught("answer_before_commit", "reconnect", "embedded", cycles=1, seed=21)
    assert "log dies before_commit" in row.schedule[0]
    assert any("is not in the log" in text for text in row.verdict.problems)


@pytest.mark.slow
async def test_what_waits_for_a_new_log_process_and_is_taken_for_stored_is_caught() -> None:
    """It was never committed."""
    row = await caught("acknowledged_on_reconnect", "reconnect", "embedded", cycles=1, seed=21)
    assert "log dies before_commit" in row.schedule[0]
    assert any("is not in the log" in text for text in row.verdict.problems)


@pytest.mark.slow
async def test_what_waits_and_is_not_sent_to_a_new_log_process_is_caught() -> None:
    """Nothing is lost, as nobody was told of success; but the platform sends most callbacks once."""
    by = "were not answered when the log died"
    row = await caught("resend_dropped", "reconnect", "embedded", cycles=1, seed=21, by=by)
    assert "log dies before_commit" in row.schedule[0]
    assert row.verdict.lost == 0


@pytest.mark.slow
async def test_a_log_process_that_does_not_know_what_is_stored_is_caught() -> None:
    """What the one before it had committed, and not acknowledged, is sent again and stored again."""
    row = await caught("ids_forgotten", "reconnect", "embedded", cycles=1, seed=9, by="events more than once")
    assert "log dies after_commit" in row.schedule[0]


@pytest.mark.slow
async def test_a_commit_ahead_of_completion_is_caught() -> None:
    """It is in the log, and a subscriber never gets it."""
    row = await caught("commit_ahead_of_completion", "backlog", "embedded", cycles=1)
    assert all("never came to" in text for text in row.verdict.problems)


@pytest.mark.slow
async def test_a_journal_that_does_not_compare_its_files_is_caught() -> None:
    """It answers with success after its files are gone, and the next start does not find what it stored."""
    row = await caught("files_not_compared", "folder", "embedded", cycles=1)
    assert any("not noticed within" in text for text in row.verdict.problems)
    assert any("is not in the log" in text for text in row.verdict.problems)


@needs_broker
async def test_a_fanout_that_does_not_name_a_gap_is_caught() -> None:
    """What retention took before it was read is missing at a subscriber, and nothing says so."""
    row = await caught("gaps_not_named", "expired", "split", cycles=1, seed=3)
    assert "DeleteRecords" in row.schedule[0]  # retention takes half a minute more
    assert any("records unread, and the metric says 0" in text for text in row.verdict.problems)
    assert any("never came to" in text for text in row.verdict.problems)


@needs_broker
async def test_a_fanout_that_does_not_see_that_a_topic_is_a_new_one_is_caught() -> None:
    """It continues at its old offsets, so that what is before them in the new topic is never delivered."""
    row = await caught("topic_ids_ignored", "recreated", "split", cycles=1, seed=2)
    assert "fanout stopped, many records since" in row.schedule[0]  # a fanout that runs may notice it by an offset
    assert any("did not name that" in text for text in row.verdict.problems)
    assert any("never came to" in text for text in row.verdict.problems)


@needs_broker
async def test_a_start_that_is_fixed_when_kafka_answers_is_caught() -> None:
    """What was accepted after the subscriber was said to be in force does not come to it."""
    row = await caught("start_when_kafka_answers", "newcomers", "split", cycles=1)
    assert any("never came to fresh" in text for text in row.verdict.problems)


@needs_broker
async def test_a_cursor_that_moves_before_the_acknowledgement_is_caught() -> None:
    """It is in the journal, and neither in the topic nor at a subscriber."""
    row = await caught("cursor_before_acknowledgement", "outage", "kafka", cycles=1)
    assert any("is not in the log" in text for text in row.verdict.problems)
