"""The gateway as users run it: processes of its own, started by the command line, watched by their log."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import yaml

from tests.gateway import forked
from tests.ports import free_port
from tests.waiting import until_so

Where = Callable[[dict[str, Any]], bool]


def kill_all(supervisor: int) -> None:
    """SIGKILL of a supervisor and its children. It is stopped before, so that it starts none in between."""
    with suppress(ProcessLookupError):
        os.kill(supervisor, signal.SIGSTOP)
        with suppress(TimeoutError):  # a stop has no event for those who are not its parent
            until_so(lambda: _state(supervisor) in "TZX", within_s=1.0, look_s=0.002)
        for pid in (*children_of(supervisor), supervisor):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _state(pid: int) -> str:
    """Of a process as proc(5) has it: T is stopped, Z has ended, X is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def children_of(pid: int) -> list[int]:
    """Process ids of the children that have not been waited for."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


class GatewayProcess:
    """``gateway run`` on a configuration of its own.

    Args:
        folder: for configuration, journal and log; kept over restarts.
        config: the configuration; ports 0 are replaced by some that are free and stay so over restarts.
        command: ``run``, ``serve``, ``fanout``.
        is_fresh: started by an interpreter of its own, see :mod:`tests.gateway.forked`.
    """

    def __init__(self, folder: Path, config: dict[str, Any], command: str = "run", *, is_fresh: bool = False) -> None:
        self.folder = folder
        self.command = command
        self.config: dict[str, Any] = {
            "journal": {"dir": str(folder / "data")},
            "ingest": {"port": 0},
            "admin": {"port": 0},
            "log": {"format": "json"},
            **config,
        }
        self.path = folder / "config.yaml"
        self.write()
        self.process: asyncio.subprocess.Process | forked.Process | None = None
        self._is_fresh = is_fresh
        self.lines: list[dict[str, Any]] = []
        self._reading: asyncio.Task[None] | None = None
        #: A line came, or the last one has.
        self._said = asyncio.Event()

    def write(self) -> None:
        """Write the configuration file."""
        self.path.write_text(yaml.safe_dump(self.config))

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        assert self.process is not None
        return self.process.pid

    def pid_of(self, name: str) -> int:
        """Of one of its processes, as it was started last."""
        started = [line for line in self.lines if line["event"] == "process.started" and line["process"] == name]
        return int(started[-1]["pid"])

    def pids(self) -> list[int]:
        """Of all its processes, the supervisor first."""
        return [self.pid, *children_of(self.pid)]

    @property
    def url(self) -> str:
        """Where callbacks go."""
        return f"http://127.0.0.1:{self.config['ingest']['port']}"

    @property
    def admin_url(self) -> str:
        """Health and metrics."""
        return f"http://127.0.0.1:{self.config['admin']['port']}"

    async def start(self) -> dict[str, Any]:
        """Start it and wait until it says that it stands."""
        self.lines.clear()
        for section in ("ingest", "admin"):
            if self.config[section]["port"] == 0:
                self.config[section] = {**self.config[section], "port": free_port()}
        self.write()
        await self._spawn({**os.environ, "PYTHONUNBUFFERED": "1"})
        # A machine that is busy with other tests takes its time.
        return await self.logged("gateway.started", 120)

    async def _spawn(self, environment: dict[str, str], folder: Path | None = None) -> None:
        """Start it in a folder and begin to read its log."""
        arguments = (self.command, "-c", str(self.path))
        if not self._is_fresh and forked.serves(environment):
            self._follow(await forked.start(arguments, environment, folder or Path.cwd()))
        else:
            await self._spawn_program("-m", "gateway", *arguments, cwd=folder, env=environment)

    async def _spawn_program(self, *arguments: str, **options: Any) -> None:
        """Start Python with these arguments and begin to read its log."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments,
            stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, limit=2**20, **options,
        )  # fmt: skip
        self._follow(process)

    def _follow(self, process: asyncio.subprocess.Process | forked.Process) -> None:
        self.process = process
        self._reading = asyncio.create_task(self._read())
        self._reading.add_done_callback(lambda _: self._said.set())

    async def logged(
        self, event: str, timeout_s: float = 30.0, *, where: Where = lambda line: True, count: int = 1
    ) -> dict[str, Any]:
        """Wait until so many lines of this name are there; the last of them.

        Raises:
            AssertionError: the process ended, or the time did, before they came.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    found = [line for line in self.lines if line.get("event") == event and where(line)]
                    if len(found) >= count:
                        return found[-1]
                    if self._reading is not None and self._reading.done():
                        raise AssertionError(f"the process ended: {self.lines[-20:]}")
                    self._said.clear()
                    await self._said.wait()
        except TimeoutError as exc:
            raise AssertionError(f"no {event} in the log: {self.lines[-20:]}") from exc

    async def _read(self) -> None:
        assert self.process is not None
        assert self.process.stderr is not None
        async for raw in self.process.stderr:
            try:
                line = orjson.loads(raw)
            except orjson.JSONDecodeError:
                line = {"event": "text", "text": raw.decode(errors="replace")}
            self.lines.append(line)
            del self.lines[:-5000]
            self._noted(line)
            self._said.set()

    def _noted(self, line: dict[str, Any]) -> None:
        """A line was read. For those that follow what it says."""

    async def kill(self) -> None:
        """SIGKILL of all its processes at once: nothing is finished, nothing is flushed."""
        assert self.process is not None
        if self.process.returncode is None:
            kill_all(self.process.pid)
        await self._ended()

    async def terminate(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await self._ended()

    async def ended(self, within_s: float = 60.0) -> int:
        """Wait until it ends by itself, all of it; the exit code, negative for a signal."""
        async with asyncio.timeout(within_s):
            return await self._ended()

    async def _ended(self) -> int:
        assert self.process is not None
        assert self._reading is not None
        code = await self.process.wait()
        await self._reading
        return code

    def resident_bytes(self) -> int:
        """Memory of all its processes; each page once, also where they share it."""
        return sum(memory_bytes(pid) for pid in self.pids())


def memory_bytes(pid: int) -> int:
    """A process's share of the memory that it uses (PSS, proc(5))."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1])
