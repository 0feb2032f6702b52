"""Several worker processes as one: started together, restarted when they die, stopped together.

The supervisor knows nothing of what its workers do: it is given a command for each number. Workers of ``serve`` share
one port by ``SO_REUSEPORT`` (the kernel deals connections to those that listen, socket(7)); each has its own journal
folder, ``<journal.dir>/worker-<number>``, because a journal has one writer. What happens to the journal of a worker
that does not come back is the subject of :mod:`gateway.orphans`.

Signals. SIGTERM and SIGINT are passed on as SIGTERM and end everything; a worker that is not gone ``stop_s`` later is
killed. SIGHUP (take over the configuration) is passed on. Workers get a session of their own, so that Ctrl-C reaches
them through us and not twice. Should the supervisor itself be killed, the kernel sends them SIGTERM (prctl(2),
PR_SET_PDEATHSIG, on Linux); elsewhere they stay, and hold their journals, until somebody stops them.

A worker that ends by itself, or cannot be started, is started again after a pause that grows while it keeps dying and
is forgotten when it has lived for ``healthy_s``. Exit codes in ``final_codes`` say that starting again is of no use (a
configuration that cannot be used): everything stops, with that code.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from gateway.errors import ConfigError
from gateway.telemetry.metrics import METRICS

_PR_SET_PDEATHSIG: Final = 1
#: The exit code of a life that never began, as a shell has it (POSIX, "Exit Status for Commands").
_NOT_STARTED: Final = 127
_log = structlog.get_logger("gateway.supervisor")


@dataclass(frozen=True, slots=True)
class SupervisorPolicy:
    """Numbers of the supervisor.

    Args:
        first_pause_s: before the first restart of a worker; doubled with each further death.
        last_pause_s: the longest pause; ten times more would leave a port to fewer workers for minutes.
        healthy_s: a worker that lived for so long starts over at ``first_pause_s``.
        stop_s: from SIGTERM to SIGKILL; more than a worker's own stop takes (25 s), less than Kubernetes' 30 s.
        final_codes: exit codes after which nothing is started again.
    """

    first_pause_s: float = 0.2
    last_pause_s: float = 10.0
    healthy_s: float = 30.0
    stop_s: float = 28.0
    final_codes: Collection[int] = (2,)


class Supervisor:
    """Runs ``workers`` processes until it is told to stop.

    Args:
        command: arguments of the worker with this number, from 0; the first is the program.
        environment: what a worker gets beside our own environment.
    """

    def __init__(
        self,
        command: Callable[[int], Sequence[str]],
        workers: int,
        *,
        environment: Callable[[int], Mapping[str, str]] = lambda number: {},
        policy: SupervisorPolicy | None = None,
    ) -> None:
        self._command = command
        self._workers = workers
        self._environment = environment
        self._policy = policy or SupervisorPolicy()
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._exit_code = 0
        restarts = METRICS.counter("gateway_worker_restarts")
        # From the start, so that Prometheus sees the first one as a step from 0.
        self._restarts = [restarts.labels(str(number)) for number in range(workers)]

    async def run(self) -> int:
        """Start the workers and return when all have ended; the exit code of the whole.

        0 after a stop in which every worker ended by itself, 1 if one had to be killed, or a final code of a worker.
        Takes the signals of the process while it runs.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self.pass_on, signal.SIGHUP)
        try:
            await asyncio.gather(*(self._keep(number) for number in range(self._workers)))
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)
        return self._exit_code

    def stop(self) -> None:
        """Stop all workers; :meth:`run` returns when they are gone. May be called twice."""
        if not self._stopping.is_set():
            _log.info("supervisor.stopping", workers=len(self._processes))
        self._stopping.set()

    def pass_on(self, number: signal.Signals) -> None:
        """Send a signal to every worker that is running."""
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(number)

    async def _keep(self, number: int) -> None:
        """One worker, again and again."""
        policy = self._policy
        pause_s = policy.first_pause_s
        while not self._stopping.is_set():
            lived_s, code = await self._once(number)
            if self._stopping.is_set():
                return
            if code in policy.final_codes:
                _log.error(
                    "worker.gave_up", worker=number, code=code, advice="see what it said; starting again is of no use"
                )
                self._exit_code = code
                self.stop()
                return
            pause_s = policy.first_pause_s if lived_s >= policy.healthy_s else pause_s
            self._restarts[number].inc()
            _log.error("worker.died", worker=number, code=code, lived_s=round(lived_s, 1), restart_in_s=pause_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
            pause_s = min(pause_s * 2, policy.last_pause_s)

    async def _once(self, number: int) -> tuple[float, int]:
        """One life of a worker: seconds, and exit code (negative: the signal)."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command(number),
                env={**os.environ, **self._environment(number)},
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_prepare,
            )
        except OSError as exc:  # no memory, no process, no file left, or a program that is being replaced
            _log.error("worker.not_started", worker=number, error=str(exc))
            return 0.0, _NOT_STARTED
        self._processes[number] = process
        _log.info("worker.started", worker=number, pid=process.pid)
        ended = asyncio.create_task(process.wait(), name=f"worker-{number}")
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                await self._end(number, process, ended)
        finally:
            stopped.cancel()
            del self._processes[number]
        code = await ended
        _log.info("worker.ended", worker=number, code=code)
        return loop.time() - started, code

    async def _end(self, number: int, process: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> None:
        with suppress(ProcessLookupError):
            process.terminate()
        await asyncio.wait([ended], timeout=self._policy.stop_s)
        if not ended.done():
            _log.error("worker.killed", worker=number, advice="its own stop took too long; its journal holds the rest")
            self._exit_code = self._exit_code or 1
            with suppress(ProcessLookupError):
                process.kill()


def reserve_port(host: str, port: int) -> socket.socket:
    """Hold a port for workers that share it: bound, not listening, so the kernel deals it no connection.

    Port 0 takes a free one; workers are told the number of ``getsockname()``. Keep it open while workers run, so that
    nobody else takes the port while all of them are between two lives.

    Raises:
        ConfigError: the address is in use by a program that does not share it, or is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, port))
    except OSError as exc:
        held.close()
        raise ConfigError([f"ingest.port: {host}:{port} cannot be used: {exc.strerror}"]) from exc
    return held


def _prepare() -> None:
    """Between fork and exec, so as little as possible: the C library was loaded before.

    Dies with the parent. A SIGHUP that comes before the worker has its handler is ignored: it reads the configuration
    anyway, and would be killed by the default.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None
