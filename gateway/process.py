"""One process of the gateway, from start to end: what a signal does at each moment, and how long a stop may take."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from gateway.app import App
from gateway.errors import Broken
from gateway.eventloop import loop_factory

#: Kubernetes kills after 30 s; the parts together stay below this, and this below that.
STOP_S: Final = 25.0
#: While processors are short, taking and storing callbacks go first: by Linux' weights a process of this niceness gets
#: a third of what one of 0 gets. Delivering later costs nothing but time; the log is the buffer.
DELIVER_NICENESS: Final = 5
#: Where Linux groups processes by session, niceness counts inside a session only, and the group's own counts between
#: them (``sched(7)``, "The autogroup feature").
_AUTOGROUP: Final = Path("/proc/self/autogroup")

_log = structlog.get_logger("gateway.app")


def run_part(app: Callable[[], App], ready: Callable[[Mapping[str, object]], None], *, niceness: int = 0) -> int:
    """Run one process of the gateway until SIGTERM or SIGINT; the exit code.

    A second signal changes nothing: the stop is bounded anyway.

    Args:
        app: makes it, on the event loop.
        ready: called once it serves.
        niceness: added to the process' own; more than 0 lets others go first.

    Raises:
        GatewayError: it cannot start, or cannot continue.
    """
    if niceness:
        _let_others_go_first(niceness)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_run(app, ready))


def _let_others_go_first(niceness: int) -> None:
    with suppress(OSError):  # a sandbox may forbid it; then all have the same share
        os.nice(niceness)
        _AUTOGROUP.write_text(str(niceness))


async def _run(make: Callable[[], App], ready: Callable[[Mapping[str, object]], None]) -> int:
    app = make()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    # In every part and from the first moment to the last: by default the signal would kill us.
    loop.add_signal_handler(signal.SIGHUP, app.reload.set)
    facts = await _started(app, stopping)
    if facts is not None:
        # What lives as long as the process need not be walked by every collection.
        gc.collect()
        gc.freeze()
        ready(facts)
        ends = [asyncio.create_task(event.wait()) for event in (stopping, app.failed)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    try:
        async with asyncio.timeout(STOP_S):
            await app.stop()
    except TimeoutError as exc:
        raise Broken(
            f"the stop took longer than {STOP_S:g} s; what was answered with success is in the journal"
        ) from exc
    if app.failed.is_set():
        raise Broken(app.failure)
    return 0


async def _started(app: App, stopping: asyncio.Event) -> dict[str, object] | None:
    """Start it, and break that off when it is to stop: a start may wait for a lock, the log process, or an old journal.

    Returns what the start does; None when it was broken off.
    """
    starting = asyncio.create_task(app.start(), name="start")
    asked = asyncio.create_task(stopping.wait())
    await asyncio.wait([starting, asked], return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if starting.done():
        return starting.result()
    starting.cancel()
    await asyncio.wait([starting], timeout=STOP_S)
    if starting.done() and not starting.cancelled() and (error := starting.exception()) is not None:
        _log.warning("gateway.start_broken_off", error=str(error))
    return None
