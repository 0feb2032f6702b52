"""All events taken in one turn of the event loop go to the log in one append, and share one future.

Under load a turn reads dozens of requests. One append for each costs as much as checking its credentials: a future,
two callbacks and their hand-over to the loop. They would share the commit anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Protocol

from gateway.log import Appended, Entry


class Log(Protocol):
    """Where events become durable."""

    def append_soon(self, entries: Sequence[Entry]) -> asyncio.Future[Appended]:
        """Store all or none, but for repeats; done when they are durable, or failed with :class:`NotNow`."""
        ...


class Joined(NamedTuple):
    """Entries that share an append with others.

    Args:
        durable: of the whole append: await it behind a shield. It fails with what the log raised.
        first: index of the first of the entries in it.
    """

    durable: asyncio.Future[Appended]
    first: int


class Gathering:
    """Appends to a log once per turn. What one turn gathers is stored as one unit: all or none of it.

    Args:
        log: the journal.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._entries: list[Entry] = []
        self._durable: asyncio.Future[Appended] | None = None

    def append_soon(self, entries: Sequence[Entry]) -> Joined:
        """Store with what else this turn brings."""
        first = len(self._entries)
        self._entries += entries
        if self._durable is None:
            loop = asyncio.get_running_loop()
            self._durable = loop.create_future()
            loop.call_soon(self._append)
        return Joined(self._durable, first)

    def _append(self) -> None:
        entries, self._entries = self._entries, []
        durable, self._durable = self._durable, None
        assert durable is not None
        try:
            stored = self._log.append_soon(entries)
        except Exception as exc:  # it belongs to those who wait
            durable.set_exception(exc)
        else:
            stored.add_done_callback(partial(_pass_on, durable))


def _pass_on(durable: asyncio.Future[Appended], stored: asyncio.Future[Appended]) -> None:
    error = asyncio.CancelledError() if stored.cancelled() else stored.exception()
    if error is None:
        durable.set_result(stored.result())
    else:
        durable.set_exception(error)
