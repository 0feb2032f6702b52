"""Retry topics that the configuration does not have, and in which events are left.

Shared topics of a delay that is configured no longer (``retry.<delay>``) are read on. Topics of the layout before the
first release (``retry.<subscriber>.<delay>``, ``replay.<subscriber>``, each with a group of its own name) are not read:
events that are left in them are reported as an error that says what to do. Of several processes the one that has the
first partition of ``replay`` looks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Final

import structlog

from gateway.clock import Backoff, Clock, sleep
from gateway.errors import GatewayError, is_logged
from gateway.fanout.retry_feed import GROUP
from gateway.fanout.retry_topics import RetryTopics
from gateway.log import EventLog
from gateway.telemetry import redaction

#: Between two looks where other processes append too, with a configuration that may be another one.
_LOOK_S: Final = 600.0
_FIRST_BACKOFF_S: Final = 1.0
_MAX_BACKOFF_S: Final = 60.0
#: A log line names at most so many topics.
_NAMED: Final = 10
_SHARED: Final = re.compile(r"retry\.(\d+)(s|ms)")

_log = structlog.get_logger("gateway.fanout")


def tier(topic: str) -> float | None:
    """Return the delay of a shared retry topic, in seconds; None when it is none."""
    found = _SHARED.fullmatch(topic)
    return None if found is None else int(found[1]) / (1 if found[2] == "s" else 1000)


def is_old(topic: str, subscribers: Collection[str]) -> bool:
    """Return whether a topic is a subscriber's own, as in the layout before.

    Args:
        topic: its name, without the configured prefix.
        subscribers: names of the subscribers that are configured.
    """
    return any(
        topic == f"replay.{name}" or (topic.startswith(f"retry.{name}.") and topic.endswith("s"))
        for name in subscribers
    )


class Leftovers:
    """Looks in the background.

    Args:
        log: has the topics.
        topics: the retry topics that are read.
        known: returns the names of the subscribers that are configured.
        is_shared: other processes append to the log too (Kafka).
        clock: of the pauses.
    """

    def __init__(
        self,
        log: EventLog,
        topics: RetryTopics,
        *,
        known: Callable[[], Collection[str]],
        is_shared: bool,
        clock: Clock,
    ) -> None:
        self._log = log
        self._topics = topics
        self._known = known
        self._is_shared = is_shared
        self._clock = clock
        self._named: set[str] = set()

    async def run(self) -> None:
        """Look while this process is the one to do it: once, or for ever where others append too."""
        backoff = Backoff(first_s=_FIRST_BACKOFF_S, last_s=_MAX_BACKOFF_S)
        while True:
            await self._topics.has_first.wait()
            try:
                await self.look()
            except Exception as exc:  # the top of a task: what is not found is not delivered
                is_expected = isinstance(exc, GatewayError) and exc.retriable
                if not is_logged(exc):
                    _log.warning("retry.look_failed", error=redaction.fault(exc), exc_info=not is_expected)
                await sleep(self._clock, backoff.next_s())
            else:
                if not self._is_shared:
                    return
                backoff.reset()
                await sleep(self._clock, _LOOK_S)

    async def look(self) -> None:
        """Read on what is left in shared topics, and report what is left in those of the layout before.

        Raises:
            GatewayError: the log does not answer.
        """
        found = {topic: left for topic, left in (await self._log.unfinished(self._group_of)).items() if left}
        self._topics.apply([delay for topic in found if (delay := tier(topic)) is not None])
        old = {topic: left for topic, left in sorted(found.items()) if tier(topic) is None}
        if old.keys() - self._named:
            self._named.update(old)
            _log.error(
                "retry.old_topics",
                topics=list(old)[:_NAMED],
                number=len(old),
                records=sum(old.values()),
                advice="this version does not read them, so these events are not delivered: run the version that wrote "
                "them until they are empty",
            )

    def _group_of(self, topic: str) -> str | None:
        if tier(topic) is not None:
            return GROUP
        return topic if is_old(topic, self._known()) else None
