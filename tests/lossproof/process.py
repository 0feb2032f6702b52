"""The gateway's processes as the loss proof needs them: ended at any moment, with hooks, limits and a shim."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any, Final

from tests.gateway.process import GatewayProcess

_ROOT: Final = Path(__file__).parents[2]
_HOOKS: Final = Path(__file__).with_name("hooks")
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
        "text",
    }
)


class Gateway(GatewayProcess):
    """One process, on a port that stays.

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

    async def launch(self, point: str = "", broken: str = "") -> None:
        """Start the process and return at once.

        Args:
            point: where it ends by itself, see ``hooks``.
            broken: what is broken on purpose.
        """
        self._keep_notable()
        self.lines.clear()
        self.starts += 1
        self._is_asked_to_end = bool(point)
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **self.environment}
        hooks = {"LOSSPROOF_POINT": point, "LOSSPROOF_BREAK": broken}
        if any(hooks.values()):
            environment |= {"PYTHONPATH": f"{_HOOKS}{os.pathsep}{_ROOT}", **hooks}
        await self._spawn(environment, _ROOT)

    async def ready(self, within_s: float = 60.0) -> dict[str, Any]:
        """Wait until it says that it stands.

        Raises:
            AssertionError: it ended, or the time did.
        """
        return await self.logged("gateway.started", within_s)

    async def start(self) -> dict[str, Any]:
        """Start it and wait until it says that it stands."""
        await self.launch()
        return await self.ready()

    async def kill(self) -> None:
        """SIGKILL: nothing is finished, nothing is flushed."""
        self._is_asked_to_end = True
        await super().kill()

    async def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self._is_asked_to_end = True
        return await super().terminate()

    async def ended(self, within_s: float = 60.0) -> int:
        """Wait until it ends by itself; the exit code, negative for a signal."""
        self._is_asked_to_end = True
        async with asyncio.timeout(within_s):
            return await self._ended()

    async def stop_for(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after a while: connections stay and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def open_files(self) -> int:
        """File descriptors in use."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    @property
    def is_running(self) -> bool:
        """It was started and has not ended."""
        return self.process is not None and self.process.returncode is None

    @property
    def strange_end(self) -> str:
        """It ended and nobody here asked for that: a crash, or somebody else on this machine. Empty when not."""
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
