"""What is told of lags when the log answers, is slow, refuses, and answers again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import pytest

from gateway.admin.subscriber_states import Lag, Lags
from gateway.log.kafka.errors import KafkaAway


class Asked:
    """A log whose answers wait until they are let through."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.count = 0
        self.answer: Mapping[str, int | None] | Exception = {"billing": 7, "crm": None}
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.lags = Lags(self.ask, "Kafka", clock=lambda: self.now)

    async def ask(self) -> Mapping[str, int | None]:
        self.count += 1
        await self.may_answer.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def asked() -> Asked:
    return Asked()


async def test_nothing_is_known_before_the_first_answer(asked: Asked) -> None:
    lag = asked.lags.of("billing")
    assert (lag.records, lag.last, lag.last_at) == (None, None, None)
    assert lag.reason
    await asked.lags.look()
    assert asked.lags.of("billing") == Lag(7, "", 7, 1000.0)


async def test_a_subscriber_whose_topics_nobody_reads_yet_is_not_at_0(asked: Asked) -> None:
    await asked.lags.look()
    assert asked.lags.of("crm").records is None
    assert "no process has begun" in asked.lags.of("crm").reason


async def test_an_error_makes_it_unknown_and_an_answer_known_again(asked: Asked) -> None:
    """With the reason, and with what was known last and when."""
    await asked.lags.look()
    asked.now, asked.answer = 1010.0, KafkaAway("Kafka: connection refused")
    await asked.lags.look()
    assert asked.lags.of("billing") == Lag(None, "Kafka: connection refused", 7, 1000.0)
    asked.now, asked.answer = 1011.0, {"billing": 9}
    await asked.lags.look()
    assert asked.lags.of("billing") == Lag(9, "", 9, 1011.0)


async def test_nobody_waits_for_a_log_that_says_nothing(asked: Asked) -> None:
    """What was known is believed for some seconds; then it is unknown, since when it was known last."""
    await asked.lags.look()
    asked.may_answer.clear()
    asked.now = 1005.0
    began = time.monotonic()
    await asked.lags.look(patience_s=0.05)
    assert time.monotonic() - began < 1.5
    assert asked.lags.of("billing").records == 7
    asked.now = 1020.0
    await asked.lags.look(patience_s=0.05)
    assert asked.lags.of("billing") == Lag(None, "Kafka has given no answer for 15 s", 7, 1000.0)
    assert asked.count == 2, "one question is under way, however many look"
    asked.may_answer.set()
    await asked.lags.look()
    assert asked.lags.of("billing").records == 7
    await asked.lags.stop()
    await asked.lags.stop()


@pytest.mark.parametrize(
    ("took_s", "waits"),
    [
        (0.2, ((3.9, True, 0), (4.1, False, 0), (4.1, True, 1))),
        (50.0, ((4.9, True, 0), (59.0, False, 0), (61.0, False, 1))),
    ],
)
async def test_an_expensive_question_is_asked_less_often(
    asked: Asked, took_s: float, waits: tuple[tuple[float, bool, int], ...]
) -> None:
    """The asking has a twentieth of the time while somebody looks, a hundredth while nobody does; within bounds."""
    await asked.lags.look()
    asked.lags._took_s = took_s
    for later_s, for_somebody, more in waits:
        asked.now = 1000.0 + later_s
        await asked.lags.look(for_somebody=for_somebody)
        assert asked.count == 1 + more
