"""``python -m tests``: everything that must hold before a change goes in — lint, types, tests — in one command.

Arguments go to pytest: ``python -m tests tests/ingest -x``. Each step runs though one before it failed, so that one
run shows everything; the exit code is 1 when anything failed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Final

STEPS: Final = {
    "lint": ["ruff", "check", "."],
    "format": ["ruff", "format", "--check", "."],
    "types": ["mypy"],
    "tests": ["pytest"],
}


def main(arguments: list[str]) -> int:
    """Run all steps; 0 when all passed."""
    failed: list[str] = []
    for name, command in STEPS.items():
        extra = arguments if name == "tests" else []
        print(f"== {name}: {' '.join(command + extra)}", flush=True)
        started = time.monotonic()
        if subprocess.run([sys.executable, "-m", *command, *extra], check=False).returncode:
            failed.append(name)
        print(f"== {name}: {'FAILED' if name in failed else 'ok'} in {time.monotonic() - started:.0f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
