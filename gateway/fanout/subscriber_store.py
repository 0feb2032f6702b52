"""Subscribers that were added at run time: kept in the log itself, followed by every process that delivers.

They are records of the internal topic :data:`TOPIC`, on both logs, with the name of the subscriber as their key::

    {"version": 3, "change": "9f2c…", "sealed": "gAAA…"}        what it is, encrypted
    {"version": 3, "change": "9f2c…", "document": {…}}          the same, where there is neither key nor secret
    {"version": 4, "change": "04d1…", "removed": true}

A change has a version one above the one that it was made from. **The highest version counts, and of two changes with
the same version the one whose id is greater**: so all processes agree, independently of the order in which they read,
of what a compaction has removed, and of which process writes a record again. A process that reads a record which does
not count, behind the one that does, writes the latter again, since compaction keeps the last record of a key. A record
without a value removes the subscriber, too: that is how tools of Kafka do it.

Limit: two changes of one subscriber in the same instant, on two machines, are made from the same version. One of them
counts, everywhere the same one.

In Kafka the topic is compacted where we create it. In the journal it is kept for a year whatever ``journal.retention``
says (:mod:`gateway.log.journal.retention`). A record that is old is written again, as is one that is sealed with a key
that is not the first one.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final
from uuid import uuid4

import orjson
import structlog

from gateway.clock import Clock, sleep
from gateway.config.settings import Subscriber
from gateway.errors import ConfigError, GatewayError, NotNow
from gateway.fanout.subscriber_records import Kept, Sealer, SubscriberDocument, decoded, encoded, listed
from gateway.fanout.subscriber_state import REFRESH_S
from gateway.fanout.topic_table import TopicTable
from gateway.log import BrowsedLog, Record

TOPIC: Final = "fanout.subscribers"
#: Without an answer for so long, the subscribers of the file begin alone: what others may wait for is kept for minutes.
_LOAD_S: Final = 15.0
#: Each is read by every process at its start. With ten times more, the interface would need pages.
MOST: Final = 1000

_log = structlog.get_logger("gateway.fanout")


class SubscriberStore:
    """Follows and writes the stored subscribers.

    Args:
        sealer: encrypts and decrypts.
        build: returns the subscriber of some settings; raises :class:`~gateway.errors.ConfigError`.
        on_change: awaited when :meth:`subscribers` has changed, one call at a time; first when they are known.
        rewrites: this process writes records again that are old or do not count; one process of each machine does.
        refresh_s: a record is old after this time, well below the time for which the log keeps it.
    """

    def __init__(
        self,
        log: BrowsedLog,
        *,
        clock: Clock,
        sealer: Sealer,
        build: Callable[[Mapping[str, Any]], Subscriber],
        on_change: Callable[[], Awaitable[None]],
        rewrites: bool = True,
        refresh_s: float = REFRESH_S,
    ) -> None:
        self._clock = clock
        self._sealer = sealer
        self._build = build
        self._on_change = on_change
        self._rewrites = rewrites
        self._table = TopicTable(
            log,
            TOPIC,
            clock=clock,
            read=self._read,
            value=self._again,
            on_read=self._on_read,
            refresh_s=lambda name: refresh_s if rewrites and self.get(name) is not None else math.inf,
        )
        self._kept: dict[str, Kept] = {}
        self._built: dict[str, Subscriber] = {}
        self._values: dict[str, bytes] = {}
        self._has_changed = False  # since it was applied
        self._applying = asyncio.Lock()
        self._unread: asyncio.Task[None] | None = None
        #: Set when it is known what is kept, and it was applied.
        self.is_loaded = asyncio.Event()
        #: Held by who reads, decides and writes, so that changes of one process follow one another.
        self.changing = asyncio.Lock()

    def get(self, name: str) -> Kept | None:
        """Return what is kept under a name; None where there is nothing."""
        kept = self._kept.get(name)
        return kept if kept is not None and kept.is_there else None

    def names(self) -> list[str]:
        """Return the names of all stored subscribers, those that cannot be used included."""
        return [name for name, kept in self._kept.items() if kept.is_there]

    def problems(self) -> dict[str, str]:
        """Return why stored subscribers cannot be used, by name."""
        return {name: kept.problem for name, kept in self._kept.items() if kept.problem}

    def subscribers(self) -> list[Subscriber]:
        """Return those that can be used, in the order in which they were added."""
        return list(self._built.values())

    @property
    def now(self) -> float:
        """Unix seconds by the clock of the store."""
        return self._clock.now()

    @property
    def takes_secrets(self) -> bool:
        """Whether there is a key to encrypt with."""
        return bool(self._sealer)

    def start(self) -> None:
        """Begin to load and follow. Never blocks."""
        self._table.start()
        self._unread = asyncio.create_task(self._begin_without(), name="fanout:subscribers-unread")

    async def stop(self) -> None:
        """Stop. May come twice, or before the start."""
        if self._unread is not None:
            self._unread.cancel()
            await asyncio.gather(self._unread, return_exceptions=True)
        await self._table.stop()

    def check_known(self) -> None:
        """See that what is kept is known, so that a change can be made from it.

        Raises:
            NotNow: the log cannot be read.
        """
        if not self.is_loaded.is_set() or not self._table.knows(TOPIC):
            raise NotNow("the stored subscribers cannot be read from the log now, so nothing was changed; try again")

    async def write(self, name: str, document: SubscriberDocument | None) -> Kept:
        """Store a change; it is durable, and applied in this process, when this returns.

        Args:
            name: of the subscriber.
            document: with secrets only where :attr:`takes_secrets`; None removes it.

        Raises:
            NotNow: nothing was stored.
        """
        before = self._kept.get(name)
        kept = Kept((before.version if before is not None else 0) + 1, uuid4().hex, document)
        value = encoded(name, kept, self._sealer)
        try:
            await self._table.append(name, value)
        except NotNow:
            raise
        except GatewayError as exc:
            raise NotNow(f"the log does not accept the change now: {exc}") from exc
        if self._take(name, kept, value):
            await self._apply()
        return kept

    async def _begin_without(self) -> None:
        await sleep(self._clock, _LOAD_S)
        if not self.is_loaded.is_set():
            _log.warning(
                "subscribers.not_read",
                after_s=_LOAD_S,
                advice=f"the topic {TOPIC} cannot be read; subscribers of the configuration file begin without it",
            )
            await self._apply()

    async def _on_read(self) -> None:
        is_first = self._table.has_read.is_set() and not self.is_loaded.is_set()
        if is_first or (self.is_loaded.is_set() and (self._end_secrets() or self._has_changed)):
            await self._apply()
            self._has_changed = False
        if is_first:
            self.is_loaded.set()

    def _read(self, record: Record, _: bool) -> None:
        name = record.key
        if not record.value:
            self._values.pop(name, None)
            self._built.pop(name, None)
            self._table.unmark(name)
            self._has_changed |= self._kept.pop(name, None) is not None
            return
        try:
            kept, is_current = decoded(name, record.value, self._sealer)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
            _log.warning("subscribers.not_understood", partition=record.partition, offset=record.offset)
            return
        known = self._kept.get(name)
        counts = known is None or known.rank <= kept.rank
        if counts:
            self._has_changed |= self._take(name, kept, record.value)
        if self._rewrites and not (counts and is_current):
            self._table.mark(name)
        else:
            self._table.unmark(name)

    def _take(self, name: str, kept: Kept, value: bytes) -> bool:
        """Apply a record unless it is known already, or another one counts; return whether it was applied."""
        known = self._kept.get(name)
        if known is not None and known.rank >= kept.rank:
            return False
        self._kept[name], self._values[name] = kept, value
        self._build_again(name)
        return True

    def _build_again(self, name: str) -> None:
        kept = self._kept[name]
        if kept.document is None:
            self._built.pop(name, None)
            if kept.problem:
                _log.error("subscriber.not_usable", subscriber=name, problems=[kept.problem])
            return
        try:
            self._built[name] = self._build(kept.document.at(self._clock.now()).settings)
            self._kept[name] = replace(kept, problem="")
        except ConfigError as exc:
            self._built.pop(name, None)
            self._kept[name] = replace(kept, problem="; ".join(exc.problems))
            _log.error("subscriber.not_usable", subscriber=name, problems=exc.problems)

    def _end_secrets(self) -> bool:
        """Build those again of which a secret has ended; return whether there are any."""
        now = self._clock.now()
        ended = [
            name
            for name, kept in self._kept.items()
            if kept.document is not None
            and (at := kept.document.at(now)) is not kept.document
            and name in self._built
            and len(self._built[name].secrets) != len(listed(at.settings.get("secrets")))
        ]
        for name in ended:
            self._build_again(name)
        return bool(ended)

    async def _apply(self) -> None:
        async with self._applying:
            await self._on_change()

    def _again(self, name: str) -> bytes:
        """Return the value of the record of a name, sealed with the first key and without secrets that have ended."""
        kept = self._kept[name]
        if kept.document is None:
            return self._values[name]
        return encoded(name, replace(kept, document=kept.document.at(self._clock.now())), self._sealer)
