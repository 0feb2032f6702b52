"""Choose the event loop, run a coroutine for a command, and make threads that give way to the loop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

#: A tenth of a processor that others want, too. Less, and work that must keep up with a busy gateway would not.
_NICE: Final = 10
_T = TypeVar("_T")


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's loop factory where it is installed (not on Windows); None selects asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def give_way() -> None:
    """Lower the priority of the running thread; for ``ThreadPoolExecutor(initializer=…)``.

    Only for work without the interpreter lock: a thread that holds it and gets no processor would stop the event loop.

    Linux alone has a priority for each thread (setpriority(2), "C library/kernel differences"); elsewhere nothing
    happens.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


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
