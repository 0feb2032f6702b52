"""The admin interface of one worker, as the supervisor asks it: on a socket that only its own user can open."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web
from yarl import URL

from gateway.errors import NotNow

#: Connecting on this machine takes no time; a worker that does not take a connection so long hangs.
_CONNECT_S: Final = 2.0
#: A dry run reads the log: a minute for a large one. Streams send a comment every 15 s.
_SILENCE_S: Final = 150.0
#: Of one connection, not of the request (RFC 9110, section 7.6.1), or made anew.
_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length"})


class WorkerAway(NotNow):
    """The worker does not take connections: it has died and is being started again. Try again."""

    retry_after_s = 1.0


class Worker:
    """One worker.

    Args:
        number: from 0.
        socket: where its admin interface listens.
    """

    def __init__(self, number: int, socket: Path) -> None:
        self.number = number
        self._socket = socket
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Get ready to ask; the worker need not be there."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(self._socket), limit=0),
            timeout=aiohttp.ClientTimeout(sock_connect=_CONNECT_S, sock_read=_SILENCE_S),
            auto_decompress=False,
        )

    async def stop(self) -> None:
        """Close. May be called twice, or before :meth:`start`."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def text(self, path: str, token: str, within_s: float) -> tuple[int, str]:
        """Status and body of one small answer.

        Raises:
            WorkerAway: nobody takes the connection.
            TimeoutError: no answer in time; the worker hangs.
        """
        headers = {"Host": "localhost", "Accept-Encoding": "identity"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            async with self._opened.get(
                f"http://worker{path}", headers=headers, timeout=aiohttp.ClientTimeout(within_s)
            ) as got:
                return got.status, await got.text()
        except aiohttp.ClientError as exc:
            raise WorkerAway(self._sentence) from exc

    async def ask(self, request: web.Request, path: str, *, is_plain: bool = False) -> aiohttp.ClientResponse:
        """Pass a request on; the caller closes the response.

        Args:
            path: with query, as it stood in the request line.
            is_plain: ask for an answer that is not compressed, to look into.

        Raises:
            WorkerAway: nobody takes the connection, or it broke before the answer.
        """
        body = await request.read()
        left_out = _HOP | {"accept-encoding"} if is_plain else _HOP
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in left_out]
        url = URL(f"http://worker{path}", encoded=True)
        try:
            return await self._opened.request(
                request.method, url, headers=headers, data=body or None, allow_redirects=False, skip_auto_headers=_AUTO
            )
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise WorkerAway(self._sentence) from exc

    @property
    def _opened(self) -> aiohttp.ClientSession:
        assert self._session is not None
        return self._session

    @property
    def _sentence(self) -> str:
        return f"worker {self.number} does not answer; it is started again when it has died"


#: Ours would stand where the client sent none.
_AUTO: Final = ("User-Agent", "Accept-Encoding", "Accept", "Content-Type")


async def passed(request: web.Request, got: aiohttp.ClientResponse) -> web.StreamResponse:
    """Hand a worker's answer through, as it comes: it may be a stream that does not end."""
    response = web.StreamResponse(status=got.status, reason=got.reason, headers=_kept(got.headers))
    async with got:
        await response.prepare(request)
        try:
            async for chunk in got.content.iter_any():
                await response.write(chunk)
        except (ConnectionResetError, aiohttp.ClientError, TimeoutError):
            # The client or the worker went away in the middle; that the answer is not whole must show.
            response.force_close()
            with suppress(ConnectionResetError):
                if request.transport is not None:
                    request.transport.abort()
    return response


def _kept(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in _HOP]
