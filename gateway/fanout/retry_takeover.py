"""Topics of the layout before, in which each subscriber had its own: what is left in them moves to the shared ones.

``retry.<subscriber>.<delay>`` and ``replay.<subscriber>`` were read under groups of their own names. What those groups
have not passed is appended to ``retry.<delay>`` and ``replay``, with the name of the subscriber in a header and the
rest as it was; only then the old position moves. So a crash at any step repeats some and loses none. Of several
processes the one that has the first partition of ``replay`` does it. A process of the version before that still reads
an old topic keeps it until it has stopped: its group has members, and their positions are theirs.

Retry topics of a delay that is configured no longer are read on where something is left in them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Mapping
from itertools import chain, repeat
from typing import Final

import structlog

from gateway.clock import Clock, sleep
from gateway.errors import GatewayError, is_logged
from gateway.fanout import retry_records
from gateway.fanout.retry_feed import GROUP
from gateway.fanout.retry_store import store
from gateway.fanout.retry_topics import RetryTopics
from gateway.fanout.scan import has_more
from gateway.log import EventLog, Record, gaps
from gateway.telemetry import redaction

_BATCH: Final = 500
_FETCH_WAIT_S: Final = 1.0
#: Topics that are moved at once; on Kafka each takes some connections meanwhile.
_AT_ONCE: Final = 4
#: Between looks, and from the third one on: for what processes of the version before park until they are replaced.
_SECOND_LOOK_S: Final = 60.0
_LOOK_S: Final = 600.0
_FIRST_BACKOFF_S: Final = 1.0
_MAX_BACKOFF_S: Final = 60.0
_NAMED: Final = 10
_NUMBER: Final = r"(?:0|[1-9]\d*)(?:\.\d*[1-9])?(?:e[+-]?\d+)?"
_SHARED: Final = re.compile(r"retry\.(\d+)(s|ms)")
_OLD: Final = re.compile(rf"retry\.(.+?)\.{_NUMBER}s|replay\.(.+)")

_log = structlog.get_logger("gateway.fanout")


def owner(topic: str, known: Collection[str] = ()) -> str | None:
    """Return the subscriber whose topic of the layout before this is; None when it is none.

    Args:
        known: names of subscribers; a name may end like the beginning of a delay.
    """
    for name in sorted(known, key=len, reverse=True):
        if re.fullmatch(rf"retry\.{re.escape(name)}\.{_NUMBER}s|replay\.{re.escape(name)}", topic):
            return name
    found = _OLD.fullmatch(topic)
    return None if found is None else found[1] or found[2]


def tier(topic: str) -> float | None:
    """Return the delay of a shared retry topic, in seconds; None when it is none."""
    found = _SHARED.fullmatch(topic)
    return None if found is None else int(found[1]) / (1 if found[2] == "s" else 1000)


class Takeover:
    """Does it in the background.

    Args:
        known: returns the names of the subscribers that are configured.
        is_shared: the log is Kafka, where topics stay until somebody deletes them.
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
        self._has_named = False

    async def run(self) -> None:
        """Look while this process is the one to do it: once, or for ever where others write too.

        Trouble of the log is waited out.
        """
        for wait_s in chain((_SECOND_LOOK_S,), repeat(_LOOK_S)):
            await self._topics.has_first.wait()
            await self._look_until_it_works()
            if not self._is_shared:
                return
            await sleep(self._clock, wait_s)

    async def _look_until_it_works(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while self._topics.has_first.is_set():
            try:
                await self.look()
                return
            except Exception as exc:  # the top of a task: what is not moved is not delivered
                is_expected = isinstance(exc, GatewayError) and exc.retriable
                if not is_logged(exc):
                    _log.warning("retry.takeover_failed", error=redaction.fault(exc), exc_info=not is_expected)
                await sleep(self._clock, backoff_s)
                backoff_s = min(_MAX_BACKOFF_S, backoff_s * 2)

    async def look(self) -> None:
        """Move what is left in old topics now.

        Raises:
            GatewayError: the log does not answer; what was moved is moved.
        """
        found = await self._log.unfinished(self._group_of)
        self._topics.apply([one for topic, left in found.items() if left and (one := tier(topic)) is not None])
        old = {topic: left for topic, left in found.items() if tier(topic) is None}
        turns = asyncio.Semaphore(_AT_ONCE)
        moving = [self._move(topic, turns) for topic, left in sorted(old.items()) if left]
        for fault in await asyncio.gather(*moving, return_exceptions=True):
            if fault is not None:
                raise fault
        if old and self._is_shared and not self._has_named:
            self._has_named = True
            _log.info(
                "retry.old_topics",
                topics=sorted(old)[:_NAMED],
                number=len(old),
                advice="nothing is left in them: they can be deleted when no gateway of an older version runs",
            )

    def _group_of(self, topic: str) -> str | None:
        if tier(topic) is not None:
            return GROUP
        return topic if owner(topic, self._known()) is not None else None

    async def _move(self, topic: str, turns: asyncio.Semaphore) -> None:
        async with turns:
            subscriber = owner(topic, self._known())
            assert subscriber is not None
            moved = await take_over(self._log, topic, subscriber, again=self._topics.topic, clock=self._clock)
            _log.info("retry.taken_over", topic=topic, subscriber=subscriber, records=moved)


async def take_over(log: EventLog, topic: str, subscriber: str, *, again: Callable[[float], str], clock: Clock) -> int:
    """Append what is left in one old topic to the shared ones; return how many records.

    Args:
        again: returns the retry topic for a wait, in seconds.

    Raises:
        GatewayError: the log does not take or give it now; what was moved is moved.
    """
    moved = 0
    begins = await _begins(log, topic)
    reader = await log.browse(topic, [topic], positions=begins)
    try:
        ends = await reader.ends()
        while await has_more(reader, ends):
            batch = await reader.fetch(max_records=_BATCH, wait_s=_FETCH_WAIT_S)
            gaps.report_each(log.kind, [(topic, gap) for gap in batch.gaps])
            await _store(log, [record for record in batch if not record.flaw], topic, subscriber, again, clock)
            moved += len(batch)
            await _pass(log, topic, batch.ends)
    finally:
        await reader.close()
        log.cursors.release(begins)
        log.cursors.forget(topic)
    return moved


async def _begins(log: EventLog, topic: str) -> dict[str, int]:
    """Return what the topic's group has not passed: by partition, where that begins."""
    reader = await log.browse(topic, [topic], start="earliest")
    try:
        partitions = await reader.ends()
    finally:
        await reader.close()
    placed = await log.cursors.load(topic, [topic], partitions, start="earliest")
    gaps.report_each(log.kind, [(topic, one.gap) for one in placed.values() if one.gap is not None])
    return {name: one.offset for name, one in placed.items()}


async def _pass(log: EventLog, topic: str, positions: Mapping[str, int]) -> None:
    for partition, offset in positions.items():
        log.cursors.commit(topic, partition, offset)
    await log.cursors.flush()


async def _store(
    log: EventLog, records: list[Record], topic: str, subscriber: str, again: Callable[[float], str], clock: Clock
) -> None:
    forms = []
    for record in records:
        parked = retry_records.read(record)
        is_replay = topic.startswith(f"{retry_records.REPLAY}.")
        target = retry_records.REPLAY if is_replay else again(max(0.0, parked.due - clock.now()))
        shared = retry_records.owned(record, target, subscriber)
        forms.append((shared, *retry_records.last_forms(record, parked.trail, subscriber)))
    if forms:
        for number, error in (await store(log, forms)).items():
            _log.error("delivery.lost", id=redaction.event_id(records[number].id), topic=topic, error=error)
