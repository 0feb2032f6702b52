"""What aiokafka logs, cut down to what a person can use.

During an outage aiokafka 0.14 writes several lines at level ERROR ten times a second, from every client. Our own
``kafka.unavailable`` and ``kafka.available`` say it once each; theirs go on at most once a minute for each kind.
"""

from __future__ import annotations

import logging
import time
from typing import Final

_EVERY_S: Final = 60.0


class Quiet(logging.Filter):
    """Lets one record of each kind (logger and text before formatting) through per minute, and keeps the last text."""

    def __init__(self) -> None:
        super().__init__()
        self.last_warning = ""
        self._last: dict[tuple[str, object], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show it. Kinds are templates in aiokafka's source, so the table stays small."""
        if record.levelno >= logging.WARNING:
            self.last_warning = record.getMessage()
        now = time.monotonic()
        kind = record.name, record.msg if isinstance(record.msg, str) else type(record.msg)
        if now - self._last.get(kind, -_EVERY_S) < _EVERY_S:
            return False
        self._last[kind] = now
        return True


QUIET: Final = Quiet()


def quieten() -> None:
    """Put the filter on aiokafka's loggers. May be called again; loggers made later are caught by the next call."""
    for name in list(logging.Logger.manager.loggerDict):
        if name == "aiokafka" or name.startswith("aiokafka."):
            logger = logging.getLogger(name)
            if QUIET not in logger.filters:
                logger.addFilter(QUIET)
