"""Running a coroutine for a command: on uvloop where it is, and stopped by Ctrl-C or SIGTERM without a trace."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from gateway.eventloop import loop_factory

_T = TypeVar("_T")


def run_async(work: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end and return the result.

    Raises:
        KeyboardInterrupt: a signal asked to stop; the work was cancelled and has cleaned up.
    """
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_stoppable(work))


async def _stoppable(work: Coroutine[Any, Any, _T]) -> _T:
    task = asyncio.ensure_future(work)
    is_asked = False

    def stop() -> None:
        nonlocal is_asked
        is_asked = True
        task.cancel()

    loop = asyncio.get_running_loop()
    if threading.current_thread() is threading.main_thread():  # others get no signals, and may not ask for them
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        if is_asked:
            raise KeyboardInterrupt from None
        raise
