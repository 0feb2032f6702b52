"""``python -m tests.benchmarks [part …]``: what the gateway costs, beside what one would compare it with.

Each part starts what it compares as processes of its own, pinned where the system can, runs the sides in turn, prints
medians with their spread and the ratio of each pair, and writes the figures as JSON and as a picture. Figures of a busy
machine are good as ratios only.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from tests import leash
from tests.benchmarks import peers, plot

#: Part, its function, and what a run of a few seconds is called with.
PARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "decoders": ("tests.benchmarks.parts:decoders", {"rounds": 1}),
    "ingest": ("tests.benchmarks.ingest:run", {"rounds": 1, "seconds": 1, "cases": (("sms-dr", 16, True),)}),
    "workers": ("tests.benchmarks.workers:run", {"rounds": 1, "seconds": 1}),
    "latency": ("tests.benchmarks.latency:run", {"seconds": 1.0, "rounds": 1, "shares": (0.25,)}),
    "publish": ("tests.benchmarks.parts:publish", {"events": 500, "rounds": 1}),
    "stuck-topic": ("tests.benchmarks.stuck_topic:run", {"minutes": 0.05, "rate": 500.0}),
    "compression": ("tests.benchmarks.compression:run", {"rounds": 1}),
    "fanout": ("tests.benchmarks.fanout:run", {"count": 200, "rounds": 1}),
    "cursors": ("tests.benchmarks.cursors:run", {"events": 500, "rounds": 1}),
    "end_to_end": ("tests.benchmarks.end_to_end:run", {"seconds": 1.0, "rounds": 1}),
    "growth": (
        "tests.benchmarks.growth:run",
        {"backlogs": (1_000,), "subscribers": (2,), "keys": (10,), "up_to": 1_000, "events": 200},
    ),
    "hostile": ("tests.benchmarks.hostile:run", {"size": 8 * 1024, "rounds": 1, "together": 4, "after": 5}),
    "search": ("tests.benchmarks.search:run", {"rounds": 1, "count": 3000}),
    "subscribers": ("tests.benchmarks.subscribers:run", {"counts": (2,), "idle_s": 1.0, "settle_s": 1.0}),
    "rebalance": (
        "tests.benchmarks.rebalance:run",
        {"rate": 50.0, "stopped_s": 1.0, "session_s": 3.0, "processes": 2, "fast": 2},
    ),
    "one-down": (
        "tests.benchmarks.one_down:run",
        {"down_s": 1.0, "steady_s": 1.0, "subscribers": 3, "heap": 50, "rounds": 1},
    ),
    "peers": (
        "tests.benchmarks.peers.compare:run",
        {"rounds": 1, "seconds": 1.0, "connections": (16,), "chosen": peers.SHORT, "more": False},
    ),
}
#: Parts that start a Kafka broker, or use the one of KAFKA_BOOTSTRAP_SERVERS.
NEED_KAFKA = frozenset({"publish", "stuck-topic", "subscribers", "rebalance", "one-down", "peers"})
#: Options that change what a part measures, and so the name of its file.
FLAGS = ("pinned", "broker_syncs")


def function_of(part: str) -> Callable[..., dict[str, Any]]:
    """What runs a part; imported only then, as some parts need packages that others do not."""
    module, _, name = PARTS[part][0].partition(":")
    found: Callable[..., dict[str, Any]] = getattr(importlib.import_module(module), name)
    return found


def smoke(part: str) -> dict[str, Any]:
    """One part in a few seconds; its figures mean nothing."""
    return function_of(part)(**PARTS[part][1])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=f"out of: {', '.join(PARTS)}; none: all of them")
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks"), help="folder of the JSON and SVG files")
    parser.add_argument("--smoke", action="store_true", help="each part in a few seconds: does it still run?")
    parser.add_argument("--rounds", type=int, help="times that the sides take turns")
    parser.add_argument("--seconds", type=float, help="of load, each round and side")
    parser.add_argument("--minutes", type=float, help="stuck-topic: for which a topic cannot be written (default 10)")
    parser.add_argument("--up-to", type=int, help="largest backlog of the part growth (default 10^6)")
    parser.add_argument("--counts", type=_numbers, metavar="1,20,…", help="subscribers: how many there are")
    parser.add_argument("--down-s", type=float, help="one-down: how long the one is down (default 45)")
    parser.add_argument("--pinned", action="store_true", default=None, help="peers: one processor for each side")
    parser.add_argument(
        "--broker-syncs", action="store_true", default=None, help="peers: a broker that syncs before it acknowledges"
    )
    parser.add_argument("--against", metavar="COMMIT", help="peers: the gateway of this commit too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file of the figures of one part, instead of --out")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if asked.json and len(asked.parts) != 1:
        parser.error("--json is for one part")
    asked.out.mkdir(parents=True, exist_ok=True)
    for part in asked.parts or PARTS:
        print(f"== {part}", flush=True)
        function = function_of(part)
        options = dict(PARTS[part][1]) if asked.smoke else {}
        for name in ("rounds", "seconds", "minutes", "up_to", "counts", "down_s", *FLAGS, "against"):
            if getattr(asked, name) is not None and name in inspect.signature(function).parameters:
                options[name] = getattr(asked, name)
        started, began = time.monotonic(), datetime.now(UTC)
        figures = function(**options)
        written = {
            "part": part,
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
            "processors": os.cpu_count(),
            "began": began.isoformat(timespec="seconds"),
            "commit": _commit(),
            "took_s": round(time.monotonic() - started, 1),
            "figures": figures,
        }
        name = part + "".join(f"-{flag.replace('_', '-')}" for flag in FLAGS if options.get(flag))
        (asked.json or asked.out / f"{name}.json").write_bytes(orjson.dumps(written, option=orjson.OPT_INDENT_2))
        (asked.out / f"{name}.svg").write_bytes(plot.svg(part, figures))
    return 0


def _commit() -> str:
    """Return the commit of the measured code; empty outside a repository."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return done.stdout.strip()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


if __name__ == "__main__":
    leash.hold()
    sys.exit(main(sys.argv[1:]))
