"""Which event loop everything runs on, and threads that give way to it where there is no processor for both."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

#: A tenth of a processor that others want, too. Less, and work that must keep up with a busy gateway would not.
_NICE: Final = 10


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
