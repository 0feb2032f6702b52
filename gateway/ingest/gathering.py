"""Append all events of one turn of the event loop to the log in one call, with one future.

Under load a turn reads dozens of requests. An append for each request costs as much as checking its credentials: a
future, two callbacks and their scheduling. The events share a commit anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Protocol

from gateway.log import Appended, Entry


class IngestLog(Protocol):
    """Stores events durably."""

    def append_soon(self, entries: Sequence[Entry]) -> asyncio.Future[Appended]:
        """Store all entries except repeats, or none.

        The future is done when the entries are durable. It fails with :class:`NotNow` if the log refuses them.
        """
        ...


class Joined(NamedTuple):
    """Position of entries in an append that they share with others.

    Args:
        durable: future of the whole append; await it behind a shield. It fails with the error of the log.
        first: index of the first entry in the append.
    """

    durable: asyncio.Future[Appended]
    first: int


class Gathering:
    """Appends to a log once per turn. The entries of a turn are stored as one unit: all or none.

    Args:
        log: the journal.
    """

    def __init__(self, log: IngestLog) -> None:
        self._log = log
        self._entries: list[Entry] = []
        self._durable: asyncio.Future[Appended] | None = None

    def append_soon(self, entries: Sequence[Entry]) -> Joined:
        """Store entries together with the other entries of this turn."""
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
        except Exception as exc:  # the waiting callers get it
            durable.set_exception(exc)
        else:
            stored.add_done_callback(partial(_pass_on, durable))


def _pass_on(durable: asyncio.Future[Appended], stored: asyncio.Future[Appended]) -> None:
    error = asyncio.CancelledError() if stored.cancelled() else stored.exception()
    if error is None:
        durable.set_result(stored.result())
    else:
        durable.set_exception(error)
