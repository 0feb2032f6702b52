"""Clients that send callbacks as the platform does, and write down what they were answered."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Final

import aiohttp

from tests.lossproof.callbacks import CLIENTS, Callback, callback
from tests.lossproof.history import History
from tests.waiting import pause

#: Between two requests of one client. Twelve clients then send some 250 a second, which leaves most of a small
#: machine to the gateway, the broker and the subscribers.
PAUSE_S: Final = 0.04
#: And while the subscribers are far behind: enough to keep things moving, and little enough that they catch up.
BEHIND_PAUSE_S: Final = 0.5
#: How long a client waits for an answer.
ANSWER_S: Final = 10.0
#: Of requests without an answer, or refused for now, so many are tried again; the platform itself sends once.
_RETRY_SHARE: Final = 0.5


class Load:
    """Sends until told to stop.

    Args:
        url: called for each request: where the gateway is now.
        history: written before and after each request.
        rng: what is repeated, what is given up.
        is_behind: whether the subscribers are so far behind that the load goes slow.
        repeat_share: of requests, which are sent again though they were answered. A repeat must change nothing.
    """

    def __init__(
        self,
        url: Callable[[], str],
        history: History,
        rng: Random,
        is_behind: Callable[[], bool] = lambda: False,
        *,
        repeat_share: float = 0.02,
    ) -> None:
        self._repeat_share = repeat_share
        self._is_behind = is_behind
        self._url = url
        self._history = history
        self._rng = rng
        self.is_stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None
        self._moved = asyncio.Condition()
        #: Requests that wait for their answers, each by a number of its own.
        self._under_way: set[int] = set()
        self._attempts = itertools.count()
        self.accepted = 0
        #: Between two requests of one client, seconds.
        self.pause_s = PAUSE_S
        self._known: set[int] = set()
        self.statuses: Counter[int] = Counter()

    @property
    def fresh(self) -> int:
        """Callbacks that were answered with success, repeats not counted."""
        return len(self._known)

    async def start(self) -> None:
        """Begin."""
        # Four sockets more than clients: a repeat may go out while the first connection is still closing.
        connector = aiohttp.TCPConnector(limit=CLIENTS + 4)
        timeout = aiohttp.ClientTimeout(total=ANSWER_S)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        for client in range(CLIENTS):
            self._tasks.append(asyncio.create_task(self._client(client), name=f"client-{client}"))

    async def stop(self) -> None:
        """Let each client finish what it has sent."""
        self.is_stopping = True
        await asyncio.gather(*self._tasks)
        if self._session is not None:
            await self._session.close()

    async def abort(self) -> None:
        """Stop at once; after :meth:`stop` nothing is left to do."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def more(self, count: int, within_s: float = 60.0) -> None:
        """Wait until so many more were answered with success.

        Raises:
            TimeoutError: the gateway does not take callbacks any more.
        """
        target = self.accepted + count
        async with asyncio.timeout(within_s), self._moved:
            await self._moved.wait_for(lambda: self.accepted >= target)

    async def answers(self, status: int, count: int, within_s: float = 60.0) -> None:
        """Wait until so many more were answered so."""
        target = self.statuses[status] + count
        async with asyncio.timeout(within_s), self._moved:
            await self._moved.wait_for(lambda: self.statuses[status] >= target)

    async def settled(self, within_s: float = 60.0) -> None:
        """Wait until every request that is under way now has its answer, or none."""
        waiting = set(self._under_way)
        async with asyncio.timeout(within_s), self._moved:
            await self._moved.wait_for(lambda: not waiting & self._under_way)

    async def _client(self, client: int) -> None:
        number = client
        while not self.is_stopping:
            wanted = callback(number)
            while not self.is_stopping:
                status = await self._send(wanted)
                if status == wanted.status and self._rng.random() >= self._repeat_share:
                    break
                if status != wanted.status and self._rng.random() >= _RETRY_SHARE:
                    break
                await pause(self.pause_s, "a client's pause before it tries again")
            number += CLIENTS
            await pause(BEHIND_PAUSE_S if self._is_behind() else self.pause_s, "a client's rate")

    async def _send(self, wanted: Callback) -> int:
        assert self._session is not None
        self._history.sent(wanted.number)
        attempt = next(self._attempts)
        self._under_way.add(attempt)
        headers = {"Content-Type": wanted.content_type}
        try:
            async with self._session.post(self._url() + wanted.path, data=wanted.body, headers=headers) as answer:
                await answer.read()
                status = answer.status
        except (aiohttp.ClientError, OSError, TimeoutError):
            status = 0
        self._history.answered(wanted.number, status)
        self._under_way.discard(attempt)
        self.statuses[status] += 1
        if status == wanted.status:
            self.accepted += len(wanted.expected)
            self._known.add(wanted.number)
        async with self._moved:
            self._moved.notify_all()
        return status
