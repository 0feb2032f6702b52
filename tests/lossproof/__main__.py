"""``python -m tests.lossproof``: see the package."""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path

from tests import leash
from tests.lossproof import plan
from tests.lossproof.report import Row, summary, table, write_json
from tests.lossproof.run import played
from tests.lossproof.scenarios import ALL, SCENARIOS


def main(arguments: list[str] | None = None) -> int:
    """0 when nothing promised was broken and every fault that was to be made was made."""
    options = _options(arguments)
    plays = (
        plan.record(options.kills) if options.record
        else plan.short() if options.short
        else plan.chosen(options.scenario or (), options.mode or (), options.cycles, options.minutes)
    )  # fmt: skip
    rows: list[Row] = []
    started, began = time.monotonic(), datetime.now(UTC)
    # A process for each scenario: what one costs in time and memory is not another's. Spawned: nothing is shared.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, context, max_tasks_per_child=1) as pool:
        waiting = [pool.submit(played, what, options.seed, options.broken) for what in plays]
        for done in as_completed(waiting):
            row = done.result()
            rows.append(row)
            seconds = time.monotonic() - started
            print(
                f"[{len(rows)}/{len(plays)}, {seconds / 60:.0f} min] {row.scenario}/{row.mode} "
                f"{'clean' if row.is_clean else 'BREACH'}: {row.cycles} cycles in {row.seconds:.0f} s, "
                f"{row.verdict.accepted:,} accepted, {row.verdict.lost} lost",
                flush=True,
            )
            if not row.is_clean:
                print(table([row]), flush=True)
            if options.json:
                write_json(
                    options.json, rows, command=" ".join(["python -m tests.lossproof", *(arguments or sys.argv[1:])]),
                    seed=options.seed, commit=_commit(), began=began.isoformat(timespec="seconds"),
                    seconds=round(seconds), planned=len(plays), played=len(rows),
                )  # fmt: skip
    print(table(rows))
    print(f"seed {options.seed}, {began:%Y-%m-%d}, commit {_commit()}, {(time.monotonic() - started) / 60:.1f} min")
    print(f"\n{summary(rows)}")
    return 0 if all(row.is_clean for row in rows) else 1


def _commit() -> str:
    """Of the code that is proven; empty outside a repository."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return done.stdout.strip()


def _options(arguments: list[str] | None) -> argparse.Namespace:
    lines = "\n".join(f"  {name:14} {s.what} ({', '.join(s.modes)})" for name, s in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.lossproof",
        description="Break everything around the gateway and prove that what was answered with success arrives.",
        epilog=f"scenarios:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    profiles = parser.add_mutually_exclusive_group()
    profiles.add_argument("--short", action="store_true", help="kills and bad subscribers without Kafka, two minutes")
    profiles.add_argument("--record", action="store_true", help="everything in all modes, and --kills of each kind")
    parser.add_argument(
        "--kills", type=int, default=100, help="with --record: of each kind of process, embedded and split"
    )
    parser.add_argument("--jobs", type=int, default=1, help="so many scenarios at a time; most of one is waiting")
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), help="may be given several times")
    parser.add_argument("--mode", action="append", choices=ALL, help="left out: all that the scenario knows")
    parser.add_argument("--minutes", type=float, default=0.0, help="of the whole run, shared by what is played")
    parser.add_argument("--cycles", type=int, default=0, help="of each scenario; left out: a few, or --minutes")
    parser.add_argument("--seed", type=int, default=1, help="of the schedule of faults")
    parser.add_argument("--json", type=Path, help="write everything into this file, after each scenario")
    parser.add_argument("--break", dest="broken", default="", help="break the gateway on purpose, see hooks")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    leash.hold()
    sys.exit(main())
