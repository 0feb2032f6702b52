"""The supervisor with real processes: small programs that share a port, die, hang."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.errors import ConfigError
from gateway.supervisor import Supervisor, SupervisorPolicy, reserve_port
from tests.kafka.traffic import until

#: Answers every connection with its worker number and process id; SIGHUP leaves a file; SIGTERM ends it.
_WORKER = """
import os, signal, socket, sys
number, port, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.signal(signal.SIGHUP, lambda *_: open(f"{folder}/hup-{number}", "w").close())
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listener.bind(("127.0.0.1", port))
listener.listen(64)
while True:
    peer, _ = listener.accept()
    peer.sendall(f"{number} {os.getpid()} {os.environ['COLOUR']}".encode())
    peer.close()
"""
_STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
_QUICK = SupervisorPolicy(first_pause_s=0.05, stop_s=1.0)


@asynccontextmanager
async def _running(supervisor: Supervisor) -> AsyncIterator[asyncio.Task[int]]:
    task = asyncio.create_task(supervisor.run())
    try:
        yield task
    finally:
        supervisor.stop()
        await task


def _workers(folder: Path, count: int, held: socket.socket) -> Supervisor:
    port = held.getsockname()[1]

    def command(number: int) -> list[str]:
        return [sys.executable, "-c", _WORKER, str(number), str(port), str(folder)]

    return Supervisor(command, count, environment=lambda number: {"COLOUR": f"c{number}"}, policy=_QUICK)


def _pids(supervisor: Supervisor) -> dict[int, int]:
    """Processes that are running, by worker number."""
    return {number: process.pid for number, process in supervisor._processes.items()}


async def _ask(held: socket.socket) -> str:
    try:
        reader, writer = await asyncio.open_connection(*held.getsockname())
    except OSError:
        return ""
    answer = (await reader.read()).decode()
    writer.close()
    return answer


async def _answers(held: socket.socket, enough: Callable[[set[str]], bool]) -> set[str]:
    """Ask until the answers so far are enough."""
    found: set[str] = set()
    async with asyncio.timeout(30):
        while not enough(found):
            found.add(await _ask(held))
            found.discard("")
            await asyncio.sleep(0.01)
    return found


async def test_workers_share_one_port(tmp_path: Path) -> None:
    """The kernel deals connections to all of them; each has its number and its environment."""
    with reserve_port("127.0.0.1", 0) as held:
        supervisor = _workers(tmp_path, 3, held)
        async with _running(supervisor) as task:
            found = await _answers(held, lambda seen: len(seen) >= 3)
            assert sorted(found) == [f"{number} {pid} c{number}" for number, pid in sorted(_pids(supervisor).items())]
        assert task.result() == 0
        assert _pids(supervisor) == {}


async def test_a_worker_that_is_killed_is_started_again(tmp_path: Path) -> None:
    """SIGKILL of one: a new process takes its number, and the others go on meanwhile."""
    with reserve_port("127.0.0.1", 0) as held:
        supervisor = _workers(tmp_path, 2, held)
        async with _running(supervisor):
            await _answers(held, lambda seen: len(seen) >= 2)
            before = _pids(supervisor)
            os.kill(before[1], signal.SIGKILL)
            await until(lambda: _pids(supervisor).get(1) not in (None, before[1]))
            await _answers(held, lambda seen: any(item.startswith("1 ") for item in seen))
            assert _pids(supervisor)[0] == before[0]


async def test_hangup_is_passed_on(tmp_path: Path) -> None:
    """SIGHUP to the supervisor reaches every worker, and ends none."""
    with reserve_port("127.0.0.1", 0) as held:
        supervisor = _workers(tmp_path, 2, held)
        async with _running(supervisor):
            await _answers(held, lambda seen: len(seen) >= 2)
            before = _pids(supervisor)
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: (tmp_path / "hup-0").exists() and (tmp_path / "hup-1").exists())
            assert _pids(supervisor) == before


async def test_sigterm_ends_all(tmp_path: Path) -> None:
    """SIGTERM to the supervisor, twice: every worker ends, and the exit code is 0."""
    with reserve_port("127.0.0.1", 0) as held:
        supervisor = _workers(tmp_path, 2, held)
        async with _running(supervisor) as task:
            await _answers(held, lambda seen: len(seen) >= 2)
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(10):
                assert await asyncio.shield(task) == 0


async def test_a_worker_that_does_not_stop_is_killed() -> None:
    """After ``stop_s`` it is killed, and the exit code tells."""
    supervisor = Supervisor(lambda _: [sys.executable, "-c", _STUBBORN], 1, policy=_QUICK)
    task = asyncio.create_task(supervisor.run())
    await until(lambda: bool(_pids(supervisor)) and _ignores_sigterm(_pids(supervisor)[0]))
    supervisor.stop()
    async with asyncio.timeout(10):
        assert await task == 1


def _ignores_sigterm(pid: int) -> bool:
    """From the process's own mask (proc(5)): the program has got as far as to ignore SIGTERM."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigIgn:"):
            return bool(int(line.split()[1], 16) & 1 << (signal.SIGTERM - 1))
    return False


async def test_a_final_exit_code_stops_everything(tmp_path: Path) -> None:
    """A worker that says its configuration is of no use is not started again, and the others are stopped."""
    log = tmp_path / "starts"
    program = (
        f"import sys, time; open({str(log)!r}, 'a').write('x'); sys.exit(2) if sys.argv[1] == '1' else time.sleep(600)"
    )
    supervisor = Supervisor(lambda number: [sys.executable, "-c", program, str(number)], 2, policy=_QUICK)
    async with asyncio.timeout(20):
        assert await supervisor.run() == 2
    assert len(log.read_text()) <= 2


async def test_a_worker_that_keeps_dying_is_started_ever_more_slowly(tmp_path: Path) -> None:
    """The pause doubles with each death, so that a broken worker does not take the machine."""
    log = tmp_path / "starts"
    program = f"import time; open({str(log)!r}, 'a').write(f'{{time.monotonic()}}\\n')"
    supervisor = Supervisor(lambda _: [sys.executable, "-c", program], 1, policy=_QUICK)
    async with _running(supervisor):
        await until(lambda: log.exists() and len(log.read_text().splitlines()) >= 5)
    at = [float(line) for line in log.read_text().splitlines()]
    assert at[4] - at[3] > 0.4 > 0.05 < at[1] - at[0]


async def test_a_worker_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    """As while its program is being replaced, or the machine has no process left: the others stay."""
    program, started = tmp_path / "program", tmp_path / "started"
    commands = {0: [sys.executable, "-c", "import time; time.sleep(600)"], 1: [str(program)]}
    supervisor = Supervisor(lambda number: commands[number], 2, policy=_QUICK)
    with capture_logs() as lines:
        async with _running(supervisor) as task:
            await until(lambda: sum(line["event"] == "worker.not_started" for line in lines) >= 2)
            before = _pids(supervisor)[0]
            (tmp_path / "new").write_text(f"#!/bin/sh\necho > {started}\nexec sleep 600\n")
            (tmp_path / "new").chmod(0o755)
            (tmp_path / "new").rename(program)
            await until(started.exists)
            assert _pids(supervisor)[0] == before
        assert task.result() == 0


async def test_workers_do_not_outlive_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    """SIGKILL of the supervisor: the kernel ends the workers, so that the next supervisor finds their journals free."""
    program = (
        "import asyncio, sys\nfrom gateway.supervisor import Supervisor\n"
        "child = 'import os, sys, time; open(sys.argv[1], \"w\").write(str(os.getpid())); time.sleep(600)'\n"
        "asyncio.run(Supervisor(lambda n: [sys.executable, '-c', child, sys.argv[1]], 1).run())\n"
    )
    pid_file = tmp_path / "pid"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(pid_file))
    await until(lambda: pid_file.exists() and pid_file.read_text() != "")
    worker = int(pid_file.read_text())
    process.kill()
    await process.wait()
    await until(lambda: not Path(f"/proc/{worker}").exists() or "Z" in _state(worker), within_s=10)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_a_port_in_use_is_a_clear_error() -> None:
    """A program that does not share the port is noticed before any worker starts."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ConfigError, match=r"ingest\.port: 127\.0\.0\.1:\d+ cannot be used"):
            reserve_port("127.0.0.1", other.getsockname()[1])
