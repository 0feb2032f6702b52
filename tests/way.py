"""``python -m tests.way [--kafka]``: the way of one callback through the files of gateway/.

A whole gateway runs in this process (one event loop, so without the sockets between processes: the three modules of
``gateway/link`` are not part of the figures). After a warm-up, one sms-dr receipt is sent over HTTP to it, and each
Python call and each resumption of a coroutine in gateway/ is recorded until the webhook is delivered, its position is
stored and :data:`WINDOW_S` is over.

What counts. The unit is a *step*: one callback that the event loop runs, or one function that a thread pool runs. A
step counts with all of its calls if

* a step that counts scheduled it: ``call_soon``, a task that it woke, a timer that it set, work for a thread; or
* a socket began it (or began the step that scheduled it), and it calls a *new* function: one that ran after the receipt
  before this one, too, and did not run within :data:`IDLE_S` without traffic.

What another timer begins, and what follows from it, does not count: metrics, retention, watchers, lags, polling. Nor do
other readers of the log than the subscriber: a step that begins in ``admin``, ``alerts`` or ``search``.

Limits of the rule. A step that a socket begins and that calls only functions which also run without traffic is missed,
and so is work that a periodic timer finds. Of a step that counts, everything counts, also what it would have done
anyway. All consequences until the position is stored count, such as metrics and the log of attempts. The subscriber's
connection is older than its keep-alive time, so the webhook opens a new one. A comprehension is part of its function.
Threads and sockets run when they do, so the order and the number of changes vary a little between runs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import thread
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

import aiohttp

import gateway
from gateway.app import App
from gateway.config.settings import Settings
from tests.broker import cluster
from tests.gateway.subscriber import Subscriber

#: Longer than the periods of the commits of positions and of the log of attempts.
WINDOW_S: Final = 4.0
#: Longer than each period of a timer that could fall into the windows of two receipts.
IDLE_S: Final = 12.0

_GATEWAY: Final = f"{Path(gateway.__file__).parent}/"
#: Where steps are made and run, by file: the function that runs one.
_RUNS: Final = {asyncio.events.__file__: "_run", thread.__file__: "run"}
#: Who makes steps that a socket begins.
_SOCKETS: Final = {"BaseSelectorEventLoop._add_reader", "BaseSelectorEventLoop._add_writer"}
_COMPREHENSIONS: Final = {"<genexpr>", "<listcomp>", "<dictcomp>", "<setcomp>"}
#: A position is durable: in the journal, in Kafka.
_STORED: Final = {"JournalCursors._saved", "OffsetClient.commit"}
#: Packages that read the log for themselves.
_ASIDE: Final = {"admin", "alerts", "search"}


class Call(NamedTuple):
    """One call, or one resumption of a coroutine, in a step; the file is within gateway/."""

    step: int
    file: str
    function: str


@dataclass(slots=True)
class Window:
    """What ran in a time.

    Args:
        calls: in order, of all threads.
        causes: by step, the step that scheduled it; none: a socket, or a step before the window.
        timers: the steps that a timer began.
        delivered: how many calls there were when the webhook arrived.
    """

    calls: list[Call] = field(default_factory=list)
    causes: dict[int, int] = field(default_factory=dict)
    timers: set[int] = field(default_factory=set)
    delivered: int = 0

    @property
    def functions(self) -> set[tuple[str, str]]:
        """All functions that ran."""
        return {(call.file, call.function) for call in self.calls}

    def caused(self, new: set[tuple[str, str]]) -> Window:
        """Return the calls of the steps that count, until the position is stored.

        Args:
            new: functions that make a step count.
        """
        first = {call.step: call.file.partition("/")[0] for call in reversed(self.calls)}
        has_new = {call.step for call in self.calls if (call.file, call.function) in new}
        counts: dict[int, bool] = {}
        background: set[int] = set()
        for step, cause in self.causes.items():  # a cause has the smaller number
            is_caused = counts.get(cause, False)
            if first.get(step) in _ASIDE or (not is_caused and (step in self.timers or cause in background)):
                background.add(step)
            counts[step] = step not in background and (is_caused or step in has_new)
        calls = [call for call in self.calls if counts.get(call.step)]
        end = max((number for number, call in enumerate(calls) if call.function in _STORED), default=-1)
        delivered = sum(counts.get(call.step, False) for call in self.calls[: self.delivered])
        return Window(calls[: end + 1], self.causes, self.timers, delivered)


class Profiler:
    """Follow steps and calls in all threads that are started from now on."""

    def __init__(self) -> None:
        self.window: Window | None = None
        self._made: dict[int, int] = {}
        self._current = threading.local()
        self._numbers = count(1)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Profile this thread and those that it starts."""
        threading.setprofile(self._on_event)
        sys.setprofile(self._on_event)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    async def record(self, seconds: float, receiver: Subscriber, deliveries: int) -> Window:
        """Return what runs from now on, for a time.

        Raises:
            AssertionError: there are more deliveries than these.
        """
        self._made = {}
        window = self.window = Window()
        try:
            await receiver.until(lambda: len(receiver.order) > deliveries, seconds)
        except TimeoutError:
            return window
        finally:
            self.window = None
        raise AssertionError(f"more than {deliveries} deliveries")

    def _on_event(self, frame: FrameType, event: str, _: object) -> None:
        window = self.window
        if event != "call" or window is None:
            return
        code = frame.f_code
        if code.co_filename.startswith(_GATEWAY):
            if code.co_name not in _COMPREHENSIONS:
                window.calls.append(Call(self._step, code.co_filename[len(_GATEWAY) :], code.co_qualname))
        elif (run := _RUNS.get(code.co_filename)) and code.co_varnames[:1] == ("self",):
            made = frame.f_locals["self"]
            if code.co_name == run:
                step = self._current.step = next(self._numbers)
                window.causes[step] = self._made.get(id(made), 0)
                if isinstance(made, asyncio.TimerHandle):
                    window.timers.add(step)
            elif code.co_name == "__init__":
                is_socket = frame.f_back is not None and frame.f_back.f_code.co_qualname in _SOCKETS
                self._made[id(made)] = 0 if is_socket else self._step

    @property
    def _step(self) -> int:
        return getattr(self._current, "step", 0)


async def trace(folder: Path, **config: Any) -> Window:
    """Return what one receipt caused.

    Args:
        folder: for the journal.
        config: sections of the configuration that are added.
    """
    profiler = Profiler()

    async def behave(_: dict[str, Any]) -> int:
        if profiler.window is not None:
            profiler.window.delivered = len(profiler.window.calls)
        return 200

    async with Subscriber(behave) as receiver:
        to = {"name": "way", "topics": ["sms.dr"], "url": receiver.url, "allow_private": True, "start": "earliest"}
        settings = {"ingest": {"port": 0}, "admin": {"port": 0}, "journal": {"dir": str(folder / "data")}}
        with profiler.installed():
            app = App(Settings.model_validate(settings | {"subscribers": [to]} | config))
            await app.start()
            try:
                return await _way(app, receiver, profiler)
            finally:
                await app.stop()


async def _way(app: App, receiver: Subscriber, profiler: Profiler) -> Window:
    await app.fanout.is_started.wait()
    url = f"http://127.0.0.1:{app.ingest.port}/callbacks/sms-dr"

    async def receipt(number: int) -> Window:
        sending = asyncio.create_task(_send(url, number))
        window = await profiler.record(WINDOW_S, receiver, number)
        await sending
        await receiver.until(lambda: len(receiver.order) == number)
        return window

    await receipt(1)
    before = await receipt(2)
    idle = await profiler.record(IDLE_S, receiver, 2)
    window = await receipt(3)
    assert window.delivered
    assert set((await app.fanout.lags()).values()) == {0}
    return window.caused((window.functions & before.functions) - idle.functions)


async def _send(url: str, number: int) -> None:
    times = {"sendtime": "2024-01-02 03:04:05", "drtime": "2024-01-02 03:04:09"}
    form = {"messageid": f"m{number}", "phone": "15550100200", "status": "2", "result": "DELIVRD", "size": "1"} | times
    async with aiohttp.ClientSession() as session, session.post(url, data=form) as response:
        assert response.status == 200


def figures(calls: list[Call]) -> tuple[int, int]:
    """Return the number of distinct files, and how often the file changes."""
    return len({call.file for call in calls}), sum(one.file != other.file for one, other in pairwise(calls))


def show(window: Window) -> None:
    """Print each step, and the figures."""
    for number, call in enumerate(window.calls):
        if number == window.delivered:
            print("-- the webhook arrives")
        print(f"{call.step:6}  {call.file:40} {call.function}")
    for name, calls in [
        ("until the webhook arrives", window.calls[: window.delivered]),
        ("until its position is stored", window.calls),
    ]:
        print("{}: {} files, {} changes of file".format(name, *figures(calls)))


def main() -> None:
    """Trace one receipt, embedded or with Kafka."""
    parser = argparse.ArgumentParser(prog="python -m tests.way", description=__doc__.partition("\n")[0])
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--embedded", action="store_true", help="without Kafka (default)")
    kind.add_argument("--kafka", action="store_true", help="with a broker that is started for it")
    is_kafka = parser.parse_args().kafka
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config: dict[str, Any] = {}
        if is_kafka:
            made = cluster.create(1)
            stack.callback(made.remove)
            made.start()
            config["kafka"] = {"bootstrap_servers": made.bootstrap, "partitions": 2}
        show(asyncio.run(trace(folder, **config)))


if __name__ == "__main__":
    main()
