"""Tokens as the tests' broker takes them, and an OAuth 2 endpoint that gives them (RFC 6749, section 4.4)."""

from __future__ import annotations

import base64
import json
import time
from typing import Any, Final
from urllib.parse import unquote_plus

from aiohttp import web

CLIENT: Final = "gateway"
CLIENT_SECRET: Final = "not:for logs%"


def unsigned(subject: str, *, good_for_s: int = 600, number: int = 0) -> str:
    """A JSON Web Token without a signature."""
    now = int(time.time())
    parts = ({"alg": "none"}, {"sub": subject, "iat": now, "exp": now + good_for_s, "jti": str(number)})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, ""])


class TokenEndpoint:
    """Gives tokens over HTTP, each another one; refuses, or answers nonsense, when told to.

    Attributes:
        asked: client, grant type and scope of each request.
        status: 200, or what it refuses with.
        answer: in place of a token's JSON.
        expires_in: what it says of a token, in seconds.
    """

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._runner = web.ServerRunner(web.Server(self._give))  # type: ignore[arg-type]
        self._url = ""
        self.asked: list[dict[str, Any]] = []
        self.status = 200
        self.answer: str | None = None
        self.expires_in = 3600

    async def __aenter__(self) -> TokenEndpoint:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self._url = f"http://{host}:{port}/token"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def settings(self, **more: str) -> dict[str, str]:
        """Section ``kafka.security.oauth`` for this endpoint."""
        return {"token_url": self._url, "client_id": CLIENT, "client_secret": CLIENT_SECRET, **more}

    async def _give(self, request: web.BaseRequest) -> web.Response:
        scheme, _, encoded = request.headers["Authorization"].partition(" ")
        client = tuple(unquote_plus(part) for part in base64.b64decode(encoded).decode().split(":"))
        self.asked.append({"scheme": scheme, "client": client, **await request.post()})
        if self.status != 200:
            return web.json_response({"error": "invalid_client"}, status=self.status)
        token = {
            "access_token": unsigned(self._subject, number=len(self.asked)),
            "token_type": "Bearer",
            "expires_in": self.expires_in,
        }
        return web.Response(text=self.answer or json.dumps(token), content_type="application/json")
