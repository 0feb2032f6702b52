"""A small HTTP/1.1 client that sends requests byte for byte, with the token and signature of their sender.

An ordinary client would correct the platform's requests: raw spaces and raw UTF-8 in the query, unusual content types,
header names in lower case. It also costs more than the gateway for the same request, and a load generator must not be
the slower side.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from random import Random
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from gateway.callbacks.sender_signatures import (
    SLACK_TIME,
    hmac_signature,
    slack_signature,
    stripe_signature,
    twilio_signature,
)
from gateway.callbacks.signature import Algorithm, SignaturePolicy, callbot_signature, general_signature
from gateway.config.settings import Auth, Signature
from gateway.errors import Transient
from gateway.ingest.endpoints import sender_policy
from gateway.signing import Signer
from gateway.traffic.simulator import TrafficRequest

Headers = list[tuple[str, str]]

#: For a request whose layout has no signature, at a path that requires one: the sample value of the vendor's table,
#: which does not distinguish a receipt from an incoming message (protocol.md, section 3).
_ACTION: Final = "mtsend"
#: Bytes of an answer, which is a word or a short JSON object; a longer one is not the gateway's.
_MOST_BODY: Final = 1024 * 1024
_CONNECT_S: Final = 5.0
_ANSWER_S: Final = 60.0


class RequestSigner:
    """Signs requests as the platform does, with the credentials of a path in ``config.yaml``.

    Args:
        auth: of the path; its first secret and token are used.
        scheme: ``general``, ``callbot``, ``hmac`` for another sender with further configuration, or None for a callback
            without a signature.
        rng: source of request ids.
        clock: returns the signed time.
    """

    def __init__(self, auth: Auth, scheme: str | None, rng: Random, clock: Callable[[], datetime]) -> None:
        self.auth, self.scheme, self.rng, self.clock = auth, scheme, rng, clock
        self._secrets = auth.signature.all_secrets if auth.signature else []
        self._tokens = auth.all_tokens

    def headers(self, request: TrafficRequest) -> Headers:
        """Return the headers of a request, in lower case as in the platform's samples."""
        found: Headers = []
        if self._tokens:
            found.append(("token", self._tokens[0]))
        if self._secrets and self.scheme is not None and self.auth.signature is not None:
            if self.scheme == "general":
                found += self._general(request, self.auth.signature)
            elif self.scheme == "callbot":
                found += self._callbot(request, self.auth.signature)
            else:
                own_id = f"msg_{self.rng.getrandbits(96):024x}"
                found += sender_headers(
                    sender_policy(self.auth.signature), request.body, int(self.clock().timestamp()), own_id
                )
        return found

    def _general(self, request: TrafficRequest, signature: Signature) -> Headers:
        access_key, action = signature.access_key or "demoAK01", request.action or _ACTION
        ts = str(int(self.clock().timestamp() * 1000))
        algorithm = _algorithm(signature)
        sign = general_signature(
            self._secrets[0],
            access_key=access_key,
            action=action,
            biz_type=request.biz_type,
            ts=ts,
            body=request.body,
            algorithm=algorithm,
        )
        found = [("accesskey", access_key), ("action", action), ("biztype", request.biz_type), ("ts", ts)]
        return [*found, ("sign", sign), *([("algorithm", algorithm)] if algorithm != "md5" else [])]

    def _callbot(self, request: TrafficRequest, signature: Signature) -> Headers:
        request_id, create_ts = f"{self.rng.getrandbits(128):032x}", str(int(self.clock().timestamp()))
        sign = callbot_signature(
            self._secrets[0],
            request_id=request_id,
            uuid="demoUuid0001",
            create_ts=create_ts,
            body=request.body,
            algorithm=_algorithm(signature),
        )
        return [("requestid", request_id), ("uuid", "demoUuid0001"), ("createts", create_ts), ("sign", sign)]


def _algorithm(signature: Signature) -> Algorithm:
    return "sha256" if signature.algorithm == "sha256" else "md5"


def sender_headers(policy: SignaturePolicy, body: bytes, time: int, own_id: str) -> Headers:
    """Return the signature headers of another sender, with the first secret.

    Args:
        policy: of the path.
        body: signed body.
        time: Unix seconds, for schemes that sign the time.
        own_id: message id, for schemes that sign it.

    Raises:
        ConfigError: the secret is a public key.
        Unauthenticated: Twilio would not send this body.
    """
    secret, stamp = policy.secrets[0], str(time)
    if policy.scheme == "standard-webhooks":
        sign = Signer([secret]).sign(own_id, time, body)
        names = (f"{policy.header}-{part}" for part in ("id", "timestamp", "signature"))
        return list(zip(names, (own_id, stamp, sign), strict=True))
    if policy.scheme == "stripe":
        return [(policy.signature_header, f"t={stamp},v1={stripe_signature(secret, stamp, body)}")]
    if policy.scheme == "slack":
        return [(SLACK_TIME, stamp), (policy.signature_header, slack_signature(secret, stamp, body))]
    if policy.scheme == "twilio":
        return [(policy.signature_header, twilio_signature(secret, policy.url, body))]
    return [(policy.signature_header, policy.prefix + hmac_signature(policy, secret, body))]


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
