"""The gauge ``gateway_kafka_up``: what it says of clients that are there, and nothing of those that are gone."""

from __future__ import annotations

import asyncio

import pytest

from gateway.log.kafka import KafkaLog, KafkaOptions
from gateway.log.kafka.errors import AWAY, NOT_ENOUGH_REPLICAS, KafkaAway, Problem
from gateway.log.kafka.health import CONNECTION, Availability, State, both
from gateway.telemetry.metrics import METRICS
from tests.waiting import turn

_AWAY = Problem(AWAY, "connection refused")
_REPLICAS = Problem(NOT_ENOUGH_REPLICAS, "one of two")


def shown() -> dict[str, float]:
    """Value by client, as Prometheus is told."""
    (family,) = METRICS.gauge("gateway_kafka_up").collect()
    return {sample.labels["client"]: sample.value for sample in family.samples}


def test_it_follows_the_client() -> None:
    """0 until it is connected, 1 while nothing is the matter, 0 as soon as one thing is."""
    one = Availability("follows")
    assert shown()["follows"] == 0
    one.solved(CONNECTION)
    assert shown()["follows"] == 1
    one.problem("sms.dr", _REPLICAS)
    assert shown()["follows"] == 0
    one.close()
    assert "follows" not in shown()


def test_a_client_that_is_closed_twice_or_speaks_afterwards_stays_gone() -> None:
    """A last word of a task that is being cancelled must not bring an alarm about nothing."""
    one = Availability("gone")
    one.close()
    one.close()
    one.problem(CONNECTION, _AWAY)
    one.solved(CONNECTION)
    assert "gone" not in shown()


def test_one_that_comes_before_the_other_has_gone_keeps_the_series() -> None:
    """As when a subscriber is replaced: the new reader opens, then the old one closes."""
    old = Availability("replaced")
    new = Availability("replaced")
    new.solved(CONNECTION)
    old.close()
    old.close()
    assert shown()["replaced"] == 1
    new.close()
    assert "replaced" not in shown()


def test_clients_of_one_name_are_up_when_all_of_them_are() -> None:
    """As those of one stream: one that goes before it was connected leaves no alarm about the healthy ones."""
    one, two = Availability("shared"), Availability("shared")
    one.solved(CONNECTION)
    assert shown()["shared"] == 0
    two.close()
    assert shown()["shared"] == 1
    three = Availability("shared")
    three.solved(CONNECTION)
    three.problem("sms.dr", _REPLICAS)
    one.problem(CONNECTION, _AWAY)
    one.solved(CONNECTION)
    assert shown()["shared"] == 0
    three.close()
    assert shown()["shared"] == 1
    one.close()
    assert "shared" not in shown()


def test_of_two_states_of_one_name_the_one_with_a_problem_is_told() -> None:
    """Whichever of them is asked first."""
    well, ill = State(True, {}, 2.0), State(False, {CONNECTION: _AWAY}, 1.0)
    assert both(well, ill) == both(ill, well) == State(False, {CONNECTION: _AWAY}, 2.0)


async def test_a_reader_that_cannot_open_leaves_no_series() -> None:
    """As for each scan of ``explain`` while Kafka is away: nobody is left who would set it to 1 again."""
    log = KafkaLog(KafkaOptions(bootstrap_servers=("127.0.0.1:1",)))
    with pytest.raises(KafkaAway):
        await log.browse("scan.away", ["sms.dr"])
    assert "scan.away" not in shown()


@pytest.mark.kafka
async def test_a_reader_that_closes_takes_its_series_along(kafka: str) -> None:
    """Known as up while it reads."""
    log = KafkaLog(KafkaOptions(bootstrap_servers=(kafka,)))
    await log.start()
    reader = await log.browse("scan.closes", ["sms.dr"])
    await reader.fetch(max_records=1, wait_s=0.1)
    assert shown()["scan.closes"] == 1
    await reader.close()
    assert "scan.closes" not in shown()
    await log.stop()


@pytest.mark.kafka
async def test_a_browser_that_goes_while_it_opens_leaves_the_others_as_they_are(kafka: str, prefix: str) -> None:
    """A stream's client that hangs up at once is no outage of those who read on, in metrics and on the console."""
    log = KafkaLog(KafkaOptions(bootstrap_servers=(kafka,), prefix=prefix))
    await log.start()
    stays = await log.browse("stream.shares", ["sms.dr"])
    opening = asyncio.create_task(log.browse("stream.shares", ["sms.dr"]))
    await turn()
    assert (shown()["stream.shares"], log.states["stream.shares"].is_ready) == (0, False)
    opening.cancel()
    await asyncio.wait([opening])
    await stays.fetch(max_records=1, wait_s=0.1)
    assert (shown()["stream.shares"], log.states["stream.shares"].is_ready) == (1, True)
    await log.stop()
    assert "stream.shares" not in shown()
