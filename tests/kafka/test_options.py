"""From the configuration to what the clients are made with."""

from __future__ import annotations

import asyncio

import pytest

from gateway.config.kafka_settings import Kafka
from gateway.config.settings import Subscriber
from gateway.log.kafka import KafkaOptions, KafkaReader, ReaderPolicy
from gateway.log.kafka.incarnation import TopicIds


@pytest.mark.parametrize(("written", "session_s"), [(None, 15.0), ("6s", 6.0)])
def test_how_soon_a_dead_member_is_noticed_is_what_the_configuration_says(
    written: str | None, session_s: float
) -> None:
    """And a member that lives tells of itself several times in that time."""
    more = {} if written is None else {"session_timeout": written}
    options = KafkaOptions.of(Kafka.model_validate({"bootstrap_servers": ["127.0.0.1:9"], **more}))
    reader = KafkaReader(
        options,
        "g",
        ["sms.dr"],
        start="latest",
        ids=TopicIds(),
        on_revoked=None,
        ensure=_never,
        background=asyncio.create_task,
        on_closed=lambda _: None,
    )
    assert reader._policy.session_s == session_s
    assert 3 <= reader._policy.session_s / reader._policy.heartbeat_s <= 10


def test_a_rebalance_waits_for_the_longest_attempt_that_can_be_configured() -> None:
    """Cut short, an event would be sent by its next owner while this one still waits for the answer."""
    (longest_s,) = (limit.le for limit in Subscriber.model_fields["timeout_s"].metadata if hasattr(limit, "le"))
    policy = ReaderPolicy()
    assert longest_s < policy.settle_s < policy.rebalance_s


async def _never(topics: object) -> None:
    raise AssertionError("nothing is opened")
