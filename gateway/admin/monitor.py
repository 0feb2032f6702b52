"""Periodic measurements: metrics of all processes, the journal, each subscriber's newest attempts and last error."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from gateway.admin.history import History
from gateway.admin.parts import Parts
from gateway.admin.rates import FAILED, STEP_S, Rates
from gateway.admin.subscriber_states import PATIENCE_S, STATES, Facts, Lags, SubscriberState, subscriber_state
from gateway.errors import GatewayError
from gateway.fanout import attempts
from gateway.fanout.attempts import Attempt
from gateway.fanout.reader import SubscriberStatus, group_name
from gateway.log import Record
from gateway.log.journal import EVENTS, Journal
from gateway.publisher import TopicState
from gateway.telemetry import redaction
from gateway.telemetry.metrics import METRICS
from gateway.telemetry.reports import Report

#: Records of attempts looked at for errors from before the start.
_LOOK_BACK: Final = 50
_RETRY_S: Final = 10.0
#: Seconds before the start from which on attempts in Kafka are read.
_FOLLOW_FROM_S: Final = 600.0
#: Attempts kept: some 20 MB. Ten times more would be a tenth of the memory of a small machine.
_KEPT: Final = 50_000

_log = structlog.get_logger("gateway.admin")


@dataclass(frozen=True, slots=True)
class LastError:
    """The newest failed attempt of a subscriber.

    Args:
        at: Unix seconds.
        result: HTTP status, or kind of error such as ``timeout``.
        sentence: why it failed and what to do.
        outcome: what became of the event.
    """

    at: float
    result: str
    sentence: str
    outcome: str
    event_id: str


class Monitor:
    """Takes readings, measures and errors while the admin port is open."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.rates = Rates()
        # Only the process with the journal may write there: several that deliver can share a folder.
        self.history = History(Path(parts.settings.journal.dir) if parts.journal is not None else None)
        #: The last report of each other process; None: it did not answer.
        self.others: Mapping[str, Report | None] = {}
        self.errors: dict[str, LastError] = {}
        #: When the newest delivery of each subscriber was, Unix seconds, as far as attempts were looked at.
        self.delivered: dict[str, float] = {}
        #: Of those that this process delivers to.
        self.statuses: dict[str, SubscriberStatus] = {}
        self.lags = Lags(self._ask_for_lags, "the journal" if parts.is_embedded else "Kafka")
        self._states: dict[str, SubscriberState] = {}
        #: Share of the attempts of the last minute that succeeded, by subscriber; those without attempts are not in it.
        self.success_shares: Mapping[str, float] = {}
        self.oldest_at: float | None = None
        self.published: Mapping[str, TopicState] = {}
        #: With Kafka only: otherwise the index finds all attempts.
        self.recent = RecentAttempts()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin."""
        await self.history.start()
        self._tasks = [asyncio.create_task(self._run(), name="admin-readings")]
        search = self._parts.search
        if search is not None and search.has_attempts:
            search.indexer.on_batch = self._on_batch
            await self._look_back()
        elif self._parts.log is not None:
            self._tasks.append(asyncio.create_task(self._follow(), name="admin-errors"))

    async def stop(self) -> None:
        """Stop. May be called twice, or before the start."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.lags.stop()
        await self.history.stop()

    async def _run(self) -> None:
        while True:
            try:
                if self._parts.reports is not None:
                    self.others = await self._parts.reports.ask()
                levels = await self._measure()
                now = time.time()
                self.rates.take(now, levels, self.others)
                if self.rates.last_step is not None:
                    await self.history.take(now, self.rates.last_step, levels)
            except GatewayError as exc:
                _log.info("admin.not_measured", error=str(exc))
            except Exception as exc:  # the top of a task: the console would show old figures for ever
                _log.exception("admin.not_measured", error=redaction.fault(exc))
            await asyncio.sleep(STEP_S)

    async def _measure(self) -> dict[str, float]:
        parts = self._parts
        levels: dict[str, float] = {}
        if parts.journal is not None and parts.journal.is_open:
            self.oldest_at = await _oldest(parts.journal)
            age_s = max(0.0, time.time() - self.oldest_at) if self.oldest_at is not None else 0.0
            METRICS.gauge("gateway_journal_oldest_age_seconds").set(age_s)
            levels["journal:all:bytes"] = parts.journal.used_bytes
            levels["journal:all:records"] = parts.journal.head(EVENTS) - parts.journal.floor(EVENTS)
        if parts.publisher is not None:
            self.published = {topic.name: topic for topic in await parts.publisher.topics()}
            levels["publisher:all:lag"] = self.publisher_lag
        await self._look_at_subscribers(for_somebody=False, patience_s=STEP_S / 4)
        self.states()
        for one in parts.subscribers:
            if one.kind != "stream":
                records = self.lags.of(one.name).records
                levels[f"subscriber:{one.name}:lag"] = float("nan") if records is None else records
        return levels

    @property
    def publisher_lag(self) -> int:
        """Records in the journal that Kafka has not acknowledged, at the last measurement."""
        return sum(topic.lag for topic in self.published.values())

    async def look_at_subscribers(self, *, patience_s: float = PATIENCE_S) -> None:
        """Read what is known of the subscribers now, for a caller that waits at most ``patience_s``."""
        await self._look_at_subscribers(for_somebody=True, patience_s=patience_s)

    async def _look_at_subscribers(self, *, for_somebody: bool, patience_s: float) -> None:
        if self._parts.fanout is not None:
            self.statuses = {status.name: status for status in self._parts.fanout.statuses()}
        await self.lags.look(for_somebody=for_somebody, patience_s=patience_s)

    def states(self) -> Mapping[str, SubscriberState]:
        """Return the state of every subscriber now, in all processes as far as they answer, and set the metric to it.

        Only here: state and metric cannot differ.
        """
        now = time.time()
        self.success_shares = self._success_shares()
        statuses = self._all_statuses()
        found: dict[str, SubscriberState] = {}
        for one in self._parts.subscribers:
            if one.kind == "stream":
                found[one.name] = SubscriberState(None, "Its clients fetch its events.")
            else:
                facts = self._facts(one.name, statuses.get(one.name, ()))
                found[one.name] = subscriber_state(facts, now, self._states.get(one.name))
        self._set_metric(found)
        self._states = found
        return found

    def _facts(self, name: str, statuses: Sequence[SubscriberStatus]) -> Facts:
        store = self._parts.state_store
        return Facts(
            statuses,
            silent=[other for other, one in self.others.items() if one is None and other.startswith("deliver")],
            kept=store.everywhere(name) if store is not None else None,
            lag=self.lags.of(name),
            open_dead_letters=self.dead_letters(name),
            success_share=self.success_shares.get(name),
        )

    def _all_statuses(self) -> Mapping[str, Sequence[SubscriberStatus]]:
        found: dict[str, list[SubscriberStatus]] = {name: [one] for name, one in self.statuses.items()}
        for report in self.others.values():
            for given in report.subscribers if report is not None else ():
                found.setdefault(given["name"], []).append(SubscriberStatus(**given))
        return found

    def _set_metric(self, found: Mapping[str, SubscriberState]) -> None:
        gauge = METRICS.gauge("gateway_subscriber_state")
        for name in self._states.keys() - found.keys():
            for state in STATES:
                gauge.remove(name, state)
        for name, one in found.items():
            before = self._states.get(name)
            if one.state != (None if before is None else before.state):
                for state in STATES:
                    gauge.labels(name, state).set(state == one.state)

    def is_leader(self) -> bool:
        """Return whether this machine's fan-out reads the first partition of the first subscriber."""
        first = next((one.name for one in self._parts.subscribers if one.kind != "stream"), "")
        return any(one.has_first_partition for one in self._all_statuses().get(first, ()))

    def _success_shares(self) -> Mapping[str, float]:
        shares = {}
        for name, outcomes in self.rates.by_labels("gateway_deliveries", steps=30).items():
            delivered, failed = outcomes.get("delivered", 0.0), sum(outcomes.get(one, 0.0) for one in FAILED)
            if delivered + failed:
                shares[name] = delivered / (delivered + failed)
        return shares

    def dead_letters(self, name: str) -> int | None:
        """Return how many dead letters of a subscriber are open; None while that is not known here."""
        letters = self._parts.dead_letters
        counts = None if letters is None else letters.open_counts(name)
        return None if counts is None else sum(counts.values())

    async def _ask_for_lags(self) -> Mapping[str, int | None]:
        """Return the lag by subscriber; with Kafka that of all partitions, on whichever machine they are read."""
        parts = self._parts
        if parts.kafka is not None:
            groups = {group_name(one.name): one.topics for one in parts.subscribers if one.kind != "stream"}
            found = await parts.kafka.lags(groups)
            return {one.name: found.get(group_name(one.name)) for one in parts.subscribers}
        return await parts.fanout.lags() if parts.fanout is not None else {}

    # -- last errors --------------------------------------------------------------------------------------------

    def _on_batch(self, stream: str, records: Sequence[Record]) -> None:
        if stream == attempts.TOPIC:
            self._note(records)

    def _note(self, records: Sequence[Record]) -> None:
        for record in records:
            for attempt in attempts.read(record):
                known = self.errors.get(attempt.subscriber)
                if attempt.outcome == "delivered":
                    newest = max(attempt.at, self.delivered.get(attempt.subscriber, 0.0))
                    self.delivered[attempt.subscriber] = newest
                elif attempt.outcome != "withdrawn" and (known is None or known.at <= attempt.at):
                    self.errors[attempt.subscriber] = LastError(
                        attempt.at, attempt.result, attempt.sentence, attempt.outcome, attempt.event_id
                    )

    async def _look_back(self) -> None:
        """Read errors from before the start, as far as they are among the newest attempts."""
        journal = self._parts.journal
        assert journal is not None
        head = journal.head(attempts.TOPIC)
        start = max(journal.floor(attempts.TOPIC), head - _LOOK_BACK)
        if start < head:
            for found in await journal.read_file(attempts.TOPIC, start, 1024 * 1024):
                if found.records is not None:
                    self._note(found.records)

    async def _follow(self) -> None:
        """Follow the attempts from now on: with Kafka, a topic has those of all processes."""
        log = self._parts.needed_log()
        while True:
            try:
                reader = await log.browse("console.errors", [attempts.TOPIC])
                try:
                    since = time.time() - _FOLLOW_FROM_S
                    await reader.seek_to_time(since)
                    self.recent.begin(since)
                    while True:
                        records = await reader.fetch(max_records=100, wait_s=5.0)
                        self._note(records)
                        for record in records:
                            for attempt in attempts.read(record):
                                self.recent.add(attempt)
                finally:
                    await reader.close()
            except GatewayError as exc:
                _log.info("admin.attempts_not_followed", error=str(exc))
                await asyncio.sleep(_RETRY_S)


async def _oldest(journal: Journal) -> float | None:
    """Return when the oldest stored record was appended; None if there is none."""
    floor = journal.floor(EVENTS)
    if floor >= journal.head(EVENTS):
        return None
    found = await journal.read_file(EVENTS, floor, 1)
    return found[0].records[0].appended_at if found and found[0].records else None


class RecentAttempts:
    """Keeps attempts by event, the newest events: with Kafka no index has them, and a topic is too long to read."""

    def __init__(self, kept: int = _KEPT) -> None:
        #: Every attempt on an event that was stored after this time is known, Unix seconds.
        self.since = float("inf")
        self._kept = kept
        self._count = 0
        self._by_event: OrderedDict[str, list[Attempt]] = OrderedDict()

    def begin(self, since: float) -> None:
        """Announce that attempts from this time on will be added; Unix seconds."""
        if self.since == float("inf"):
            self.since = since

    def add(self, attempt: Attempt) -> None:
        """Keep one; the events whose first attempt is the oldest go."""
        self._by_event.setdefault(attempt.event_id, []).append(attempt)
        self._count += 1
        while self._count > self._kept:
            _, gone = self._by_event.popitem(last=False)
            self._count -= len(gone)
            self.since = max(self.since, gone[-1].at)

    def of(self, event_id: str) -> Sequence[Attempt]:
        """Return those on an event, in the order in which they came."""
        return self._by_event.get(event_id, ())
