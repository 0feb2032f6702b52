"""Every kept input on every Python; and each target fuzzed for a short, bounded time where atheris is installed.

``GATEWAY_TEST_FUZZ_SECONDS`` says how long, ``python -m tests.fuzz`` goes on for as long as one likes.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.components import missing
from tests.effort import IS_NIGHTLY
from tests.fuzz.seeds import inputs
from tests.fuzz.targets import TARGETS
from tests.rows import rows

#: It begins with the kept inputs, and what it finds new in the first seconds is most of what a minute finds.
SECONDS = int(os.environ.get("GATEWAY_TEST_FUZZ_SECONDS") or (300 if IS_NIGHTLY else 4))


@rows("target", TARGETS)
def test_kept_inputs_break_nothing(target: str) -> None:
    """What once broke stays repaired."""
    found = list(inputs(target))
    for data in found:
        TARGETS[target](data)
        TARGETS[target](data[: len(data) // 2])
    assert len(found) > 1


@pytest.mark.slow
@pytest.mark.timeout(120 + 3 * SECONDS * len(TARGETS))
def test_fuzzing_breaks_nothing(tmp_path: Path) -> None:
    """Bounded in time and memory; an input that breaks a promise is printed, to be put into the corpus."""
    if importlib.util.find_spec("atheris") is None:
        missing("atheris", install="Linux and macOS only: pip install atheris")
    command = [sys.executable, "-m", "tests.fuzz", *TARGETS, "--seconds", str(SECONDS), "--artifacts", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    broke = [f"{path.name}: {path.read_bytes()!r}" for path in tmp_path.iterdir()]
    assert done.returncode == 0, "\n".join([*broke, done.stderr[-3000:]])
