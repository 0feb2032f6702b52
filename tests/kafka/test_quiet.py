"""What aiokafka says during an outage, cut down."""

from __future__ import annotations

import logging

import pytest

from gateway.log.kafka.quiet import QUIET, Quiet, quieten


def _record(text: str, *arguments: object, level: int = logging.ERROR) -> logging.LogRecord:
    return logging.LogRecord("aiokafka.client", level, __file__, 1, text, arguments, None)


def test_one_of_each_kind_is_shown() -> None:
    """The same text with other values is the same kind; the latest warning is kept for the state."""
    quiet = Quiet()
    assert quiet.filter(_record("Unable connect to node with id %s: %s", 1, "refused"))
    assert not quiet.filter(_record("Unable connect to node with id %s: %s", 2, "refused"))
    assert quiet.filter(_record("Heartbeat failed: %r", "x"))
    assert quiet.last_warning == "Heartbeat failed: 'x'"
    quiet.filter(_record("Sending %s", "data", level=logging.DEBUG))
    assert quiet.last_warning == "Heartbeat failed: 'x'"


def test_all_loggers_of_aiokafka_are_covered(caplog: pytest.LogCaptureFixture) -> None:
    """Also those of its modules: a filter on a parent would not see their records."""
    quieten()
    quieten()
    for name in ("aiokafka", "aiokafka.producer.sender", "aiokafka.consumer.group_coordinator"):
        assert logging.getLogger(name).filters.count(QUIET) == 1
    logger = logging.getLogger("aiokafka.conn")
    for number in range(3):
        logger.error("said by the test %d", number)
    assert [record.getMessage() for record in caplog.records] == ["said by the test 0"]
