"""Load from wrk (https://github.com/wg/wrk): prepared requests from a file, as many connections as asked for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.machine import cores, prepare

#: Each thread of wrk runs this: it reads the file once and goes round in it, each thread from another place on.
_SCRIPT = """
local threads = 0
function setup(thread) thread:set("number", threads); threads = threads + 1 end
function init(args)
  local file = io.open("FILE", "rb"); local all = file:read("*a"); file:close()
  requests = {}
  for one in all:gmatch("[^%z]+") do requests[#requests + 1] = one end
  at = START + number * 7919
end
function request() at = at + 1; return requests[at % #requests + 1] end
"""
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


class WrkIsMissing(RuntimeError):
    """Install it: ``apt-get install wrk``, ``brew install wrk``, or build https://github.com/wg/wrk."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk did."""

    requests: int
    per_s: float
    p50_s: float
    p99_s: float
    other_answers: int
    socket_errors: int
    cpu_share: float

    @property
    def is_bottleneck(self) -> bool:
        """wrk had nearly no processor time to spare: requests a second then measure wrk."""
        return self.cpu_share > 0.9


def check() -> None:
    """Raises:
    WrkIsMissing: with how to get it.
    """
    if shutil.which("wrk") is None:
        raise WrkIsMissing(f"wrk is not installed. {WrkIsMissing.__doc__}")


def drive(
    url: str,
    requests: Path,
    folder: Path,
    *,
    connections: int,
    seconds: float,
    start: int = 0,
    processors: set[int] | None = None,
) -> Load:
    """Send for so long.

    Args:
        url: of the service; the path stands in the requests.
        requests: file of whole HTTP requests, each behind a NUL byte.
        folder: for wrk's script.
        connections: open at the same time, each with one request under way.
        seconds: how long; wrk counts whole seconds.
        start: index of the first request, so that rounds do not begin with the same ones.
        processors: to run on; None for those of the load.
    """
    script = folder / "requests.lua"
    script.write_text(_SCRIPT.replace("FILE", str(requests)).replace("START", str(start)))
    processors = cores()[1] if processors is None else processors
    threads = max(1, min(len(processors), connections))
    before, wall = os.times(), time.monotonic()
    done = subprocess.run(
        [
            *("wrk", f"-t{threads}", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s"),
            *("--latency", "-s", str(script), url),
        ],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: prepare(processors),
    )
    after, took = os.times(), time.monotonic() - wall
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return _parsed(done.stdout + done.stderr, spent / took / threads)


def _parsed(text: str, cpu_share: float) -> Load:
    def number(pattern: str) -> float:
        found = re.search(pattern, text)
        return float(found[1]) if found else 0.0

    def latency(label: str) -> float:
        found = re.search(rf"{label}%\s+([\d.]+)(us|ms|s|m)", text)
        return float(found[1]) * _UNITS[found[2]] if found else 0.0

    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    return Load(
        int(number(r"(\d+) requests in")),
        number(r"Requests/sec:\s+([\d.]+)"),
        latency("50"),
        latency("99"),
        int(number(r"Non-2xx or 3xx responses: (\d+)")),
        sum(map(int, errors.groups())) if errors else 0,
        cpu_share,
    )
