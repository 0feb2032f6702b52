"""When a change of subscribers is refused as the log cannot take it: with Kafka away, and not with a new client."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.admin.parts import Parts
from gateway.config.settings import Settings
from gateway.errors import NotNow
from gateway.log.kafka.log import KafkaLog
from gateway.log.kafka.options import KafkaOptions
from tests.ports import free_port
from tests.waiting import until


class Known:
    """Stored subscribers that are known."""

    def check_known(self) -> None:
        """Nothing to complain of."""


async def test_only_what_was_tried_shows_that_kafka_is_away() -> None:
    """The reader of a subscriber that was just added has not tried to connect: that refuses no further change."""
    log = KafkaLog(KafkaOptions((f"127.0.0.1:{free_port()}",)), creates=None)
    stored: Any = Known()
    fanout: Any = object()
    settings = Settings.model_validate({"kafka": {"bootstrap_servers": "127.0.0.1:9"}})
    parts = Parts(settings, "fanout", {}, CollectorRegistry(), log=log, fanout=fanout, stored=stored)
    assert not log.states[""].is_ready
    assert parts.needed_stored() is stored
    await log.start()
    try:
        before = log.states[""].problems
        await until(lambda: log.states[""].problems != before)
        with pytest.raises(NotNow, match=r"nothing was changed, as Kafka is unavailable: .*connect"):
            parts.needed_stored()
    finally:
        await log.stop()
