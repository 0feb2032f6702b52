"""Subscribers that talk without end, in a process of their own, so that they always have something to say.

``python -m tests.fanout.hostile_server`` prints its port; the path of a request names one of :data:`KINDS`.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from threading import Thread
from typing import Final

#: How an answer begins, and what follows again and again.
KINDS: Final[dict[str, tuple[bytes, bytes]]] = {
    "interim-answers": (b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 2000),
    "interim-heads": (b"", b"HTTP/1.1 103 Early Hints\r\n" + b"Link: x\r\n" * 5000 + b"\r\n"),
    "interim-one-by-one": (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "continues": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2000),
    "upgrades": (b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n", b"x" * 65536),
    "headers": (b"HTTP/1.1 500 x\r\n", b"X-Header: x\r\n" * 5000),
    "one-header": (b"HTTP/1.1 200 x\r\nX: ", b"x" * 65536),
    "one-header-by-byte": (b"HTTP/1.1 500 x\r\nX: ", b"x"),
    "body": (b"HTTP/1.1 500 x\r\n\r\n", b"x" * 65536),
    "body-of-success": (b"HTTP/1.1 200 x\r\nContent-Length: 99999999999\r\n\r\n", b"x" * 65536),
    "chunks-of-a-byte": (b"HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10000),
    "chunk-extensions": (b"HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n1", b";x" * 30000),
    "trailers": (b"HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: x\r\n" * 5000),
    "empty-lines": (b"", b"\r\n" * 30000),
    "status-line": (b"HTTP/1.1 200 ", b"x" * 65536),
    "noise": (b"", b"\xff" * 65536),
    "answers": (b"", b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n" * 2000),
}


def talk(connection: socket.socket) -> None:
    """Read the head of one request, then talk until the other side closes."""
    with connection, suppress(OSError):
        head = b""
        while b"\r\n\r\n" not in head:
            data = connection.recv(65536)
            if not data:
                return
            head += data
        start, endless = KINDS[head.split(b" ")[1].decode().strip("/")]
        connection.sendall(start)
        while True:
            connection.sendall(endless)


def main() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        while True:
            connection, _ = listener.accept()
            Thread(target=talk, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
