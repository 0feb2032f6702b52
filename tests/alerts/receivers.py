"""Real receivers of alerts: an HTTP server, and an SMTP server with TLS and login."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.message import Message
from typing import Any

import orjson
from aiohttp import web

from tests.components import missing

try:
    from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
except ImportError:
    missing("aiosmtpd", install="pip install aiosmtpd")


class HttpReceiver:
    """Keeps what is posted, and answers ``status``."""

    def __init__(self) -> None:
        self.status = 200
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.refused = 0
        self.url = ""
        self._changed = asyncio.Condition()

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """Everything that was told, in order."""
        return [alert for _, body in self.posts for alert in orjson.loads(body)["alerts"]]

    async def until(self, wanted: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Wait until something holds; looked at after each request."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(wanted)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        body = await request.read()
        async with self._changed:
            if self.status == 200:
                self.posts.append((dict(request.headers), body))
            else:
                self.refused += 1
            self._changed.notify_all()
        return web.Response(status=self.status)


@asynccontextmanager
async def http_receiver() -> AsyncIterator[HttpReceiver]:
    """Listen on a free port."""
    one = HttpReceiver()
    runner = web.ServerRunner(web.Server(one.handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}/alerts?key=secret"
    try:
        yield one
    finally:
        await runner.cleanup()


class MailBox:
    """Keeps mails. Refuses ``refused`` addresses."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.envelopes: list[tuple[str | None, list[str]]] = []
        self.refused = ""

    async def handle_RCPT(self, _: SMTP, __: Session, envelope: Envelope, address: str, ___: list[str]) -> str:  # noqa: N802
        """Accept a recipient."""
        if address == self.refused:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _: SMTP, __: Session, envelope: Envelope) -> str:  # noqa: N802
        """Accept a mail."""
        assert isinstance(envelope.content, bytes)
        self.mails.append(message_from_bytes(envelope.content))
        self.envelopes.append((envelope.mail_from, list(envelope.rcpt_tos)))
        return "250 OK"


def login(_: SMTP, __: Session, ___: Envelope, mechanism: str, given: object) -> AuthResult:
    """Know one user."""
    assert mechanism in ("LOGIN", "PLAIN")
    is_known = isinstance(given, LoginPassword) and (given.login, given.password) == (b"gateway", b"pass-word")
    return AuthResult(success=is_known, handled=False)


@asynccontextmanager
async def mail_server(
    *, tls: ssl.SSLContext | None = None, is_implicit: bool = False
) -> AsyncIterator[tuple[MailBox, int]]:
    """Listen on a free port; with ``tls`` for STARTTLS (then a login is needed), or from the first byte on."""
    box = MailBox()
    more: dict[str, Any] = {}
    if tls is not None and not is_implicit:
        more = {"tls_context": tls, "require_starttls": True, "authenticator": login, "auth_required": True}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(box, hostname="mail.example.com", loop=loop, **more),
        "127.0.0.1",
        0,
        ssl=tls if is_implicit else None,
    )
    try:
        yield box, int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
