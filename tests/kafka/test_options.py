"""From the configuration to what the clients are made with."""

from __future__ import annotations

import pytest

from gateway.config.sections import Kafka
from gateway.log.kafka import KafkaLog, KafkaOptions
from gateway.log.kafka.options import instance_id


@pytest.mark.parametrize(("written", "session_s"), [(None, 15.0), ("6s", 6.0)])
async def test_how_soon_a_dead_member_is_noticed_is_what_the_configuration_says(
    written: str | None, session_s: float
) -> None:
    """And a member that lives tells of itself several times in that time."""
    more = {} if written is None else {"session_timeout": written}
    options = KafkaOptions.of(Kafka.model_validate({"bootstrap_servers": ["127.0.0.1:9"], **more}))
    policy = KafkaLog(options)._parts()["policy"]
    assert policy.session_s == session_s
    assert policy.beat_s < policy.session_s / 3
    assert session_s / 2 < policy.lease_s < session_s


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("", "host", 8081, "deliver"), "host-8081"),
        (("", "host", 8081, "gateway"), "host-8081"),
        (("", "host", 8081, "deliver-3"), "host-8081-3"),
        (("", "a b/ü", 8081, "deliver"), "a-b---8081"),
        (("", "host", 0, "deliver"), ""),
        (("fanout-0", "host", 8081, "deliver"), "fanout-0"),
        (("fanout-0", "host", 0, "deliver-1"), "fanout-0-1"),
    ],
)
def test_a_process_has_a_name_that_nobody_else_has(given: tuple[str, str, int, str], expected: str) -> None:
    """Over restarts the same; none where the admin port is another one at each start."""
    assert instance_id(*given) == expected


def test_the_name_is_as_long_as_kafka_takes() -> None:
    """A group instance id may have 249 characters, and member ids are made of it."""
    assert len(instance_id("", "h" * 253, 65535, "deliver-64")) <= 249
