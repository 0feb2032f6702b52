"""A supervisor over small children, as a program: ``python -m tests.gateway.supervised '<stages>' '<policy>'``.

Stages are JSON: lists of ``[name, behaviour]``. A child that is well waits for SIGTERM, and meanwhile writes a line for
SIGHUP (``child.reloaded``) and for SIGUSR1 (``child.looked``, with what it sees of itself).
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from gateway.child import Child, Ready
from gateway.errors import Broken
from gateway.sockets import listen
from gateway.supervisor import Supervisor, SupervisorPolicy
from gateway.telemetry import logs

_log = structlog.get_logger("tests")
_EXPECTED = {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1}


def main(stages: list[list[tuple[str, str]]], policy: dict[str, Any]) -> int:
    """Run until SIGTERM; the exit code of the supervisor."""
    logs.configure("info", "json")
    ports = {name: listen("ingest.port", "127.0.0.1", 0) for stage in stages for name, _ in stage}
    if policy.pop("no_processes", False):
        _have_no_processes()

    def child(name: str, behaviour: str) -> Child:
        return Child(name, partial(_child, name, behaviour, ports[name], lambda: supervisor), [ports[name]])

    supervisor = Supervisor(
        [[child(name, behaviour) for name, behaviour in stage] for stage in stages],
        policy=SupervisorPolicy(**policy),
        on_started=_say,
        reload="deliver",
    )
    return supervisor.run()


def _say(facts: Mapping[str, Any]) -> None:
    """As the gateway does; of what is more than a pipe holds, the length."""
    _log.info("gateway.started", **{**facts, "many": len(facts["many"]) if "many" in facts else 0})


def _have_no_processes() -> None:
    """Have fork() fail with EAGAIN, until SIGUSR2; root has no such limit."""
    if os.getuid() == 0:
        os.setuid(65534)
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))
    signal.signal(signal.SIGUSR2, lambda *_: resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard)))


def _child(name: str, behaviour: str, port: socket.socket, supervisor: Any, ready: Ready) -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, _EXPECTED)
    signal.signal(signal.SIGHUP, lambda *_: None)
    match behaviour.split(":"):
        case ["exit", code]:
            return int(code)
        case ["once", path]:
            if not Path(path).exists():
                Path(path).touch()
                return 0
        case ["broken"]:
            raise Broken("the disk is gone")
        case ["crash"]:
            raise KeyError(f"+62{81234567890}")
        case ["stubborn"]:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _EXPECTED)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        case ["late"]:
            _log.info("child.waits")
            signal.sigwait({signal.SIGUSR1})
        case ["serve"]:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _EXPECTED)
            ready({})
            port.setblocking(True)
            while True:
                port.accept()[0].sendall(str(os.getpid()).encode())
    ready({"from": name, name: os.getpid(), "many": ["x" * 1000] * 200})
    ready({"from": "a second call, which does nothing"})
    while (got := signal.sigwait(_EXPECTED)) != signal.SIGTERM:
        if got == signal.SIGHUP:
            _log.info("child.reloaded")
        else:
            _log.info("child.looked", fds=_files(), restarts=supervisor().restarts(), session=os.getsid(0))
    return 7 if behaviour == "ends_with_7" else 2 if behaviour == "ends_with_2" else 0


def _files() -> Mapping[str, str]:
    """What each descriptor of this process is."""
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        try:
            found[path.name] = os.readlink(path).split(":")[0]
        except FileNotFoundError:  # of the listing itself
            continue
    return found


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1]), json.loads(sys.argv[2])))
