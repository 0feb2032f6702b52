"""One scenario in one mode, from an empty folder to its row of the table."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.lossproof.report import Row
from tests.lossproof.scenarios import SCENARIOS
from tests.lossproof.world import Mode, World


async def play(
    name: str,
    mode: Mode,
    *,
    seed: int = 1,
    cycles: int = 0,
    minutes: float = 0.0,
    broken: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> Row:
    """Play it.

    Args:
        cycles: how many; 0 for the scenario's own number, or for as many as fit into ``minutes``.
        broken: see ``hooks``.
        say: told of progress.
    """
    scenario = SCENARIOS[name]
    started = time.monotonic()
    most = cycles or (0 if minutes else scenario.cycles)

    def goes_on(done: int) -> bool:
        return (not most or done < most) and (not minutes or time.monotonic() - started < minutes * 60)

    folder = Path(tempfile.mkdtemp(prefix="lossproof-"))
    world = World(
        folder, mode, Random(f"{seed} {name} {mode}"), goes_on, say,
        broken=broken, is_long=minutes >= 1, with_shim=scenario.with_shim, with_proxy=scenario.with_proxy,
    )  # fmt: skip
    row = Row(name, mode, str(seed))
    try:
        scenario.prepare(world)
        await world.start()
        await scenario.play(world)
        row.verdict = await world.finish()
        row.told_lost = world.excuse(row.verdict)
        row.answers = dict(world.load.statuses)
    except (AssertionError, TimeoutError, OSError, RuntimeError) as exc:
        row.failure = f"cycle {world.cycles} ({world.schedule[-1:]}): {exc!r}"[:2000]
        row.failure += "".join(f"; {gateway.strange_end}" for gateway in world.gateways if gateway.strange_end)
        row.failure += "".join(f"\n  {line}" for gateway in world.gateways for line in gateway.lines[-8:])
    finally:
        await world.close()
    row.verdict.breaches += world.breaches
    row.cycles, row.schedule = world.cycles, world.schedule
    row.starts = {gateway.command: gateway.starts for gateway in world.gateways}
    row.seconds = time.monotonic() - started
    if row.is_clean or broken:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    else:
        say(f"kept for you: {folder}")
    return row
