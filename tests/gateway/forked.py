"""Gateways forked from a process that has imported one: a start costs milliseconds of processor time, not a second.

A run of the tests starts some hundred gateways, and most of what a start costs is the import of the same modules. Here
one process for each test process imports them, and forks when it is asked to. From there on it is what the command
does: its ``main()`` with arguments, environment, folder and standard error of its own. What depends on the start of the
interpreter (a library that is loaded first, a path of modules, the memory of a process) needs a fresh one.

Linux only (pidfd_open(2)).
"""

from __future__ import annotations

import asyncio
import atexit
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

#: Of a request: an environment is some kilobytes.
_MOST_BYTES: Final = 2**17
#: A longer line of a log is none of ours.
_LINE_BYTES: Final = 2**20
#: What is read when an interpreter starts: with another value, only a fresh one will do.
_AT_START: Final = ("LD_PRELOAD", "PYTHONPATH")

#: Set by a short run of the tests. Nightly ones, and the commands of loss proof and benchmarks, start each afresh.
is_wanted = False


class Process:
    """A child of the server; as much of :class:`asyncio.subprocess.Process` as tests use."""

    def __init__(self, server: Server, pid: int, stderr: asyncio.StreamReader) -> None:
        self.pid = pid
        self.stderr = stderr
        self.returncode: int | None = None
        self._server = server
        self._has_ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._descriptor = os.pidfd_open(pid)
        self._loop.add_reader(self._descriptor, self._collect)

    def _collect(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self.returncode = self._server.wait(self.pid)
        self._has_ended.set()

    async def wait(self) -> int:
        """Wait for the end; the exit code, negative for a signal."""
        await self._has_ended.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal; nothing where it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Server:
    """The process that has imported the gateway, as its parent sees it. It ends when this end of its socket does."""

    def __init__(self) -> None:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        self._asking = threading.Lock()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(its.fileno())],
                pass_fds=[its.fileno()],
                cwd=Path(__file__).parents[2],
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        atexit.register(self._close)

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, stderr: int) -> int:
        """Start the command in a process of its own; its id.

        Args:
            arguments: of ``gateway``.
            environment: all of it.
            folder: where it runs.
            stderr: a descriptor.
        """
        asked = {"arguments": list(arguments), "environment": dict(environment), "folder": str(folder)}
        return self._ask(asked, stderr)

    def wait(self, pid: int) -> int:
        """Return the exit code of a process that has ended, once; negative for a signal."""
        return self._ask({"wait": pid})

    def _ask(self, asked: dict[str, Any], *descriptors: int) -> int:
        with self._asking:
            socket.send_fds(self._socket, [json.dumps(asked).encode()], descriptors)
            answer = self._socket.recv(64)
        if not answer:
            raise RuntimeError(
                "the process that gateways are forked from has ended; what it wrote is on standard error"
            )
        return int(answer)

    def _close(self) -> None:
        self._socket.close()
        self._process.wait()


_servers: dict[int, Server] = {}


def serves(environment: Mapping[str, str]) -> bool:
    """Whether a process with this environment can be forked."""
    return is_wanted and all(environment.get(name) == os.environ.get(name) for name in _AT_START)


async def start(arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> Process:
    """Start the command, as :func:`asyncio.create_subprocess_exec` would; its standard error is read from a pipe.

    Args:
        arguments: of ``gateway``.
        environment: all of it.
        folder: where it runs.
    """
    server = _servers.get(os.getpid()) or _servers.setdefault(os.getpid(), Server())
    reading, writing = os.pipe()
    try:
        pid = await asyncio.to_thread(server.start, arguments, environment, folder, writing)
    finally:
        os.close(writing)
    stderr = asyncio.StreamReader(limit=_LINE_BYTES)
    protocol = asyncio.StreamReaderProtocol(stderr)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(reading, "rb", 0))
    return Process(server, pid, stderr)


def _import_everything() -> None:
    """Import each module of the gateway; which of them a command needs is its affair."""
    import gateway

    for found in pkgutil.walk_packages(gateway.__path__, "gateway."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)


def _serve(control: socket.socket) -> Sequence[str]:
    """Fork for each request, until there are none; returns in the children alone, with the arguments of each."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, _MOST_BYTES, 1)
        if not data:
            sys.exit()
        asked = json.loads(data)
        if "wait" in asked:
            _, status = os.waitpid(asked["wait"], 0)
            control.send(str(os.waitstatus_to_exitcode(status)).encode())
            continue
        pid = os.fork()
        if not pid:
            control.close()
            _become(asked, descriptors[0])
            return asked["arguments"]  # type: ignore[no-any-return]
        os.close(descriptors[0])
        control.send(str(pid).encode())


def _become(asked: Mapping[str, Any], stderr: int) -> None:
    """Take over environment, folder and standard streams."""
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    time.tzset()
    null = os.open(os.devnull, os.O_RDWR)
    for number, ours in enumerate((null, null, stderr)):
        os.dup2(ours, number)
    os.close(null)
    os.close(stderr)


if __name__ == "__main__":
    _import_everything()
    sys.argv[1:] = _serve(socket.socket(fileno=int(sys.argv[1])))
    from gateway.cli import main

    main(prog_name="gateway")
