"""The thread that owns the writing connection, and the jobs it is given, one at a time.

All state of the journal lives on the event loop; the thread gets a job, runs it and hands the result back. So
there is nothing to lock, and one commit is under way at most: what arrives meanwhile shares the next one.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")
_Job = tuple[Callable[[], object], "asyncio.Future[object]"]


class WriterThread:
    """Runs functions in order in one thread; each gives an asyncio future."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def submit(self, function: Callable[[], _Result]) -> asyncio.Future[_Result]:
        """Queue a function behind the others; its result or error arrives in the future."""
        future: asyncio.Future[_Result] = self._loop.create_future()
        self._jobs.put((function, future))  # type: ignore[arg-type]  # a future of its own result
        return future

    async def stop(self) -> None:
        """Finish what is queued, then end the thread."""
        self._jobs.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, future = job
            try:
                result = function()
            except BaseException as exc:  # whatever it is belongs to the one who waits
                self._loop.call_soon_threadsafe(_fail, future, exc)
            else:
                self._loop.call_soon_threadsafe(_succeed, future, result)


def _succeed(future: asyncio.Future[object], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[object], exc: BaseException) -> None:
    if not future.done():
        future.set_exception(exc)
