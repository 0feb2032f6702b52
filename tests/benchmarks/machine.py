"""The machine under the benchmarks: processes that are measured, pinned where the system can, and what they use.

The main figure everywhere is processor time (user and system, all threads and child processes) for each event. It is
read from the kernel's accounts of the measured process, so neither the load generator nor a busy machine counts; its
clock ticks at 10 ms, so one round should take seconds.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from tests.waiting import until_so

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_OPEN_FILES = 20_000
#: State of a TCP connection in proc(5).
_ESTABLISHED = "01"
#: Before the names that the supervisor's children give themselves (``gateway.supervisor``).
_OUR_PREFIX = "gw:"


def cores() -> tuple[set[int], set[int]]:
    """Processors for what is measured, and for the load: apart where there are two."""
    found = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(found) < 2:
        return set(found), set(found)
    return {found[0]}, set(found[1:])


def prepare(processors: set[int]) -> None:
    """In a child before its program starts: pin it, and let it open many sockets."""
    if processors:
        os.sched_setaffinity(0, processors)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_OPEN_FILES, most), most))


class Service:
    """A process that listens and is measured.

    Args:
        arguments: of the program.
        port: connected to until it answers.
        program: what is started; this Python interpreter by default.
        folder: where it runs; here by default.
        env: added to ours.
        processors: to run on; None for those of what is measured.
        log: gets its output.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        port: int,
        *,
        log: Path,
        program: str = sys.executable,
        folder: Path | None = None,
        env: dict[str, str] | None = None,
        processors: set[int] | None = None,
    ) -> None:
        self.port = port
        self._log = log
        chosen = cores()[0] if processors is None else processors
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [program, *arguments],
                cwd=folder,
                stdout=out,
                stderr=out,
                env={**os.environ, **(env or {})},
                preexec_fn=lambda: prepare(chosen),
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_ready(self, timeout_s: float = 60.0) -> Self:
        """Wait until the port answers. That it is open says little: the gateway's is before it has processes behind it.

        Raises:
            RuntimeError: the process ended, or the time did.
        """
        with contextlib.suppress(TimeoutError):
            until_so(lambda: self._process.poll() is not None or self._answers(), within_s=timeout_s)
            if self._process.poll() is None:
                return self
        raise RuntimeError(f"a side did not start:\n{self.last_lines()}")

    def _answers(self) -> bool:
        """Send what is no request of any callback; an answer, or an end of the connection, comes from a process."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
                connection.sendall(b"?\r\n\r\n")
                connection.recv(1)
        except ConnectionResetError:
            return True
        except OSError:
            return False
        return True

    def last_lines(self) -> str:
        """The end of its output, for errors."""
        return self._log.read_text(errors="replace")[-2000:]

    def cpu_s(self) -> float:
        """Processor time so far, of the process and its children."""
        return sum(_cpu_s(pid) for pid in _tree(self._process.pid))

    def cpu_by_process_s(self) -> dict[str, float]:
        """Processor time so far by the names of the processes; see :func:`process_name`."""
        found: dict[str, float] = {}
        for pid in _tree(self._process.pid):
            with contextlib.suppress(OSError):  # it ended meanwhile
                name = process_name(pid)
                found[name] = found.get(name, 0.0) + _cpu_s(pid)
        return found

    def resident_bytes(self) -> int:
        """Memory now, of the process and its children."""
        return sum(resident_bytes(pid) for pid in _tree(self._process.pid))

    def pids(self) -> dict[str, int]:
        """Process ids by the names of the processes; see :func:`process_name`."""
        found = {}
        for pid in _tree(self._process.pid):
            with contextlib.suppress(OSError):  # it ended meanwhile
                found[process_name(pid)] = pid
        return found

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, then to its children: one that is stopped starts none of them again."""
        for pid in _tree(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """End the process and its children at once."""
        self.send(signal.SIGSTOP)
        self.send(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that takes long."""
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def running(*services: Service) -> Iterator[None]:
    """All ready inside; all stopped at the end."""
    try:
        for service in services:
            service.wait_ready()
        yield
    finally:
        for service in services:
            service.stop()


def resident_bytes(pid: int) -> int:
    """Memory of one process as the kernel counts it."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def memory_share_bytes(pid: int) -> int:
    """Memory of one process, with its share of the pages that others have too (PSS, proc(5))."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1])


def descriptors(pid: int) -> int:
    """Open descriptors of one process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def connections(pid: int, *ports: int) -> int:
    """TCP connections of one process to these ports of loopback, or of anywhere else, that are established."""
    sockets = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # it was closed meanwhile
            sockets.add(os.readlink(entry))
    rows = [line.split() for name in ("tcp", "tcp6") for line in _lines(Path(f"/proc/{pid}/net/{name}"))]
    return sum(
        row[3] == _ESTABLISHED and int(row[2].rpartition(":")[2], 16) in ports and f"socket:[{row[9]}]" in sockets
        for row in rows
    )


def _lines(table: Path) -> list[str]:
    return table.read_text().splitlines()[1:] if table.exists() else []


def process_name(pid: int) -> str:
    """What a process is called: the gateway's own name for it (``ingest-0``, ``log``), else the kernel's."""
    name = Path(f"/proc/{pid}/comm").read_text().strip()
    return name.removeprefix(_OUR_PREFIX)


def _tree(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found += _tree(int(child))
    return found


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S
