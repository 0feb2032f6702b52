"""Quotas of a user or client id (Kafka protocol: AlterClientQuotas, version 0), which none of our clients can set."""

from __future__ import annotations

import socket
import struct

_API_KEY = 49


def limit(bootstrap: str, client_id: str, **bytes_per_s: float | None) -> None:
    """Set quotas of a client id; None removes one.

    Args:
        bootstrap: address of a listener whose clients may alter quotas.
        bytes_per_s: such as ``producer_byte_rate``, ``consumer_byte_rate``.

    Raises:
        RuntimeError: the broker refuses.
    """
    ops = b"".join(_text(name) + struct.pack(">d?", value or 0.0, value is None) for name, value in bytes_per_s.items())
    entity = struct.pack(">i", 1) + _text("client-id") + _text(client_id)
    body = struct.pack(">i", 1) + entity + struct.pack(">i", len(bytes_per_s)) + ops + b"\0"
    request = struct.pack(">hhi", _API_KEY, 0, 1) + _text("tests") + body
    host, _, port = bootstrap.partition(",")[0].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30.0) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", _exactly(connection, 4))
        answer = _exactly(connection, size)
    _, _, _, code = struct.unpack(">iiih", answer[:14])
    if code:
        raise RuntimeError(f"AlterClientQuotas was refused with error {code}")


def _text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def _exactly(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        found += connection.recv(count - len(found)) or _closed()
    return found


def _closed() -> bytes:
    raise RuntimeError("the broker closed the connection")
