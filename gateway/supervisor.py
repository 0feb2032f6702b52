"""The processes of one machine: forked in stages, started again when they die, stopped together.

The supervisor has no event loop, no thread and no traffic: it waits for signals and for pipes. It knows nothing of what
its children do. A child is a function that is called in the forked process; its return value is the exit code.

Stages. A child reports once that it is ready, with facts. The next stage starts when all of this one are ready; a stage
after the first starts at the latest ``stage_s`` after the one before it. When all children are ready the gateway has
started, and the facts of all, merged, are handed to ``on_started``.

Deaths. Before that, a child that fails with an exit code of its own and was never ready ends everything with that code:
the journal is in use, a file cannot be read. A child that is killed by a signal, one that ends later, and one that
cannot be forked is started again after a pause, which doubles while it keeps dying and is forgotten when it has lived
for ``healthy_s``. Exit codes in ``final_codes`` (a configuration that cannot be used) are final always.

Signals. SIGTERM and SIGINT: our copies of the listening sockets are closed, all children get SIGTERM at once, and those
that are left after ``stop_s`` SIGKILL. SIGHUP: to the children whose names begin with ``reload``. Children have a
session of their own, so Ctrl-C reaches them through us and not twice. If the supervisor is killed, the kernel sends
them SIGTERM (prctl(2), PR_SET_PDEATHSIG, on Linux); elsewhere they stay until they are stopped by hand.

Rejected: ``multiprocessing`` (a resource tracker, pickling, handlers at exit) and a new program for each child (150 ms
and 60 MiB of imports, which forked children share).
"""

from __future__ import annotations

import gc
import mmap
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import orjson
import structlog

from gateway.child import CAUGHT, Child, become
from gateway.errors import INTERRUPTED

_NEVER: Final = float("inf")
_log = structlog.get_logger("gateway.supervisor")


@dataclass(frozen=True, slots=True)
class SupervisorPolicy:
    """Numbers of the supervisor.

    Args:
        first_pause_s: before the first restart of a child; doubled with each further death.
        last_pause_s: the longest pause; ten times more would leave callbacks to fewer processes for minutes.
        healthy_s: a child that lived for so long starts over at ``first_pause_s``.
        stage_s: the longest a stage waits for the one before it, unless that is the first.
        stop_s: from SIGTERM to SIGKILL; more than a child's own stop takes (25 s), less than Kubernetes' 30 s.
        final_codes: exit codes after which nothing is started again.
    """

    first_pause_s: float = 0.2
    last_pause_s: float = 10.0
    healthy_s: float = 30.0
    stage_s: float = 20.0
    stop_s: float = 28.0
    final_codes: Collection[int] = (2,)


@dataclass(slots=True, eq=False)
class _Process:
    """State of a child; ``pid`` is 0 while it is not running, ``due`` when it is to be started."""

    child: Child
    number: int
    pid: int = 0
    started: float = 0.0
    due: float = _NEVER
    pause_s: float = 0.0
    pipe: int = -1
    told: bytearray = field(default_factory=bytearray)
    facts: dict[str, object] | None = None
    was_ready: bool = False


class Supervisor:
    """Runs children until SIGTERM, SIGINT, or an exit code that ends everything.

    Args:
        stages: children by stage; those of a stage start together.
        policy: the numbers.
        on_started: called once, with the merged facts, when all children are ready.
        reload: SIGHUP goes to children whose names begin so.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[Child]],
        *,
        policy: SupervisorPolicy | None = None,
        on_started: Callable[[Mapping[str, object]], None],
        reload: str,
    ) -> None:
        self._policy = policy or SupervisorPolicy()
        self._on_started = on_started
        self._reload = reload
        numbers = iter(range(sum(len(stage) for stage in stages)))
        self._stages = [[_Process(child, next(numbers)) for child in stage] for stage in stages if stage]
        self._all = [process for stage in self._stages for process in stage]
        self._sockets = {id(one): one for process in self._all for one in process.child.sockets}
        self._next_stage = 0
        self._stage_due = _NEVER
        self._is_started = False
        self._signals: list[int] = []
        self._wakeup = (-1, -1)
        self._kill_at: float | None = None
        self._exit_code = 0
        self._is_interrupted = False
        # In memory that all processes share: the one with the admin port shows them.
        self._restarts = memoryview(mmap.mmap(-1, 4 * max(1, len(self._all)))).cast("I")

    def restarts(self) -> dict[str, int]:
        """Return how many times each child was started again, by name; in children too."""
        return {process.child.name: self._restarts[process.number] for process in self._all}

    def run(self) -> int:
        """Start the children and return the exit code of the whole when all have ended.

        0 after a stop in which every child ended by itself, 130 if SIGINT asked for it, 1 if one had to be killed, or
        the code of the child that ended everything. Takes the signals of the process while it runs. Call it before
        there are threads.
        """
        gc.collect()
        gc.freeze()  # so that no collection in a child touches, and thereby copies, the pages that are shared
        began = time.monotonic()
        with self._caught():
            self._start_stage()
            while not self._is_done:
                self._wait()
                self._act_on_signals()
                self._reap()
                if self._kill_at is None:
                    self._advance()
                elif time.monotonic() >= self._kill_at:
                    self._kill()
        code = self._exit_code or (INTERRUPTED if self._is_interrupted else 0)
        _log.info("gateway.stopped", code=code, lived_s=round(time.monotonic() - began, 1))
        return code

    @property
    def _is_done(self) -> bool:
        return self._kill_at is not None and not any(process.pid for process in self._all)

    # -- waiting ------------------------------------------------------------------------------------------------

    @contextmanager
    def _caught(self) -> Iterator[None]:
        """Note signals and wake the loop on each; restore the handlers at the end."""
        read, write = self._wakeup = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        before = [(number, signal.signal(number, lambda got, _: self._signals.append(got))) for number in CAUGHT]
        fd = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(fd)
            for number, handler in before:
                signal.signal(number, handler)
            os.close(read)
            os.close(write)

    def _wait(self) -> None:
        """Sleep until a signal, facts, or the next time that something is due."""
        due = [process.due for process in self._all] if self._kill_at is None else [self._kill_at]
        pause_s = max(0.0, min([*due, self._stage_due]) - time.monotonic())
        pipes = {process.pipe: process for process in self._all if process.pipe >= 0}
        waiting = select.poll()
        for fd in (self._wakeup[0], *pipes):
            waiting.register(fd, select.POLLIN)
        # Rounded up: rounded down, the last part of a millisecond would be spent spinning.
        for fd, _ in waiting.poll(None if pause_s == _NEVER else pause_s * 1000 + 1):
            if fd in pipes:
                self._listen_to(pipes[fd])
            else:
                with suppress(BlockingIOError):
                    os.read(fd, 4096)

    def _listen_to(self, process: _Process) -> None:
        """Read a child's pipe; its end completes the facts."""
        got = os.read(process.pipe, 65536)
        process.told += got
        if not got:
            os.close(process.pipe)
            process.pipe = -1
            if process.told:  # otherwise it has died
                with suppress(orjson.JSONDecodeError):  # died in the middle
                    process.facts = orjson.loads(process.told)
                    process.was_ready = True
                    took_s = round(time.monotonic() - process.started, 3)
                    _log.info("process.ready", process=process.child.name, pid=process.pid, took_s=took_s)

    def _act_on_signals(self) -> None:
        signals, self._signals = self._signals, []
        for number in signals:
            if number in (signal.SIGTERM, signal.SIGINT):
                self._is_interrupted |= number == signal.SIGINT and self._kill_at is None
                self._stop()
            elif number == signal.SIGHUP:
                self._send(signal.SIGHUP, self._reload)

    # -- starting -----------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Start what is due; report when all are ready."""
        now = time.monotonic()
        for process in self._all:
            if process.due <= now:
                process.due = _NEVER
                self._start(process)
        begun = self._stages[: self._next_stage]
        is_ready = all(process.facts is not None for stage in begun for process in stage)
        if self._next_stage < len(self._stages):
            if is_ready or now >= self._stage_due:
                self._start_stage()
        elif is_ready and not self._is_started:
            self._is_started = True
            self._on_started({name: fact for process in self._all for name, fact in (process.facts or {}).items()})

    def _start_stage(self) -> None:
        stage = self._stages[self._next_stage]
        for process in stage:
            self._start(process)
        self._next_stage += 1
        is_last = self._next_stage == len(self._stages)
        # Without the first stage the others can do nothing.
        self._stage_due = _NEVER if is_last or self._next_stage == 1 else time.monotonic() + self._policy.stage_s

    def _start(self, process: _Process) -> None:
        supervisor = os.getpid()
        process.started = time.monotonic()
        process.told.clear()
        process.facts = None
        read = write = -1
        # A signal to the child waits until its handlers are its own; in between ours would swallow it.
        signal.pthread_sigmask(signal.SIG_BLOCK, CAUGHT)
        try:
            read, write = os.pipe()
            process.pid = os.fork()
            if process.pid == 0:
                os.close(read)
                become(process.child, write, supervisor, wakeup=self._wakeup, others=self._others(process.child))
        except OSError as exc:  # no memory, no process or no file left
            if read >= 0:
                os.close(read)
            _log.error("process.not_started", process=process.child.name, error=str(exc))
            self._start_later(process)
        else:
            process.pipe = read
            _log.info("process.started", process=process.child.name, pid=process.pid)
        finally:
            if write >= 0:
                os.close(write)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, CAUGHT)

    def _others(self, child: Child) -> list[int | socket.socket]:
        """Return what a child inherits and has no use for: pipes of its siblings, and their sockets."""
        pipes = [process.pipe for process in self._all if process.pipe >= 0]
        return [*pipes, *(one for one in self._sockets.values() if one not in child.sockets)]

    def _start_later(self, process: _Process) -> float:
        """Plan the next start of a child; return the pause before it in seconds."""
        policy, now = self._policy, time.monotonic()
        is_healthy = now - process.started >= policy.healthy_s
        pause_s = policy.first_pause_s if is_healthy or not process.pause_s else process.pause_s
        process.pause_s = min(pause_s * 2, policy.last_pause_s)
        process.due = now + pause_s
        return pause_s

    # -- ending -------------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        """Note the children that have ended."""
        for process in self._all:
            if process.pid and (found := os.waitpid(process.pid, os.WNOHANG))[0]:
                while process.pipe >= 0:  # what it reported just before its end is still in the pipe
                    self._listen_to(process)
                pid, process.pid = process.pid, 0
                self._ended(process, pid, os.waitstatus_to_exitcode(found[1]))

    def _ended(self, process: _Process, pid: int, code: int) -> None:
        """Decide what follows the end of a child; a negative code is a signal."""
        name = process.child.name
        if self._kill_at is not None:
            self._exit_code = self._exit_code or max(code, 0)
            _log.info("process.ended", process=name, pid=pid, code=code)
        elif code in self._policy.final_codes or (code > 0 and not process.was_ready and not self._is_started):
            advice = "its own lines say why; starting it again is of no use"
            _log.error("process.gave_up", process=name, pid=pid, code=code, advice=advice)
            self._exit_code = code
            self._stop()
        else:
            self._restarts[process.number] += 1
            lived_s = round(time.monotonic() - process.started, 1)
            pause_s = self._start_later(process)
            process.facts = None
            _log.error("process.died", process=name, pid=pid, code=code, lived_s=lived_s, restart_in_s=pause_s)

    def _stop(self) -> None:
        """Stop all children. May be called twice."""
        if self._kill_at is None:
            _log.info("gateway.stopping", processes=sum(1 for process in self._all if process.pid))
            self._kill_at = time.monotonic() + self._policy.stop_s
            self._stage_due = _NEVER
            for one in self._sockets.values():
                one.close()
            self._send(signal.SIGTERM)

    def _kill(self) -> None:
        self._kill_at = _NEVER
        self._exit_code = self._exit_code or 1
        for process in self._all:
            if process.pid:
                advice = "its own stop took too long; what was answered with success is in the journal"
                _log.error("process.killed", process=process.child.name, pid=process.pid, advice=advice)
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals, prefix: str = "") -> None:
        """Send a signal to the children whose names begin so. Those that have ended are zombies until ``_reap``."""
        for process in self._all:
            if process.pid and process.child.name.startswith(prefix):
                os.kill(process.pid, number)
