"""The other side of ``shim.c``: compiled when first needed, steered through its control file."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

_FIELDS: Final = ("write_errno", "sync_errno", "clock_offset_s", "sync_delay_us", "torn_write", "failed")
_SOURCE: Final = Path(__file__).with_name("shim.c")


def compiler() -> str | None:
    """A C compiler; without one the scenarios that need the shim cannot run."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


class Shim:
    """One control file and the library that reads it.

    Args:
        folder: where both are put.
    """

    def __init__(self, folder: Path) -> None:
        found = compiler()
        if found is None:
            raise RuntimeError("this scenario needs a C compiler (Debian: apt-get install gcc)")
        self._library = folder / "shim.so"
        command = [found, "-shared", "-fPIC", "-O1", "-o", str(self._library), str(_SOURCE), "-ldl"]
        subprocess.run(command, check=True, capture_output=True)
        self._control = folder / "shim.control"
        self._control.write_bytes(bytes(mmap.PAGESIZE))
        with self._control.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), mmap.PAGESIZE)

    @property
    def environment(self) -> dict[str, str]:
        """For the process."""
        return {"LD_PRELOAD": str(self._library), "LOSSPROOF_SHIM": str(self._control)}

    def set(self, **fields: int) -> None:
        """Change what fails, at once, in a running process, too."""
        for name, value in fields.items():
            struct.pack_into("q", self._map, _FIELDS.index(name) * 8, value)

    def calm(self) -> None:
        """Nothing fails any more, the clock is right."""
        self.set(write_errno=0, sync_errno=0, clock_offset_s=0, sync_delay_us=0, torn_write=0)

    @property
    def failed(self) -> int:
        """Calls that were made to fail so far."""
        return int(struct.unpack_from("q", self._map, _FIELDS.index("failed") * 8)[0])
