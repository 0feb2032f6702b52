"""One scenario in one mode, from an empty folder to its row of the table."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from tests.lossproof.plan import Play
from tests.lossproof.report import Row
from tests.lossproof.scenarios import SCENARIOS
from tests.lossproof.world import World

#: Between two lines of progress.
_SAY_S: Final = 5.0


async def play(what: Play, *, seed: int = 1, broken: str = "", say: Callable[[str], None] = lambda _: None) -> Row:
    """Play it.

    Args:
        broken: see ``hooks``.
        say: told of progress.
    """
    scenario = SCENARIOS[what.scenario]
    started = time.monotonic()
    most = what.cycles or (0 if what.minutes else scenario.cycles)

    def goes_on(done: int) -> bool:
        return (not most or done < most) and (not what.minutes or time.monotonic() - started < what.minutes * 60)

    folder = Path(tempfile.mkdtemp(prefix="lossproof-"))
    world = World(
        folder, what.mode, Random(f"{seed} {what.scenario} {what.mode}"), goes_on, say, broken=broken,
        is_long=what.is_whole or what.minutes >= 1, with_shim=scenario.with_shim, with_proxy=scenario.with_proxy,
        stores_once=scenario.stores_once,
    )  # fmt: skip
    row = Row(what.scenario, what.mode, str(seed))
    try:
        scenario.prepare(world)
        await world.start()
        await scenario.play(world)
        row.verdict = await world.finish()
        row.told_lost = world.excuse(row.verdict)
        row.answers = dict(world.load.statuses)
    except (AssertionError, TimeoutError, OSError, RuntimeError, ExceptionGroup) as exc:
        row.failure = f"cycle {world.cycles} ({world.schedule[-1:]}): {exc!r}"[:2000]
        row.failure += "".join(f"; {gateway.strange_end}" for gateway in world.gateways if gateway.strange_end)
        row.failure += "".join(f"\n  {line}" for gateway in world.gateways for line in gateway.lines[-8:])
    finally:
        await world.close()
    row.verdict.breaches += world.breaches
    row.cycles, row.schedule = world.cycles, world.schedule
    row.injected = dict(sorted(world.injected.items()))
    row.missing = sorted(what.faults - world.injected.keys())
    row.starts = {gateway.command: gateway.starts for gateway in world.gateways}
    row.seconds = time.monotonic() - started
    if row.is_clean or broken:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    else:
        say(f"kept for you: {folder}")
    return row


def played(what: Play, seed: int, broken: str) -> Row:
    """In a process of its own, with lines of progress on its standard output."""
    return asyncio.run(play(what, seed=seed, broken=broken, say=_Progress(f"  {what.scenario}/{what.mode} ")))


class _Progress:
    """A line now and then."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._last = 0.0

    def __call__(self, text: str) -> None:
        now = time.monotonic()
        if now - self._last > _SAY_S or text.startswith("kept"):
            self._last = now
            print(self._prefix + text, flush=True)
