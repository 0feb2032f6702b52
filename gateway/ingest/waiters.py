"""Many that wait for one future, each with a future of its own.

A task that is cancelled cancels the future it waits for, and this one is shared. ``asyncio.shield`` would do, at
several times the cost: it makes a future and two callbacks for each waiter.
"""

from __future__ import annotations

import asyncio
from functools import partial

from gateway.log import Appended


class Waiters:
    """Waits for futures that others wait for too; used on one event loop."""

    def __init__(self) -> None:
        self._group: tuple[asyncio.Future[Appended], list[asyncio.Future[Appended]]] | None = None

    def wait(self, shared: asyncio.Future[Appended]) -> asyncio.Future[Appended]:
        """Done with the shared one, result or error; may be cancelled by itself."""
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
