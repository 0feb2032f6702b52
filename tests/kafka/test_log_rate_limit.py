"""What aiokafka writes to its log: our debug lines, but for what only aiokafka knows."""

from __future__ import annotations

import logging

import pytest
from aiokafka.errors import KafkaConnectionError
from structlog.testing import capture_logs

from gateway.log.kafka.outage import RATE_LIMIT, RateLimit, limit_logs


def _record(
    text: str, *arguments: object, level: int = logging.ERROR, exc: Exception | None = None
) -> logging.LogRecord:
    exc_info = (type(exc), exc, None) if exc is not None else None
    return logging.LogRecord("aiokafka.client", level, __file__, 1, text, arguments, exc_info)


def test_what_is_ours_to_say_is_a_debug_line() -> None:
    """With its text; what aiokafka itself calls info or debug is none."""
    limit = RateLimit()
    with capture_logs() as logs:
        assert not limit.filter(_record("Unable connect to node with id %s: %s", 1, "refused"))
        assert not limit.filter(_record("Unexpected error in fetcher routine", exc=KafkaConnectionError("gone")))
        assert not limit.filter(_record("Sending %s", "data", level=logging.INFO))
    assert [(line["log_level"], line["text"]) for line in logs] == [
        ("debug", "Unable connect to node with id 1: refused"),
        ("debug", "Unexpected error in fetcher routine"),
    ]


def test_a_bug_is_shown_once_a_minute_for_each_kind() -> None:
    """The same text with other values is the same kind."""
    limit = RateLimit()
    assert limit.filter(_record("Unexpected error in %s", "sender", exc=KeyError("x")))
    assert not limit.filter(_record("Unexpected error in %s", "fetcher", exc=KeyError("y")))
    assert limit.filter(_record("error in consumer iterator", exc=KeyError("y")))


def test_a_password_in_the_clear_is_shown_once() -> None:
    """Each connection would say it again."""
    limit = RateLimit()
    shown = [limit.filter(_record("Sending username and password in the clear", level=logging.WARNING)) for _ in "123"]
    assert shown == [True, False, False]


def test_all_loggers_of_aiokafka_are_covered(caplog: pytest.LogCaptureFixture) -> None:
    """Also those of its modules: a filter on a parent would not see their records."""
    limit_logs()
    limit_logs()
    for name in ("aiokafka", "aiokafka.producer.sender", "aiokafka.consumer.group_coordinator"):
        assert logging.getLogger(name).filters.count(RATE_LIMIT) == 1
    logging.getLogger("aiokafka.conn").error("said by the test")
    assert caplog.records == []
