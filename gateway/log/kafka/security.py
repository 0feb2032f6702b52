"""``kafka.security`` → arguments of aiokafka's clients.

Sources: aiokafka's documentation ("SSL and SASL"), Kafka's "Security" chapter, RFC 7628 (OAUTHBEARER),
RFC 6749 section 4.4 (client credentials).
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_plus

import aiohttp
import orjson
from aiokafka.abc import AbstractTokenProvider
from pydantic import SecretStr

from gateway.config.sections import OAuth, Security
from gateway.errors import ConfigError

#: A token endpoint that takes longer holds up the connection to Kafka as long.
_TOKEN_S: Final = 10.0
#: Bytes of a token endpoint's answer; tokens have some kilobytes.
_MOST_ANSWER: Final = 1024 * 1024
#: A token is fetched again this long before it expires.
_MARGIN_S: Final = 30.0
#: Lifetime of a token if the endpoint does not state it.
_UNSAID_S: Final = 60.0


def client_arguments(security: Security) -> dict[str, Any]:
    """Return the arguments of every aiokafka client. Reads certificate files.

    Raises:
        ConfigError: a file is missing or is not what it should be; names its key.
    """
    arguments: dict[str, Any] = {"security_protocol": security.protocol}
    if security.protocol.endswith("SSL"):
        arguments["ssl_context"] = _context(security)
    if security.sasl_mechanism == "OAUTHBEARER":
        assert security.oauth is not None
        arguments |= {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": _provider(security.oauth)}
    elif security.sasl_mechanism is not None:
        arguments |= {
            "sasl_mechanism": security.sasl_mechanism,
            "sasl_plain_username": security.username,
            "sasl_plain_password": _secret(security.password),
        }
    return arguments


def _context(security: Security) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if security.ca_file:
        _use("ca_file", security.ca_file, lambda: context.load_verify_locations(security.ca_file))
    if security.cert_file:
        _use(
            "cert_file",
            security.cert_file,
            lambda: context.load_cert_chain(
                str(security.cert_file), security.key_file or None, _secret(security.key_password) or None
            ),
        )
    context.check_hostname = security.check_hostname
    return context


def _secret(value: SecretStr | None) -> str:
    return value.get_secret_value() if value else ""


def _use(key: str, path: str, load: Callable[[], object]) -> None:
    try:
        load()
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError([f"kafka.security.{key}: {path} cannot be used: {exc.strerror or exc}"]) from exc


def _provider(oauth: OAuth) -> AbstractTokenProvider:
    return FileToken(Path(oauth.token_file)) if oauth.token_file else ClientCredentials(oauth)


class NoToken(OSError):
    """The token endpoint is unavailable or refuses. aiokafka treats it as a failed connection, and tries again."""


class FileToken(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """A token that others keep fresh in a file, as Kubernetes does for service accounts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def token(self) -> str:
        """Return the token, read from the file for every connection.

        Raises:
            NoToken: the file cannot be read.
        """
        try:
            return (await asyncio.to_thread(self._path.read_text)).strip()
        except OSError as exc:
            raise NoToken(f"{self._path}: no token: {exc.strerror or exc}") from exc


class ClientCredentials(AbstractTokenProvider):  # type: ignore[misc]
    """Tokens of an OAuth 2 token endpoint, kept until shortly before they run out."""

    def __init__(self, oauth: OAuth) -> None:
        self._oauth = oauth
        self._token = ""
        self._good_until = 0.0
        self._fetching = asyncio.Lock()

    async def token(self) -> str:
        """Return a token that is valid for half a minute or more.

        Raises:
            NoToken: the endpoint is unavailable or refused.
        """
        async with self._fetching:  # connections come several at a time
            if time.monotonic() >= self._good_until:
                await self._fetch()
            return self._token

    async def _fetch(self) -> None:
        oauth = self._oauth
        form = {"grant_type": "client_credentials"} | ({"scope": oauth.scope} if oauth.scope else {})
        headers = {"Authorization": _basic(oauth.client_id, oauth.client_secret.get_secret_value())}
        timeout = aiohttp.ClientTimeout(total=_TOKEN_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
                session.post(oauth.token_url, data=form, raise_for_status=True) as response,
            ):
                answer = orjson.loads(await _bounded(response.content))
                token, good_for_s = str(answer["access_token"]), float(answer.get("expires_in", _UNSAID_S))
        except aiohttp.ClientResponseError as exc:
            raise NoToken(f"{oauth.token_url}: no token: it answered {exc.status} {exc.message}") from exc
        except (aiohttp.ClientError, TimeoutError, KeyError, TypeError, ValueError, AttributeError) as exc:
            raise NoToken(f"{oauth.token_url}: no token: {type(exc).__name__}") from exc
        self._token, self._good_until = token, time.monotonic() + good_for_s - _MARGIN_S


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    """Read a token endpoint's answer.

    Raises:
        ValueError: it is larger than any token.
    """
    body = b""
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > _MOST_ANSWER:
            raise ValueError("an answer larger than any token")
    return body


def _basic(client_id: str, client_secret: str) -> str:
    """Return ``Authorization`` of a client: both parts are form-encoded first (RFC 6749, section 2.3.1)."""
    pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"
