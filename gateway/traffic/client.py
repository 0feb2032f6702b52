"""A small HTTP/1.1 client that sends requests byte for byte.

An ordinary client would correct the platform's requests: raw spaces and raw UTF-8 in the query, unusual content types,
header names in lower case. It also costs more than the gateway for the same request, and a load generator must not be
the slower side.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from gateway.errors import Transient
from gateway.traffic.simulator import TrafficRequest

#: Bytes of an answer, which is a word or a short JSON object; a longer one is not the gateway's.
_MOST_BODY: Final = 1024 * 1024
_CONNECT_S: Final = 5.0
_ANSWER_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Target:
    """Target of requests: an address without a path."""

    host: str
    port: int
    has_tls: bool

    @classmethod
    def parse(cls, url: str) -> Target:
        """Parse ``http://host:port``.

        Raises:
            ValueError: the text is not such an address.
        """
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("an address such as http://127.0.0.1:8080 is needed")
        if parts.path not in ("", "/") or parts.query:
            raise ValueError("give the address without a path; the path is the callback's, see --path")
        has_tls = parts.scheme == "https"
        return cls(parts.hostname, parts.port or (443 if has_tls else 80), has_tls)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.has_tls else 'http'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class GatewayAnswer:
    """An answer of the gateway."""

    status: int
    body: bytes


def encode(target: Target, path: str, request: TrafficRequest, headers: list[tuple[str, str]]) -> bytes:
    """Return a request as bytes.

    Args:
        target: has the ``Host``.
        path: path of the callback.
        request: the request.
        headers: additional headers.
    """
    line = b"POST " + path.encode() + (b"?" + request.query if request.query else b"") + b" HTTP/1.1\r\n"
    head = [f"host: {target.host}:{target.port}", f"content-length: {len(request.body)}"]
    if request.content_type is not None:
        head.append(f"content-type: {request.content_type}")
    head += [f"{name}: {value}" for name, value in headers]
    return line + "\r\n".join(head).encode() + b"\r\n\r\n" + request.body


class ClientConnection:
    """A persistent connection that is opened again after the peer has closed it. Used by one task at a time."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def exchange(self, message: bytes) -> GatewayAnswer:
        """Send one request and return its answer.

        Raises:
            Transient: no connection, or no complete answer. The request may have been stored.
        """
        is_fresh = self._writer is None
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await self._once(message)
        except ConnectionRefusedError as exc:
            raise Transient(f"{self._target}: nothing listens there; is the gateway running?") from exc
        except (asyncio.IncompleteReadError, ConnectionError) as exc:
            await self.close()
            if is_fresh:
                raise Transient(f"{self._target}: the connection was closed before the answer") from exc
        except (OSError, TimeoutError, ValueError) as exc:
            await self.close()
            raise Transient(f"{self._target}: {exc or 'no answer in time'}") from exc
        # A persistent connection may have been closed while it was idle. Sending again causes a repeat at worst.
        return await self.exchange(message)

    async def close(self) -> None:
        """Close the connection; the next exchange opens another."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
            try:
                await writer.wait_closed()
            except OSError:
                return

    async def _once(self, message: bytes) -> GatewayAnswer:
        if self._writer is None or self._reader is None:
            context = ssl.create_default_context() if self._target.has_tls else None
            async with asyncio.timeout(_CONNECT_S):
                self._reader, self._writer = await asyncio.open_connection(
                    self._target.host, self._target.port, ssl=context
                )
        self._writer.write(message)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head[9:12])
        body = await _body(self._reader, head)
        if b"\r\nconnection: close" in head:
            await self.close()
        return GatewayAnswer(status, body)


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    _, found, rest = head.partition(b"\r\ncontent-length:")
    if found:
        length = int(rest.partition(b"\r\n")[0])
        if length > _MOST_BODY:
            raise ValueError("an answer larger than a gateway gives")
        return await reader.readexactly(length)
    if b"\r\ntransfer-encoding: chunked" not in head:
        return b""
    parts: list[bytes] = []
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        if size + sum(map(len, parts)) > _MOST_BODY:
            raise ValueError("an answer larger than a gateway gives")
        parts.append((await reader.readexactly(size + 2))[:-2])
    await reader.readuntil(b"\r\n")
    return b"".join(parts)
