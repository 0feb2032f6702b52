"""Wait for a shared future, with a separate future for each waiter.

A cancelled task cancels the future that it awaits, and a shared future must survive. ``asyncio.shield`` would work at
several times the cost: it creates a future and two callbacks for each waiter.
"""

from __future__ import annotations

import asyncio
from functools import partial

from gateway.log import Appended


class Waiters:
    """Creates waiters of shared futures; used on one event loop."""

    def __init__(self) -> None:
        self._group: tuple[asyncio.Future[Appended], list[asyncio.Future[Appended]]] | None = None

    def wait(self, shared: asyncio.Future[Appended]) -> asyncio.Future[Appended]:
        """Return a future with the result or error of the shared one. It may be cancelled separately."""
        waiter: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        if self._group is None or self._group[0] is not shared:
            self._group = (shared, [])
            shared.add_done_callback(partial(self._settle, self._group[1]))
        self._group[1].append(waiter)
        return waiter

    def _settle(self, waiters: list[asyncio.Future[Appended]], shared: asyncio.Future[Appended]) -> None:
        self._group = None
        error = asyncio.CancelledError() if shared.cancelled() else shared.exception()
        for waiter in waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(shared.result())
            else:
                waiter.set_exception(error)
