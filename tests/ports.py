"""Ports that are named before anything listens there: in a broker's configuration, for a restart on the same port."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from functools import cache
from pathlib import Path
from typing import BinaryIO, Final

#: Below the range that Linux takes ports of outgoing connections from: the port of what was killed must stay free.
_PORTS: Final = range(20_000, 30_000)
_given: set[int] = set()


def free_port() -> int:
    """A port of loopback that nobody listens on, and that no process of tests is given as long as this one lives."""
    while True:
        port = random.choice(_PORTS)
        if port not in _given and _is_ours(port) and _is_free(port):
            _given.add(port)
            return port


def _is_ours(port: int) -> bool:
    """Hold the byte of this number: locks of ranges end with the process (fcntl(2)), so none is left behind."""
    try:
        fcntl.lockf(_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except BlockingIOError:
        return False
    return True


@cache
def _locks() -> BinaryIO:
    return (Path(tempfile.gettempdir()) / f"gateway-test-ports.{os.getuid()}").open("ab")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
