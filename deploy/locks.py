"""``python -m deploy.locks``: write the lock files again, for all supported Pythons, with hashes. Needs uv.

Without an option a locked version stays if the ranges in ``pyproject.toml`` and ``deploy/*.in`` allow it. ``--upgrade``
raises all; ``--upgrade-package NAME`` raises one. Other options are passed on to ``uv pip compile``, too.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
#: Lock file → what it is made from.
LOCKS: Final = {
    "requirements.lock": ("pyproject.toml",),
    "requirements-dev.lock": ("pyproject.toml", "--extra", "dev", "--extra", "bench"),
    "deploy/build.lock": ("deploy/build.in",),
    "deploy/release.lock": ("deploy/release.in",),
}
#: --universal: one file for all platforms, and for all Pythons from this one on.
OPTIONS: Final = ("--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--quiet")


def compile_lock(lock: str, output: Path, options: Sequence[str] = ()) -> None:
    """Resolve one lock file. Versions that ``output`` already has are preferred.

    Args:
        lock: a name of :data:`LOCKS`.
        output: where it is written.
        options: more of ``uv pip compile``.

    Raises:
        subprocess.CalledProcessError: uv found no solution, or is not installed.
    """
    command = [sys.executable, "-m", "uv", "pip", "compile", "--no-config", *LOCKS[lock], *OPTIONS, "-o", str(output)]
    subprocess.run([*command, *options], check=True, cwd=ROOT)  # noqa: S603


def main() -> None:
    """Write all lock files."""
    for lock in LOCKS:
        compile_lock(lock, ROOT / lock, sys.argv[1:])


if __name__ == "__main__":
    main()
