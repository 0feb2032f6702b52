"""``python -m tests.lossproof``: see the package."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.lossproof.report import Row, table, write_json
from tests.lossproof.run import play
from tests.lossproof.scenarios import ALL, SCENARIOS
from tests.lossproof.world import Mode

#: Between two lines of progress.
_SAY_S = 2.0


def main(arguments: list[str] | None = None) -> int:
    """0 when nothing promised was broken."""
    options = _options(arguments)
    names = options.scenario or list(SCENARIOS)
    plays: list[tuple[str, Mode]] = [
        (name, mode) for name in names for mode in SCENARIOS[name].modes if not options.mode or mode in options.mode
    ]
    rows: list[Row] = []
    started, began = time.monotonic(), datetime.now(UTC)
    for number, (name, mode) in enumerate(plays, 1):
        print(f"[{number}/{len(plays)}] {name}, {mode}: {SCENARIOS[name].what}", flush=True)
        row = asyncio.run(
            play(
                name, mode, seed=options.seed, cycles=options.cycles, minutes=options.minutes / len(plays),
                broken=options.broken, say=_Progress(name, mode),
            )
        )  # fmt: skip
        rows.append(row)
        print(f"  {'clean' if row.is_clean else 'BREACH'} in {row.seconds:.0f} s, {row.cycles} cycles", flush=True)
        if options.json:
            write_json(
                options.json, rows, command=" ".join(["python -m tests.lossproof", *(arguments or sys.argv[1:])]),
                seed=options.seed, began=began.isoformat(timespec="seconds"),
                seconds=round(time.monotonic() - started), planned=len(plays),
            )  # fmt: skip
    print(table(rows))
    print(f"seed {options.seed}, {began:%Y-%m-%d}, {time.monotonic() - started:.0f} s")
    return 0 if all(row.is_clean for row in rows) else 1


class _Progress:
    """A line now and then."""

    def __init__(self, name: str, mode: str) -> None:
        self._prefix = f"  {name}/{mode} "
        self._last = 0.0

    def __call__(self, text: str) -> None:
        now = time.monotonic()
        if now - self._last > _SAY_S or text.startswith("kept"):
            self._last = now
            print(self._prefix + text, flush=True)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    lines = "\n".join(f"  {name:14} {s.what} ({', '.join(s.modes)})" for name, s in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.lossproof",
        description="Break everything around the gateway and prove that what was answered with success arrives.",
        epilog=f"scenarios:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), help="may be given several times")
    parser.add_argument("--mode", action="append", choices=ALL, help="left out: all that the scenario knows")
    parser.add_argument("--minutes", type=float, default=0.0, help="of the whole run, shared by what is played")
    parser.add_argument("--cycles", type=int, default=0, help="of each scenario; left out: a few, or --minutes")
    parser.add_argument("--seed", type=int, default=1, help="of the schedule of faults")
    parser.add_argument("--json", type=Path, help="write everything into this file, after each scenario")
    parser.add_argument("--break", dest="broken", default="", help="break the gateway on purpose, see hooks")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
