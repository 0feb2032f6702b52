"""Compile the decoders with mypyc where ``NXCLOUD_GATEWAY_COMPILE=1`` asks for it: a build hook of hatchling.

Without the variable the wheel is pure, as ever, and needs no compiler. With it the wheel is for one version of Python
and one platform, and decoding takes three quarters of the time. The compiled modules are the same sources.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

IS_WANTED = os.environ.get("NXCLOUD_GATEWAY_COMPILE") == "1"
#: Pure functions from bytes to events. What waits, listens or is configured gains nothing by it.
COMPILED = ("gateway/callbacks/*.py", "gateway/event.py")
#: Made by decoders of the users' own: compiled classes refuse values of another type where they are made, before
#: our check can say what is wrong.
PURE = "generic.py"


class CompiledDecoders(BuildHookInterface):  # type: ignore[type-arg]
    """Add extension modules beside the sources that they were made of."""

    PLUGIN_NAME = "custom"
    _folder: str | None = None

    def dependencies(self) -> list[str]:
        """Return what the build needs: orjson and cryptography for their types."""
        return ["mypy[mypyc]>=1.18", "setuptools", "orjson>=3.11", "cryptography>=45"] if IS_WANTED else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile in a folder of its own, so that the sources stay as they are."""
        if not IS_WANTED or version == "editable":
            return
        self._folder = tempfile.mkdtemp()
        folder = Path(self._folder)
        shutil.copytree(Path(self.root, "gateway"), folder / "gateway", ignore=shutil.ignore_patterns("*.so"))
        shutil.copy(Path(self.root, "pyproject.toml"), folder)
        sources = [
            str(path.relative_to(folder)) for one in COMPILED for path in sorted(folder.glob(one)) if path.name != PURE
        ]
        subprocess.run([sys.executable, "-m", "mypyc", *sources], cwd=folder, check=True)  # noqa: S603
        build_data["pure_python"], build_data["infer_tag"] = False, True
        for made in (*folder.glob("*.so"), *folder.glob("gateway/**/*.so")):
            build_data["force_include"][str(made)] = str(made.relative_to(folder))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the folder."""
        if self._folder is not None:
            shutil.rmtree(self._folder)
