"""As much of an admin port as probes and the drain script see: paths and texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Self

Page = str | Callable[[], str]


class MetricsServer:
    """Serves pages on loopback while it is entered; asks for a token when there is one."""

    def __init__(self, pages: Mapping[str, Page], token: str = "") -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = pages.get(self.path)
                denied = token and self.headers.get("Authorization") != f"Bearer {token}"
                self.send_response(401 if denied else 404 if page is None else 200)
                self.end_headers()
                if page is not None and not denied:
                    self.wfile.write((page if isinstance(page, str) else page()).encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
