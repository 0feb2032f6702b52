"""All subscribers of one process: started, stopped, exchanged while running.

Subscribers share one reading of the log (:mod:`gateway.log.shared_reader`) and the event loop, nothing else: each has
its own cursor, window, workers, connections, breaker and rate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from random import Random
from typing import Final

import structlog

from gateway.clock import Clock, SystemClock, sleep
from gateway.config.settings import Subscriber
from gateway.errors import ConfigError, GatewayError
from gateway.fanout import attempts, retry_topics, subscriber_state, subscription
from gateway.fanout.attempt_log import AttemptLog, forget
from gateway.fanout.attempts import AttemptWriter
from gateway.fanout.cursor import Beginning
from gateway.fanout.exchanges import RequestShape
from gateway.fanout.flow_control import PersistentState
from gateway.fanout.partition_queue import SETTLE_S
from gateway.fanout.reader import SubscriberReader, SubscriberStatus, group_name
from gateway.fanout.replay_board import ReplayBoard
from gateway.fanout.retry_topics import RetryTopics
from gateway.fanout.subscriber_state import Beginnings, SubscriberStateStore
from gateway.log import EventLog
from gateway.log.journal import Journal
from gateway.log.shared_reader import SharedReader
from gateway.telemetry.metrics import METRICS, Metrics
from gateway.telemetry.tracing import Spans

#: Interval of measurements of lag and attempts in flight for the metrics.
_WATCH_S: Final = 5.0
#: Limit, in a stop, of the work after the attempts in flight: closing cursors, then writing what is only in memory.
#: An unavailable log would use all the remaining time of the process; a longer limit would not help.
_CLOSE_S: Final = 4.0
_LAST_WORDS_S: Final = 2.0
#: An attempt that takes longer is a slow one when a process stops.
_SLOW_S: Final = 0.2

#: Consumer group whose members share the partitions of the main topics.
GROUP: Final = group_name("fanout")

_log = structlog.get_logger("gateway.fanout")


class UnknownSubscriber(GatewayError):
    """The configuration has no subscriber of this name, or it is of a kind that has no reader."""

    status_hint = 404


class FanOut:
    """Owns the readers of all subscribers.

    Args:
        log: is read, and stores parked events, dead letters and states.
        subscribers: as configured; ``stream`` ones have no reader, see :mod:`gateway.fanout.sse`.
        keeps_times: the log is shared, so that the beginning of a subscriber is stored as a time.
        notes: storage of such times in this process while the log is unavailable.
        instance: name of this process in its records, for operators.
        load_wait_s: see :class:`.SubscriberStateStore`; 0.2 for the journal, 10 for Kafka.
        spans: creates spans of attempts, if an exporter is configured.
        replays: knows which replays were cancelled, and counts what becomes of their copies.

    Raises:
        ConfigError: a subscriber cannot be used; all problems at once.
    """

    def __init__(
        self,
        log: EventLog,
        subscribers: Sequence[Subscriber],
        *,
        keeps_times: bool = False,
        notes: Journal | None = None,
        instance: str = "0",
        load_wait_s: float = 0.2,
        clock: Clock | None = None,
        rng: Random | None = None,
        metrics: Metrics = METRICS,
        spans: Spans | None = None,
        replays: ReplayBoard | None = None,
    ) -> None:
        _check(subscribers)
        self._spans = spans
        self._replays = replays
        self._log = log
        self._clock = clock if clock is not None else SystemClock()
        self._rng = rng if rng is not None else Random()
        self._metrics = metrics
        self._wanted = {subscriber.name: subscriber for subscriber in subscribers}
        self._running: dict[str, tuple[Subscriber, SubscriberReader]] = {}
        self._reading = SharedReader(log, GROUP, self._clock)
        self._board = SubscriberStateStore(
            log,
            clock=self._clock,
            instance=instance,
            load_wait_s=load_wait_s,
            on_loaded=self._on_loaded,
            on_change=self._on_change,
        )
        self._is_shared = keeps_times
        self._beginnings = Beginnings(self._board, self._clock, notes) if keeps_times else None
        if self._beginnings is not None:
            self._beginnings.apply(subscribers)
        self._retry_topics = RetryTopics(
            log,
            self._reading,
            find=self._find,
            known=self._known,
            is_shared=keeps_times,
            clock=self._clock,
            metrics=metrics,
        )
        self._attempts = AttemptWriter(log, clock=self._clock, metrics=metrics)
        self._exchange = asyncio.Lock()
        self._watcher: asyncio.Task[None] | None = None
        self._is_stopped = False
        self.is_started = asyncio.Event()

    def start(self) -> None:
        """Start. Readers start when the stored states are known; ``is_started`` is set then. Never blocks."""
        if self._is_stopped or self._watcher is not None:
            return
        self._watcher = asyncio.create_task(self._watch(), name="fanout:watch")
        self._attempts.start()
        self._board.start()

    async def stop(self, deadline_s: float = 20.0) -> None:
        """Stop all readers at once; attempts in flight may end within ``deadline_s``, and are cancelled then.

        On a log that other processes share, the time is as short as at a rebalance: no process reads the partitions
        until this one has left or is back. For the same reason subscribers with long attempts stop first, and then the
        others.

        While the log is unavailable it takes at most six seconds more: events that were delivered and not committed are
        delivered again, and the attempts of the last second are missing in ``explain``. May be called twice, or before
        the start.
        """
        self._is_stopped = True
        if self._is_shared:
            deadline_s = min(deadline_s, SETTLE_S)
        await _at_most(deadline_s + _CLOSE_S, self._stop_readers(deadline_s))
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        await _at_most(_LAST_WORDS_S, asyncio.gather(self._attempts.stop(), self._board.stop()))

    async def _stop_readers(self, deadline_s: float) -> None:
        async with self._exchange:
            until = self._clock.monotonic() + deadline_s
            if self._is_shared:
                await self._stop_slow(deadline_s)
            running, self._running = self._running, {}
            left_s = max(until - self._clock.monotonic(), min(deadline_s, _SLOW_S))
            await asyncio.gather(*(reader.stop(left_s) for _, reader in running.values()))
            await self._retry_topics.stop()
            await self._reading.stop()

    async def _stop_slow(self, deadline_s: float) -> None:
        """Stop those whose attempts take long, while the others deliver: theirs would pause for all of that time."""
        before = {name: reader.under_way for name, (_, reader) in self._running.items()}
        if not any(before.values()):
            return
        await sleep(self._clock, _SLOW_S)
        slow = [name for name, (_, reader) in self._running.items() if reader.under_way & before[name]]
        stopped = [self._running.pop(name)[1] for name in slow]
        await asyncio.gather(*(reader.stop(deadline_s - _SLOW_S) for reader in stopped))
        for reader in stopped:
            self._retry_topics.left(reader)

    async def apply(self, subscribers: Sequence[Subscriber], *, deadline_s: float = 10.0) -> None:
        """Apply a changed configuration: stop removed subscribers, start new ones, restart changed ones.

        Unchanged subscribers are not affected. A changed one continues at its position; with a new address it is also
        no longer stopped or down.

        Raises:
            ConfigError: nothing was changed.
        """
        _check(subscribers)
        async with self._exchange:
            self._wanted = {subscriber.name: subscriber for subscriber in subscribers}
            if self._beginnings is not None:
                self._beginnings.apply(subscribers)
            if not self.is_started.is_set() or self._is_stopped:
                return
            leaving = [name for name, (before, _) in self._running.items() if self._wanted.get(name) != before]
            stopped = {name: self._running.pop(name) for name in leaving}
            await asyncio.gather(*(reader.stop(deadline_s) for _, reader in stopped.values()))
            for _, reader in stopped.values():
                self._retry_topics.left(reader)
            for name, (before, reader) in stopped.items():
                if name in self._wanted and self._wanted[name].url != before.url:
                    # What the old address answered says nothing about the new one.
                    self._board.put(name, PersistentState(paused=reader.flow.persistent_state.paused))
            self._retry_topics.apply(self._tiers())
            self._start_missing()
            for name in stopped.keys() - self._running.keys():
                forget(name, self._metrics)
        _log.info("subscribers.applied", stopped=sorted(leaving), running=sorted(self._running))

    def pause(self, subscriber: str) -> None:
        """Pause the deliveries of a subscriber, in all processes and over restarts, until it is resumed."""
        self._reader(subscriber).flow.pause()

    def resume(self, subscriber: str) -> None:
        """Resume deliveries after a pause, a stop or a 410, at the subscriber's position."""
        self._reader(subscriber).flow.resume()

    @property
    def state_store(self) -> SubscriberStateStore:
        """The stored states of subscribers, shared by all processes."""
        return self._board

    def statuses(self) -> list[SubscriberStatus]:
        """Return the status of every running subscriber in this process."""
        return [reader.status for _, reader in self._present()]

    async def lags(self) -> dict[str, int | None]:
        """Return the records that are not committed yet, in the partitions of this process; None: not known yet.

        Raises:
            Transient: the log does not answer now.
        """
        lags = await self._reading.lags()
        return {name: lags.get(reader.cursor) for name, reader in self._present()}

    def _present(self) -> list[tuple[str, SubscriberReader]]:
        return [(name, self._running[name][1]) for name in self._wanted if name in self._running]

    def _reader(self, name: str) -> SubscriberReader:
        if name not in self._running:
            raise UnknownSubscriber(f"there is no subscriber {name!r} here")
        return self._running[name][1]

    def _on_loaded(self) -> None:
        if not self._is_stopped:
            self._start_missing()
            self._retry_topics.apply(self._tiers())
            self._retry_topics.start()
            self._reading.start()
            self.is_started.set()

    def _on_change(self, name: str) -> None:
        if name in self._running:
            self._running[name][1].restore(self._board.get(name))

    def _start_missing(self) -> None:
        for name, subscriber in self._wanted.items():
            if name not in self._running and subscriber.kind != "stream":
                try:
                    self._running[name] = (subscriber, self._start(subscriber))
                except ConfigError as exc:  # a certificate file that went away since it was checked
                    _log.error("subscriber.not_started", subscriber=name, problems=exc.problems)

    def _find(self, name: str) -> SubscriberReader | None:
        return self._running[name][1] if name in self._running else None

    def _known(self) -> set[str]:
        return {name for name, one in self._wanted.items() if one.kind != "stream"}

    def _tiers(self) -> set[float]:
        return _tiers(self._wanted.values())

    def _start(self, subscriber: Subscriber) -> SubscriberReader:
        name, replays = subscriber.name, self._replays
        reader = SubscriberReader(
            subscription.build(subscriber),
            self._log,
            subscription.sink(subscriber, clock=self._clock, rng=self._rng),
            reading=self._reading,
            clock=self._clock,
            rng=self._rng,
            attempt_log=AttemptLog(
                name,
                clock=self._clock,
                metrics=self._metrics,
                writer=self._attempts,
                shape=RequestShape.of(subscriber),
                on_replay=None if replays is None else replays.note,
                spans=self._spans,
            ),
            on_state=lambda: self._board.put(name, reader.flow.persistent_state),
            beginning=self._beginning(name),
            is_withdrawn=None if replays is None else replays.is_withdrawn,
        )
        reader.restore(self._board.get(name))
        reader.start()
        return reader

    def _beginning(self, name: str) -> Beginning | None:
        if self._beginnings is None:
            return None
        return Beginning(lambda: self._board.begins(name), lambda found: self._board.opened(name, found))

    async def _watch(self) -> None:
        lag = self._metrics.gauge("gateway_subscriber_lag_records")
        in_flight = self._metrics.gauge("gateway_delivery_in_flight")
        while True:
            await sleep(self._clock, _WATCH_S)
            try:
                lags = await self.lags()
            except GatewayError:
                lags = {}
            for name, reader in self._present():
                in_flight.labels(name).set(reader.in_flight)
                if (records := lags.get(name)) is not None:
                    lag.labels(name).set(records)
                else:  # what was known before would look like what is
                    lag.remove(name)
                reader.trim()


def own_topics(subscribers: Iterable[Subscriber]) -> list[str]:
    """Return the topics that fan-out itself needs from its start on; those of dead letters come with the first."""
    return [*retry_topics.topics(_tiers(subscribers)), subscriber_state.TOPIC, attempts.TOPIC]


def _tiers(subscribers: Iterable[Subscriber]) -> set[float]:
    return {tier for one in subscribers if one.kind != "stream" for tier in one.retry.tiers}


async def _at_most(seconds: float, ending: Awaitable[object]) -> None:
    try:
        async with asyncio.timeout(seconds):
            await ending
    except TimeoutError:
        _log.warning("fanout.stop_cut_short", after_s=seconds)


def _check(subscribers: Sequence[Subscriber]) -> None:
    problems = subscription.problems(subscribers)
    if problems:
        raise ConfigError(problems)
