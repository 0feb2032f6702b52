"""``python -m tests``: everything that must hold before a change goes in — lint, types, tests — in one command.

Arguments go to pytest: ``python -m tests tests/ingest -x``. Each step runs though one before it failed, so that one
run shows everything; the exit code is 1 when anything failed.

Most tests wait more than they work (brokers start, time-outs pass), so four workers share them, a file at a time, the
longest first (:mod:`tests.order`), while types are checked. ``TESTS_NIGHTLY=1`` makes a long run of it
(:mod:`tests.effort`). What a run starts ends with it, also when it is killed (:mod:`tests.leash`).

Those marked ``quiet`` compare times. They run alone afterwards, and up to five times: a machine that stands still for a
moment spoils one measurement, a fault of ours spoils each. What had to run again is listed as ``RERUN``.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests import leash

STEPS: Final = {
    "lint": ["ruff", "check", "."],
    "format": ["ruff", "format", "--check", "."],
    "tests": ["pytest", "-m", "not quiet", "-n", "4", "--dist", "loadfile", "--no-loadscope-reorder"],
    "quiet tests": ["pytest", "-m", "quiet", "--reruns", "4", "-r", "aR"],
}
#: Where a step's tests are, when the arguments do not say: looking through all others for them takes half a minute.
FILES: Final = {
    "quiet tests": sorted(str(path) for path in Path("tests").rglob("test_*.py") if "mark.quiet" in path.read_text())
}
#: pytest's exit code where the arguments leave a step without any test.
_NO_TESTS: Final = 5


def main(arguments: list[str]) -> int:
    """Run all steps; 0 when all passed."""
    failed: list[str] = []
    with _at_the_same_time(failed, "types", "mypy"):
        for name in ("lint", "format", "tests"):
            _step(failed, name, arguments)
    _step(failed, "quiet tests", arguments)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def _step(failed: list[str], name: str, arguments: Sequence[str]) -> None:
    """Run a step; add its name to those that failed."""
    is_pytest = STEPS[name][0] == "pytest"
    command = [*STEPS[name], *((arguments or FILES.get(name, [])) if is_pytest else ())]
    print(f"== {name}: {' '.join(command)}", flush=True)
    started = time.monotonic()
    code = subprocess.run([sys.executable, "-m", *command], check=False).returncode
    _report(failed, name, code and not (is_pytest and arguments and code == _NO_TESTS), started)


@contextmanager
def _at_the_same_time(failed: list[str], name: str, module: str) -> Iterator[None]:
    """Run a step that says what it found when it has ended, and let other steps go before it."""

    def run() -> None:
        started = time.monotonic()
        command = ["nice", sys.executable, "-m", module]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        print(f"\n== {name}: {module}\n{done.stdout}{done.stderr}", end="")
        _report(failed, name, done.returncode, started)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join()


def _report(failed: list[str], name: str, has_failed: int, started: float) -> None:
    if has_failed:
        failed.append(name)
    print(f"== {name}: {'FAILED' if has_failed else 'ok'} in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    leash.hold()
    sys.exit(main(sys.argv[1:]))
