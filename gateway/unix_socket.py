"""Unix sockets by name, also where the name is longer than the 107 bytes that the kernel takes (unix(7)).

Linux reaches a long one through the folder's descriptor; elsewhere such a name is refused by the system.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_MOST_BYTES: Final = 107
_MODE: Final = 0o600


def bound(path: Path) -> socket.socket:
    """Return a socket that listens under a name, for the user of this process alone; an older one of it is replaced.

    Raises:
        OSError: the folder cannot be written.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            path.unlink()
        before = os.umask(0o777 & ~_MODE)
        try:
            with _address(path) as address:
                made.bind(address)
        finally:
            os.umask(before)
        made.listen(128)
    except BaseException:
        made.close()
        raise
    made.setblocking(False)
    return made


def connected(path: Path) -> socket.socket:
    """Return a connection to a socket. Connecting on one machine does not wait, unless the backlog is full.

    Raises:
        OSError: nobody listens.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.setblocking(False)
    try:
        with _address(path) as address:
            made.connect(address)
    except BaseException:
        made.close()
        raise
    return made


@contextmanager
def _address(path: Path) -> Iterator[str]:
    name = str(path.absolute())
    if len(os.fsencode(name)) <= _MOST_BYTES or not os.path.isdir("/proc/self/fd"):
        yield name
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
