"""Append all events of one turn of the event loop to the log in one call, and report the outcome to each callback.

Under load a turn reads dozens of requests. An append for each request costs as much as checking its credentials: a
future, two callbacks and their scheduling. The events share a commit anyway, so they are stored as one unit: all or
none. A waiting request registers a function with the turn, because a future for each costs several times as much; only
:meth:`Turn.wait`, for tasks that may be cancelled, creates one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import structlog

from gateway.log import ALL_NEW, Appended, Entry

_log = structlog.get_logger("gateway.ingest")

#: Called with the result of the append and its error, which is None if the events are durable.
Done = Callable[[Appended, BaseException | None], None]


class IngestLog(Protocol):
    """Stores events durably."""

    def append_soon(self, entries: Sequence[Entry]) -> asyncio.Future[Appended]:
        """Store all entries except repeats, or none.

        The future is done when the entries are durable. It fails with :class:`NotNow` if the log refuses them.
        """
        ...


class Turn:
    """The entries of one turn, and who waits for them."""

    __slots__ = ("_outcome", "_waiting", "callbacks", "entries")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        #: Number of callbacks whose events these are.
        self.callbacks = 0
        self._waiting: list[Done] = []
        self._outcome: tuple[Appended, BaseException | None] | None = None

    def when_done(self, tell: Done) -> None:
        """Call a function when the entries are durable or refused, at once if they are already."""
        if self._outcome is None:
            self._waiting.append(tell)
        else:
            tell(*self._outcome)

    async def wait(self) -> Appended:
        """Return the result of the append when the entries are durable; the waiting task may be cancelled.

        Raises:
            NotNow: the log refused them.
        """
        waiter: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self.when_done(partial(_resolve, waiter))
        return await waiter

    def end(self, appended: Appended, error: BaseException | None) -> None:
        """Report the outcome to each waiting request, in the order in which they came."""
        self._outcome = appended, error
        for tell in self._waiting:
            try:
                tell(appended, error)
            except Exception:  # an error of one must not delay the answers of the others
                _log.exception("an answer could not be written")
        self._waiting.clear()


class Turns:
    """Appends to a log once per turn.

    Args:
        log: the journal.
    """

    def __init__(self, log: IngestLog) -> None:
        self._log = log
        self._turn: Turn | None = None
        #: Callbacks whose events are not durable yet.
        self.waiting = 0

    def append_soon(self, entries: Sequence[Entry]) -> tuple[Turn, range]:
        """Store the entries of a callback together with the others of this turn; return their positions in it."""
        turn = self._turn
        if turn is None:
            turn = self._turn = Turn()
            asyncio.get_running_loop().call_soon(self._append)
        first = len(turn.entries)
        turn.entries += entries
        turn.callbacks += 1
        self.waiting += 1
        return turn, range(first, first + len(entries))

    def _append(self) -> None:
        turn, self._turn = self._turn, None
        assert turn is not None
        try:
            stored = self._log.append_soon(turn.entries)
        except Exception as exc:  # the waiting callbacks get it
            self._end(turn, ALL_NEW, exc)
        else:
            stored.add_done_callback(partial(self._stored, turn))

    def _stored(self, turn: Turn, stored: asyncio.Future[Appended]) -> None:
        error = asyncio.CancelledError() if stored.cancelled() else stored.exception()
        self._end(turn, stored.result() if error is None else ALL_NEW, error)

    def _end(self, turn: Turn, appended: Appended, error: BaseException | None) -> None:
        self.waiting -= turn.callbacks
        turn.end(appended, error)


def _resolve(waiter: asyncio.Future[Appended], appended: Appended, error: BaseException | None) -> None:
    if waiter.done():
        return
    if error is None:
        waiter.set_result(appended)
    else:
        waiter.set_exception(error)
