"""Listening sockets: of a port, before the processes that accept on it; of a local one that only our user can open.

A Unix socket's address has room for 107 bytes of path (unix(7)), less than a folder of a test or a pod may take. On
Linux a longer path is reached through its folder, ``/proc/self/fd/<folder>/<name>`` (proc(5)).
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from gateway.errors import Broken, ConfigError

#: Connections that wait while a process is started again; the kernel cuts it to net.core.somaxconn. A server that takes
#: over such a socket needs the value too: event loops set it again.
BACKLOG: Final = 1024
#: Between two attempts to open a port that is in use; there is no notification when it becomes free.
_PORT_LOOK_S: Final = 0.05
#: Of ``sun_path``, without the zero at its end; 103 on macOS and the BSDs.
_MOST_BYTES: Final = 107 if sys.platform == "linux" else 103


def listen(key: str, host: str, port: int, wait_s: float = 0.0) -> socket.socket:
    """Return a socket that listens on a TCP port.

    Args:
        key: of the configuration, such as ``ingest.port``, for the error.
        host: an address or a name; of a name, one address is used, IPv4 before IPv6. Empty: all of IPv4.
        port: 0 selects a free one.
        wait_s: time for another process to release the port, seconds.

    Raises:
        ConfigError: the address is in use, or is not ours.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return _listening(host, port)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
                raise ConfigError([f"{key}: {host}:{port} cannot be used: {exc.strerror}"]) from exc
        time.sleep(_PORT_LOOK_S)


def _listening(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, number, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    listener = socket.socket(family, kind, number)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # as asyncio does: "::" leaves IPv4 to a socket of its own
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def listen_locally(path: Path) -> socket.socket:
    """Return a Unix socket that listens, mode 0600; one that was left there by a process that died is replaced.

    Raises:
        Broken: its folder is not there, or does not let us.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            path.unlink()
        with _address_of(path) as address:
            listener.bind(address)
        # Before it listens, so that no other program can have connected.
        path.chmod(0o600)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as exc:
        listener.close()
        raise Broken(f"{path}: no socket can be opened here: {exc.strerror or exc}") from exc
    return listener


def connected(path: Path) -> socket.socket:
    """Return a socket that is connected to the Unix socket of another process. Does not wait.

    Raises:
        OSError: nothing listens there, or the queue of connections is full.
    """
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        one.setblocking(False)
        with _address_of(path) as address:
            one.connect(address)
    except OSError:
        one.close()
        raise
    return one


@contextmanager
def _address_of(path: Path) -> Iterator[str]:
    """Hold what to bind or connect to for a Unix socket, however long its path is.

    Raises:
        OSError: its folder cannot be opened, or the path is too long here.
    """
    text = os.fspath(path)
    if len(os.fsencode(text)) <= _MOST_BYTES or sys.platform != "linux":
        yield text
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
