"""The gateway as the loss proof needs it: any of its processes ended at any moment, with hooks, limits and a shim."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.gateway.process import GatewayProcess, children_of
from tests.waiting import pause

_ROOT: Final = Path(__file__).parents[2]
_HOOKS: Final = Path(__file__).with_name("hooks")
#: Kinds of process below the supervisor of each command: what their names begin with.
KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "run": ("log", "deliver", "ingest"),
    "serve": ("log", "deliver", "ingest"),
    "fanout": ("deliver",),
}
#: Lines that are kept over restarts: what the gateway said of damage and of itself.
NOTABLE: Final = frozenset(
    {
        "journal.damaged",
        "journal.commits_lost",
        "journal.commit_dropped",
        "journal.expired",
        "journal.moved",
        "kafka.expired",
        "kafka.recreated",
        "gateway.failed",
        "delivery.broke",
        "link.not_understood",
        "process.crashed",
        "process.killed",
        "text",
    }
)

#: Of a stack trace, so many are shown.
_TRACE_LINES: Final = 60
#: Lines of the gateway that are a breach wherever they are.
_NEVER: Final = ("delivery.broke", "link.not_understood", "process.crashed", "process.killed")


@dataclass(slots=True)
class Child:
    """One process below the supervisor, in one of its lives."""

    pid: int
    is_ready: bool = False


class Gateway(GatewayProcess):
    """One supervisor and its children, on ports that stay.

    Args:
        folder: kept over restarts.
        config: with ports that are not 0.
        command: ``run``, ``serve`` or ``fanout``.
        environment: more of it, at every start.
    """

    def __init__(
        self, folder: Path, config: dict[str, Any], command: str = "run", environment: dict[str, str] | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder, config, command)
        self.environment = dict(environment or {})
        self.notable: list[dict[str, Any]] = []
        self.starts = 0
        self._is_asked_to_end = False
        #: The children that live, by name.
        self.children: dict[str, Child] = {}
        #: Ends of children that the supervisor noted and nobody here asked for.
        self._ends: list[dict[str, Any]] = []
        self._asked: set[int] = set()
        self._names: set[str] = set()

    # -- all of it ----------------------------------------------------------------------------------------------

    async def launch(self, point: str = "", broken: str = "") -> None:
        """Start the supervisor and return at once.

        Args:
            point: where one of its processes, or all of it, ends by itself, see ``hooks``.
            broken: what is broken on purpose.
        """
        self._keep_notable()
        self.lines.clear()
        self.children.clear()
        self.starts += 1
        self._is_asked_to_end = bool(point)
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **self.environment}
        hooks = {"LOSSPROOF_POINT": point, "LOSSPROOF_BREAK": broken}
        if any(hooks.values()):
            environment |= {"PYTHONPATH": f"{_HOOKS}{os.pathsep}{_ROOT}", **hooks}
        await self._spawn(environment, _ROOT)

    async def ready(self, within_s: float = 60.0) -> dict[str, Any]:
        """Wait until it says that it has started.

        Raises:
            AssertionError: it ended, or the time did.
        """
        return await self.logged("gateway.started", within_s)

    async def start(self) -> dict[str, Any]:
        """Start it and wait until it says that it has started."""
        await self.launch()
        return await self.ready()

    async def kill(self) -> None:
        """SIGKILL of all its processes at once: nothing is finished, nothing is flushed."""
        self._is_asked_to_end = True
        await super().kill()

    async def kill_supervisor(self, within_s: float = 40.0) -> None:
        """SIGKILL of the supervisor alone; returns when its children have ended by themselves.

        Raises:
            TimeoutError: they have not; they hold the ports and the journal.
        """
        self._is_asked_to_end = True
        os.kill(self.pid, signal.SIGKILL)
        left = [child.pid for child in self.children.values()]
        try:
            async with asyncio.timeout(within_s):
                await self._ended()  # which reads what they log to its end
        except TimeoutError:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            raise

    async def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self._is_asked_to_end = True
        return await super().terminate()

    async def ended(self, within_s: float = 60.0) -> int:
        """Wait until it ends by itself; the exit code, negative for a signal."""
        self._is_asked_to_end = True
        async with asyncio.timeout(within_s):
            return await self._ended()

    # -- its children -------------------------------------------------------------------------------------------

    async def child(
        self, kind: str, draw: float = 0.0, within_s: float = 60.0, *, is_ready: bool = True
    ) -> tuple[str, int]:
        """Wait until the children of a kind are ready; the name and process id of one of them.

        Args:
            kind: the beginning of its name.
            draw: from 0 to 1, which of several.
            within_s: for that.
            is_ready: otherwise one that lives is enough, also one that is just starting.
        """

        def are_there() -> bool:
            own = self._of(kind).values()
            return bool(own) and (not is_ready or all(child.is_ready for child in own))

        await self._until(are_there, within_s)
        own = self._of(kind)
        name = sorted(own)[int(draw * len(own))]
        return name, own[name].pid

    async def end_child(self, kind: str, number: signal.Signals, draw: float = 0.0) -> int:
        """End a child of this kind by a signal; its exit code, when the supervisor has noted the end.

        SIGKILL may meet it while it starts.
        """
        _, pid = await self.child(kind, draw, is_ready=number != signal.SIGKILL)
        self._asked.add(pid)
        os.kill(pid, number)
        await self._until(lambda: any(line["pid"] == pid for line in self._ends), 40.0)
        return next(int(line["code"]) for line in self._ends if line["pid"] == pid)

    async def died(self, kind: str, within_s: float = 90.0) -> None:
        """Wait until a child of this kind has ended by itself, and do not mind."""
        await self._until(lambda: self._unasked(kind), within_s)
        self.excuse(kind)

    def excuse(self, kind: str) -> None:
        """Do not mind that children of this kind ended by themselves so far."""
        self._asked.update(line["pid"] for line in self._unasked(kind))

    async def whole(self, within_s: float = 60.0) -> None:
        """Wait until every child is there and ready.

        Raises:
            AssertionError: the supervisor ended, or the time did.
        """
        names = {name for kind in KINDS[self.command] for name in self._names if name.startswith(kind)}

        def is_whole() -> bool:
            return names <= self.children.keys() and all(child.is_ready for child in self.children.values())

        await self._until(is_whole, within_s)

    @property
    def strange_ends(self) -> list[str]:
        """Ends of children that nobody here asked for, one sentence each."""
        return [
            f"{self.command}: {line['process']} ended with {line['code']}, which the test did not ask for"
            for line in self._ends
            if line["pid"] not in self._asked
        ]

    def _of(self, kind: str) -> dict[str, Child]:
        return {name: child for name, child in self.children.items() if name.startswith(kind)}

    def _unasked(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self._ends if line["process"].startswith(kind) and line["pid"] not in self._asked]

    async def _until(self, condition: Callable[[], object], within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                while not condition():
                    if self._reading is not None and self._reading.done():
                        raise AssertionError(f"{self.command} ended: {self.lines[-20:]}")
                    self._said.clear()
                    await self._said.wait()
        except TimeoutError as exc:
            raise AssertionError(f"{self.command} has {self.children}: {self.lines[-20:]}") from exc

    def _noted(self, line: dict[str, Any]) -> None:
        name, pid = line.get("process"), line.get("pid")
        match line.get("event"):
            case "process.started":
                self.children[name] = Child(pid)
                self._names.add(name)
            case "process.ready" if name in self.children:
                self.children[name].is_ready = True
            case "process.died" | "process.ended" | "process.gave_up":
                self.children.pop(name, None)
                if line["event"] == "process.died":
                    self._ends.append(line)

    # -- as the kernel has it -----------------------------------------------------------------------------------

    @property
    def pids(self) -> list[int]:
        """The supervisor and its children."""
        return [self.pid, *children_of(self.pid)]

    async def stop_for(self, seconds: float, pids: Sequence[int]) -> None:
        """SIGSTOP, and SIGCONT after a while: connections stay and nothing answers."""
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            await pause(seconds, "so long it is stopped")
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    @property
    def is_running(self) -> bool:
        """It was started and has not ended."""
        return self.process is not None and self.process.returncode is None

    @property
    def strange_end(self) -> str:
        """It (not a child) ended and nobody here asked for that: a crash, or somebody else here. Empty when not."""
        if self.process is None or self.process.returncode is None or self._is_asked_to_end:
            return ""
        return f"{self.command} ended with {self.process.returncode}, which the test did not ask for"

    def told(self, event: str) -> list[dict[str, Any]]:
        """Lines of a notable name, of all its lives."""
        return [line for line in self.all_lines if line.get("event") == event]

    @property
    def all_lines(self) -> list[dict[str, Any]]:
        """Its log: of the present life, and the notable lines of those before."""
        return [*self.notable, *self.lines]

    def _keep_notable(self) -> None:
        self.notable += [line for line in self.lines if line.get("event") in NOTABLE or line.get("level") == "error"]
        del self.notable[:-2000]

    def breaches(self) -> list[str]:
        """What no gateway may log, whatever the fault: one sentence each."""
        breaches = self.strange_ends
        for event in _NEVER:
            if lines := self.told(event):
                breaches.append(f"the log of {self.command} has {event}: {lines[0]}")
        texts = [str(line.get("text", "")) for line in self.told("text")]
        if traces := [number for number, text in enumerate(texts) if "Traceback" in text]:
            trace = "".join(texts[traces[0] : traces[0] + _TRACE_LINES])
            breaches.append(f"the log of {self.command} has {len(traces)} stack traces, the first is\n{trace}")
        return breaches
