"""The wheel whose decoders are compiled: it is built, and decodes every sample to the same events."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.artefacts import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler"),
]
#: Without optimisation it compiles in half the time, and says the same of what works.
_BUILD: Final = {"NXCLOUD_GATEWAY_COMPILE": "1", "MYPYC_OPT_LEVEL": "0", "MYPYC_DEBUG_LEVEL": "0"}
#: The gateway is imported before pytest puts the repository in front of the installed one.
_DECODE: Final = """
import sys, pytest, gateway.callbacks.payload as module
assert module.__file__.endswith(".so") and module.__file__.startswith(sys.argv[1]), module.__file__
sys.exit(pytest.main(["-q", "-n0", "-p", "no:cacheprovider", *sys.argv[2:]]))
"""


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [*map(str, command)], check=False, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return done.stdout


def test_compiled_decoders_decode_the_samples(tmp_path: Path) -> None:
    """The tests of samples pass on extension modules, and the wheel is one of this platform."""
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT, **_BUILD)
    (wheel,) = tmp_path.glob("*.whl")
    assert not wheel.name.endswith("py3-none-any.whl")
    folder = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(folder)
    run(
        sys.executable,
        "-P",
        "-c",
        _DECODE,
        folder,
        "tests/callbacks/test_samples.py",
        "tests/callbacks/test_certain.py",
        PYTHONPATH=str(folder),
    )
