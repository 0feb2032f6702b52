"""A gateway that is broken on purpose is caught: the proof is worth what it can refute."""

from __future__ import annotations

import os
import shutil
import time

import pytest

from tests.lossproof.plan import Play
from tests.lossproof.report import Row, table
from tests.lossproof.run import play
from tests.lossproof.world import Mode

#: Within which a broken build must be caught, start-up included.
CAUGHT_S = 60.0


async def caught(broken: str, scenario: str, mode: Mode, cycles: int) -> Row:
    started = time.monotonic()
    row = await play(Play(scenario, mode, cycles), broken=broken)
    print(table([row]))
    assert not row.failure, row.failure
    assert row.verdict.lost, f"{broken} was not caught"
    assert time.monotonic() - started < CAUGHT_S
    return row


@pytest.mark.slow
async def test_an_answer_before_the_commit_is_caught() -> None:
    """Killed between the two, it has told success of what is nowhere: the log itself lacks it."""
    row = await caught("answer_before_commit", "kill", "embedded", cycles=2)
    assert any("is not in the log" in text for text in row.verdict.problems)


@pytest.mark.slow
async def test_a_commit_ahead_of_completion_is_caught() -> None:
    """It is in the log, and a subscriber never gets it."""
    row = await caught("commit_ahead_of_completion", "backlog", "embedded", cycles=1)
    assert all("never came to" in text for text in row.verdict.problems)


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.skipif(not (shutil.which("java") and shutil.which("mvn")) and not os.environ.get("CI"),
                    reason="needs Java 17 and Maven")  # fmt: skip
async def test_a_cursor_that_moves_before_the_acknowledgement_is_caught() -> None:
    """It is in the journal, and neither in the topic nor at a subscriber."""
    row = await caught("cursor_before_acknowledgement", "outage", "kafka", cycles=1)
    assert any("is not in the log" in text for text in row.verdict.problems)
