"""State of the replays, in every process and after a restart: the internal topic :data:`TOPIC`, on both logs.

A replay is a job of the process that was asked for it, but its copies are delivered by any process, and a person may
ask any of them how far it is, or cancel it. So everything about a replay is a record, all with one key and thus in one
order, and every process follows them:

===========  ===================================================================================================
``begun``    subscriber, selection, rate; the first record of a number has it, so that no two replays share one
``stored``   how many copies are stored for the subscriber, and up to where the log was read. It is appended together
             with them, and again every :data:`BEAT_S`: a replay whose process is silent for longer is broken off
``ended``    done, failed, cancelled or interrupted, and why
``cancel``   a person asked for it
``counts``   what one process has delivered, given up or withdrawn of it since it started, once a second
===========  ===================================================================================================

Once a replay is cancelled, its copies that are still to be delivered are withdrawn when they are due. Counts are for
people: those of the last second are lost with a process that dies. Retention ends the records, and numbers begin again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal
from uuid import uuid4

import orjson
import structlog

from gateway.clock import Clock, sleep
from gateway.errors import GatewayError, Transient, is_logged
from gateway.fanout.job import Job
from gateway.fanout.retry_records import replay_name
from gateway.fanout.topic_table import TopicFollower
from gateway.log import Batch, BrowsedLog, Entry, Record
from gateway.telemetry import redaction

TOPIC: Final = "fanout.replays"
#: Interval of a running replay's records.
BEAT_S: Final = 10.0
#: A running replay of another process counts as broken off when nothing was heard of it for so long.
_SILENT_S: Final = 3 * BEAT_S
#: Replays that are remembered; a person asks for some a day.
MAX_KEPT: Final = 200
#: Two processes that choose one number do it within seconds, and the first has it; one that is used again after
#: retention has ended the records is days old.
_REUSED_S: Final = 3600.0
_KEY: Final = "replays"
_COUNT_S: Final = 1.0
_STOP_S: Final = 2.0
_WAIT_S: Final = 10.0
_KNOWN_S: Final = 2.0

#: ``interrupted``: its process ended, or was not heard of, before everything was stored.
ReplayState = Literal["running", "done", "failed", "cancelled", "interrupted"]
#: What became of a copy.
_COUNTED: Final[Mapping[str, str]] = {
    "delivered": "delivered",
    "dead_lettered": "given_up",
    "lost": "given_up",
    "withdrawn": "withdrawn",
}

_log = structlog.get_logger("gateway.fanout")


@dataclass(slots=True)
class ReplayStatus:
    """One replay, as far as it is known. Times are Unix seconds.

    Args:
        number: its number; its name is ``r-`` and this.
        selection: as it was asked for, see :meth:`gateway.fanout.replay.Selection.document`.
        stored: copies that are stored for the subscriber.
        positions: by partition, the offset up to which the log was read; empty before the first copy was stored.
        found: what was found, at its end: ``looked_at``, ``by_type``, ``skipped``.
        counts: by process, what it has delivered, given up or withdrawn.
        resumes: the number of the replay that this one continues.
    """

    number: int
    token: str
    by: str
    subscriber: str
    selection: Mapping[str, Any]
    rate_per_s: float | None
    started_at: float
    resumes: int | None = None
    state: ReplayState = "running"
    stored: int = 0
    positions: Mapping[str, int] = field(default_factory=dict)
    found: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    ended_at: float | None = None
    heard_at: float = 0.0
    counts: dict[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name in headers and texts."""
        return name_of(self.number)

    def advance(self, stored: int, positions: Mapping[str, int]) -> None:
        """Note how many copies are stored, and up to where the log was read."""
        self.stored, self.positions = stored, positions

    def count(self, what: str) -> int:
        """Return how many copies were ``delivered``, ``given_up`` or ``withdrawn`` by all processes together."""
        return sum(counts.get(what, 0) for counts in self.counts.values())


class NotAvailable(Transient):
    """The record of replays cannot be read or written now."""


def name_of(number: int) -> str:
    """Return the name of a replay."""
    return f"r-{number}"


def number_of(name: str) -> int | None:
    """Return the number in the name of a replay, or in a number as text; None if it has none."""
    digits = name.removeprefix("r-")
    return int(digits) if digits.isascii() and digits.isdigit() else None


class ReplayBoard:
    """Reads, follows and writes what is known of replays.

    Args:
        log: has the topic.
        instance: name of this process in its records.
        is_alone: no other process can run replays, so one that was begun by another process was broken off.
    """

    def __init__(self, log: BrowsedLog, *, clock: Clock, instance: str, is_alone: bool) -> None:
        self._eventlog = log
        self._clock = clock
        # Of this life of this process, as its counts begin at 0.
        self._instance = f"{instance}-{uuid4().hex[:8]}"
        self._is_alone = is_alone
        self._replays: dict[int, ReplayStatus] = {}
        self._cancelled: set[str] = set()
        self._own: dict[str, Counter[str]] = {}
        self._changed: set[str] = set()
        self._follower = TopicFollower(log, "replays", lambda: [TOPIC], clock=clock, on_batch=self._take)
        self._writer: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start to follow, and to write counts; does not wait for the log."""
        self._follower.start()
        self._writer = asyncio.create_task(self._write(), name="replays:counts")

    async def stop(self) -> None:
        """Write the last counts, if the log takes them at once, and stop. May be called twice, or before the start."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            try:
                async with asyncio.timeout(_STOP_S):
                    await self._append_counts()
            except (GatewayError, TimeoutError) as exc:
                _log.info("replays.counts_not_written", error=str(exc))
        await self._follower.stop()

    # -- what is known ------------------------------------------------------------------------------------------

    async def known(self) -> None:
        """Wait until the replays are known, for a short time: then :meth:`replays` raises."""
        await self._follower.until(lambda: self._follower.knows(TOPIC), _KNOWN_S)

    def replays(self) -> list[ReplayStatus]:
        """Return the replays that are remembered, newest first.

        Raises:
            NotAvailable: they are not known now.
        """
        self._check()
        for one in self._replays.values():
            self._look_for_end(one)
        return [self._replays[number] for number in sorted(self._replays, reverse=True)]

    def get(self, number: int) -> ReplayStatus | None:
        """Return one replay; errors as :meth:`replays`."""
        return next((one for one in self.replays() if one.number == number), None)

    def is_withdrawn(self, job: Job) -> bool:
        """Return whether the copy of a replay is of one that was cancelled. Never blocks."""
        return bool(self._cancelled) and replay_name(job.record) in self._cancelled

    def note(self, job: Job, outcome: str) -> None:
        """Count what became of the copy of a replay. Never blocks."""
        what = _COUNTED.get(outcome)
        name = replay_name(job.record) if what is not None else ""
        if what is not None and name:
            self._own.setdefault(name, Counter())[what] += 1
            self._changed.add(name)

    def is_cancelled(self, number: int) -> bool:
        """Return whether a person asked for the end of a replay."""
        return name_of(number) in self._cancelled

    # -- what is written ----------------------------------------------------------------------------------------

    async def begin(
        self, subscriber: str, selection: Mapping[str, Any], rate_per_s: float | None, *, resumes: int | None = None
    ) -> ReplayStatus:
        """Write that a replay begins here, and return it with its number.

        Args:
            subscriber: who gets the events.
            selection: which events, as JSON.
            rate_per_s: at most so many a second; None: any number.
            resumes: the number of the replay that this one continues.

        Raises:
            NotAvailable: it could not be written, or read back in time; nothing was replayed.
        """
        await self.known()
        self._check()
        token = uuid4().hex
        what = {
            "token": token,
            "subscriber": subscriber,
            "selection": dict(selection),
            "rate": rate_per_s,
            "resumes": resumes,
        }
        try:
            async with asyncio.timeout(_WAIT_S):
                while True:
                    number = max(self._replays, default=0) + 1
                    await self._append(number, "begun", what)
                    await self._follower.until(partial(self._replays.__contains__, number), _WAIT_S)
                    if (found := self._replays.get(number)) is not None and found.token == token:
                        return found
        except TimeoutError:
            raise NotAvailable("the record of replays cannot be read back now; ask again later") from None

    def progress(self, replay: ReplayStatus, stored: int, positions: Mapping[str, int]) -> Entry:
        """Return the record of how far a replay has got, to be appended with the copies that it is about."""
        return self._entry(replay.number, "stored", {"stored": stored, "positions": dict(positions)})

    async def ended(
        self, replay: ReplayStatus, state: ReplayState, *, stored: int, error: str = "", found: Mapping[str, Any]
    ) -> None:
        """Write that a replay has ended. It counts here at once, also when it cannot be written."""
        what = {"state": state, "error": error, "stored": stored, "found": dict(found)}
        replay.state = "cancelled" if self.is_cancelled(replay.number) else state
        replay.error, replay.ended_at = error, self._clock.now()
        replay.stored, replay.found = stored, found
        try:
            await self._append(replay.number, "ended", what)
        except GatewayError as exc:
            _log.warning("replay.end_not_written", number=replay.number, error=str(exc))

    async def cancel(self, number: int) -> None:
        """Write that a replay is cancelled: its copies are delivered no more, as soon as each process has read it.

        Raises:
            GatewayError: it could not be written.
        """
        await self._append(number, "cancel", {})
        self._cancelled.add(name_of(number))

    # -- the topic ----------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if not self._follower.knows(TOPIC):
            raise NotAvailable("the record of replays cannot be read now; ask again later")

    def _look_for_end(self, one: ReplayStatus) -> None:
        if one.state != "running" or one.by == self._instance:
            return
        if self._is_alone or self._clock.now() - one.heard_at > _SILENT_S:
            one.state, one.error = "interrupted", "its process ended before everything was stored"
            one.ended_at = one.heard_at

    async def _take(self, batch: Batch) -> None:
        for record in batch:
            self._read(record)
        while len(self._replays) > MAX_KEPT:
            del self._replays[min(self._replays)]

    def _read(self, record: Record) -> None:
        try:
            value = orjson.loads(record.value)
            number, what = int(value["number"]), value["what"]
            if what == "begun":
                known = self._replays.get(number)
                if known is not None and record.appended_at - known.started_at < _REUSED_S:
                    return
                self._cancelled.discard(name_of(number))
                self._replays[number] = ReplayStatus(
                    number,
                    token=value["token"],
                    by=value["by"],
                    subscriber=value["subscriber"],
                    selection=value["selection"],
                    rate_per_s=value["rate"],
                    started_at=record.appended_at,
                    resumes=value["resumes"],
                    heard_at=record.appended_at,
                )
            elif number in self._replays:
                self._update(self._replays[number], what, value, record.appended_at)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as exc:
            _log.warning("replays.not_understood", offset=record.offset, error=type(exc).__name__)

    def _update(self, one: ReplayStatus, what: str, value: Mapping[str, Any], at: float) -> None:
        if what == "stored":
            one.heard_at = at
            if one.by != self._instance:
                one.advance(value["stored"], value["positions"])
        elif what == "ended":
            one.state = "cancelled" if one.name in self._cancelled else value["state"]
            one.error, one.stored, one.found, one.ended_at = value["error"], value["stored"], value["found"], at
        elif what == "cancel":
            self._cancelled.add(one.name)
            one.state, one.ended_at = "cancelled", at
        elif what == "counts":
            one.counts[value["by"]] = value["counts"]

    async def _write(self) -> None:
        while True:
            await sleep(self._clock, _COUNT_S)
            try:
                await self._append_counts()
            except Exception as exc:  # the top of a task
                if not is_logged(exc):
                    _log.info("replays.counts_not_written", error=redaction.fault(exc))

    async def _append_counts(self) -> None:
        changed, self._changed = self._changed, set()
        now = self._clock.now()
        entries = [
            self._entry(number, "counts", {"counts": dict(self._own[name])})
            for name in changed
            if (number := number_of(name)) is not None
        ]
        entries += [
            self.progress(one, one.stored, one.positions)
            for one in self._replays.values()
            if one.state == "running" and one.by == self._instance and now - one.heard_at > BEAT_S
        ]
        if not entries:
            return
        try:
            await self._eventlog.append(entries)
        except BaseException:
            self._changed |= changed
            raise

    async def _append(self, number: int, what: str, more: Mapping[str, Any]) -> None:
        await self._eventlog.append([self._entry(number, what, more)])

    def _entry(self, number: int, what: str, more: Mapping[str, Any]) -> Entry:
        value = {"number": number, "what": what, "by": self._instance, **more}
        return Entry(TOPIC, _KEY, uuid4().hex, orjson.dumps(value))
