"""A process of the supervisor's from inside: what it puts off after the fork, and how it says that it is ready."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NoReturn

import orjson
import structlog

from gateway.errors import GatewayError
from gateway.telemetry import logs, redaction

Ready = Callable[[Mapping[str, object]], None]

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
#: The kernel keeps 15 bytes of a name (prctl(2)); ``gateway:ingest-0`` has one too many.
_NAME_PREFIX: Final = "gw:"
#: sysexits.h, EX_SOFTWARE: an unexpected error.
_CRASHED: Final = 70
#: Signals that the supervisor catches.
CAUGHT: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None
_log = structlog.get_logger("gateway.supervisor")


@dataclass(frozen=True, slots=True)
class Child:
    """One process.

    Args:
        name: unique, such as ``ingest-0``; in log lines, metrics and the process list.
        main: called in the forked process with ``ready``; returns the exit code.
        sockets: what it inherits of the sockets that the supervisor has opened; it closes those of other children.
    """

    name: str
    main: Callable[[Ready], int]
    sockets: Sequence[socket.socket] = ()


def become(
    child: Child, pipe: int, supervisor: int, *, wakeup: Sequence[int], others: Sequence[int | socket.socket]
) -> NoReturn:
    """Run as the child, in the process that was forked for it; never return to the frames above this one.

    Args:
        child: what to be.
        pipe: where its facts go.
        supervisor: its process id.
        wakeup: descriptors that wake the supervisor.
        others: what belongs to its siblings.
    """
    code = _CRASHED
    try:
        logs.bind(process=child.name)
        _leave(child, supervisor, wakeup, others)
        code = child.main(_reporter(pipe))
    except GatewayError as exc:
        _log.error("gateway.failed", error=str(exc))
        code = exc.exit_code
    except BaseException as exc:  # the top of a process
        _log.exception("process.crashed", error=redaction.fault(exc))
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _leave(child: Child, supervisor: int, wakeup: Sequence[int], others: Sequence[int | socket.socket]) -> None:
    """Put off what is the supervisor's: session, signals, files."""
    os.setsid()
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_NAME, f"{_NAME_PREFIX}{child.name}".encode()[:15])
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != supervisor:  # it died before the line above
            os._exit(0)
    signal.set_wakeup_fd(-1)
    for number in CAUGHT:
        signal.signal(number, signal.SIG_DFL)
    # Before it has its own handler: it reads the configuration anyway, and the default would kill it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for one in (*wakeup, *others):
        os.close(one) if isinstance(one, int) else one.close()
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, CAUGHT)


def _reporter(pipe: int) -> Ready:
    """Return what a child calls when it is ready; a second call does nothing."""
    pipes = [pipe]

    def ready(facts: Mapping[str, object]) -> None:
        while pipes:
            _write(pipes.pop(), orjson.dumps(dict(facts)))

    return ready


def _write(pipe: int, facts: bytes) -> None:
    with suppress(BrokenPipeError), open(pipe, "wb", buffering=0) as supervisor:
        rest = memoryview(facts)
        while rest:
            rest = rest[supervisor.write(rest) :]
