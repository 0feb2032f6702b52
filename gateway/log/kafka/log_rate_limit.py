"""A filter for aiokafka's log: it keeps only lines that the gateway does not log itself.

aiokafka 0.14 writes lines at level WARNING and ERROR for normal operations (a first start, a rebalance, a stop) and,
while Kafka is unavailable, ten times a second from every client. The gateway itself logs what an operator needs, once,
with the client that it concerns (:mod:`gateway.log.kafka.outage`): so aiokafka's lines become the line
``kafka.client_log`` at level debug. Two kinds are not changed: a fault that is no error of Kafka or the network (a
bug), at most once a minute for each kind, and a password that is sent in clear text, once.
"""

from __future__ import annotations

import logging
import time
from typing import Final

import structlog

from gateway.log.kafka.errors import CLIENT_ERRORS

_EVERY_S: Final = 60.0
#: By the text before formatting.
_SHOWN_ONCE: Final = frozenset({"Sending username and password in the clear"})

_log = structlog.get_logger("gateway.kafka")


class RateLimit(logging.Filter):
    """Passes lines that only aiokafka has, one of each kind (logger and text before formatting) a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: dict[tuple[str, object], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log a record. Kinds are templates in aiokafka's source, so the table stays small."""
        template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        if template not in _SHOWN_ONCE and not _is_bug(record):
            if record.levelno >= logging.WARNING:
                _log.debug("kafka.client_log", logger=record.name, text=record.getMessage())
            return False
        now = time.monotonic()
        shown_at = self._shown.get((record.name, template))
        if shown_at is not None and (template in _SHOWN_ONCE or now - shown_at < _EVERY_S):
            return False
        self._shown[record.name, template] = now
        return True


RATE_LIMIT: Final = RateLimit()


def limit_logs() -> None:
    """Add the filter to aiokafka's loggers. May be called again; the next call covers loggers created later."""
    for name in list(logging.Logger.manager.loggerDict):
        if name == "aiokafka" or name.startswith("aiokafka."):
            logger = logging.getLogger(name)
            if RATE_LIMIT not in logger.filters:
                logger.addFilter(RATE_LIMIT)


def _is_bug(record: logging.LogRecord) -> bool:
    exc = record.exc_info[1] if record.exc_info else None
    return exc is not None and not isinstance(exc, CLIENT_ERRORS)
