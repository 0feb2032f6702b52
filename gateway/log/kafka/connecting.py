"""One connection to one broker, or the reason why there is none: which of protocol, certificate and login is wrong.

Brokers do not state what they expect: a listener closes a connection with the wrong protocol. So after a failure that
could have this cause, the other protocol is tried without credentials.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import errors
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.admin import SaslHandShakeRequest

from gateway import connectivity
from gateway.connectivity import Reason
from gateway.log.kafka.errors import TOO_OLD
from gateway.log.kafka.options import KafkaOptions
from gateway.log.kafka.requests import topics_and_rights

#: To connect, to shake hands and log in, and for one probe: together below what ``gateway check`` has in all.
_CONNECT_S: Final = 2.5
_LOGIN_S: Final = 3.0
_PROBE_S: Final = 1.5
#: Characters of a broker's own error text, which is shown unchanged.
_MOST_WORDS: Final = 200

_ERRORS: Final = (errors.KafkaError, OSError, EOFError, TimeoutError, AssertionError, ValueError)


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that answers.

    Args:
        where: ``host:port`` as it was connected to.
        connection: aiokafka's, logged in.
        metadata: its answer to :func:`.requests.topics_and_rights` about no topic.
    """

    where: str
    connection: Any
    metadata: Any


async def connect(options: KafkaOptions, host: str, port: int) -> Broker | Reason:
    """Connect, log in, and ask for the cluster; or return the reason why not. The caller closes the connection."""
    return await _Listener(options, host, port).connect()


async def close(connection: Any) -> None:
    """Close a connection and wait until it is closed, for a moment at most."""
    with suppress(Exception):
        async with asyncio.timeout(_PROBE_S):
            await connection.close()


class _Listener:
    """An address of a broker."""

    def __init__(self, options: KafkaOptions, host: str, port: int) -> None:
        self._client_id = options.client_id
        self._security = options.security
        self._protocol: str = options.security.get("security_protocol", "PLAINTEXT")
        self._mechanism: str | None = options.security.get("sasl_mechanism")
        self._host = host
        self._port = port
        self._where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def connect(self) -> Broker | Reason:
        reason = await self._unreachable() or await self._no_token()
        if reason is not None:
            return reason
        connection = self._connection(self._security)
        try:
            async with asyncio.timeout(_LOGIN_S):
                await connection.connect()
                metadata = await connection.send(topics_and_rights([]))
        except TOO_OLD:
            connection.close()
            return Reason(f"{self._where} is a Kafka older than 2.3, which cannot be asked", "update Kafka")
        except _ERRORS as exc:
            connection.close()
            return await self._refused(exc)
        except BaseException:
            connection.close()
            raise
        if not metadata.brokers and self._mechanism == "OAUTHBEARER":
            # The broker refuses within a success (RFC 7628, section 3.2.2), which aiokafka 0.14 does not read, and
            # answers the next request with an error: without brokers.
            connection.close()
            return Reason(f"{self._where} refuses the login by OAUTHBEARER", "check the token (kafka.security.oauth)")
        return Broker(self._where, connection, metadata)

    def _connection(self, security: Any) -> Any:
        limit_ms = int(_LOGIN_S * 1000)
        return AIOKafkaConnection(
            self._host, self._port, client_id=self._client_id, request_timeout_ms=limit_ms, **security
        )

    async def _unreachable(self) -> Reason | None:
        try:
            async with asyncio.timeout(_CONNECT_S):
                await connectivity.resolve(self._host, self._port)
                _, writer = await asyncio.open_connection(self._host, self._port)
        except TimeoutError:
            return connectivity.silent(self._where, _CONNECT_S)
        except OSError as exc:
            is_name = type(exc).__name__ == "gaierror" or exc.errno == 0
            if is_name:
                return connectivity.unresolved(self._host, exc)
            return connectivity.unreachable(self._where, exc)
        writer.close()
        return None

    async def _no_token(self) -> Reason | None:
        provider = self._security.get("sasl_oauth_token_provider")
        if provider is None:
            return None
        try:
            async with asyncio.timeout(_LOGIN_S):
                await provider.token()
        except TimeoutError:
            return Reason(f"no token for the login within {_LOGIN_S:g} s", "look at kafka.security.oauth")
        except OSError as exc:
            return Reason(f"no token for the login: {exc}", "look at kafka.security.oauth")
        return None

    async def _refused(self, exc: BaseException) -> Reason:
        """Return why a reachable broker refuses the gateway."""
        where, found = self._where, connectivity.tls_error(exc)
        if isinstance(found, ssl.SSLCertVerificationError):
            return connectivity.untrusted(where, found, "kafka.security.ca_file")
        if isinstance(exc, errors.IllegalSaslStateError):
            return Reason(
                f"{where} accepts no login, and kafka.security.protocol is {self._protocol}",
                f"set it to {self._protocol.removeprefix('SASL_')}, or use the listener with login",
            )
        if isinstance(exc, errors.UnsupportedSaslMechanismError):
            offered = ", ".join(await self._mechanisms())
            return Reason(
                f"{where} does not accept the login by {self._mechanism}"
                + (f"; it accepts {offered}" if offered else ""),
                "set kafka.security.sasl_mechanism to one that it accepts, or enable this one at the broker",
            )
        if isinstance(exc, errors.SaslAuthenticationFailed):
            return Reason(
                f"{where} refuses the login by {self._mechanism}: {_words(exc)}",
                "check the token (kafka.security.oauth)"
                if self._mechanism == "OAUTHBEARER"
                else "check kafka.security.username and kafka.security.password",
            )
        if found is not None and connectivity.is_alert(found):
            return Reason(
                f"{where} refuses our side of TLS: {found.reason}",
                "set kafka.security.cert_file and kafka.security.key_file to a certificate that the broker accepts",
            )
        return await self._other_way(exc)

    async def _other_way(self, exc: BaseException) -> Reason:
        """Return what the listener expects instead, found by trying it."""
        is_set = f"and kafka.security.protocol is {self._protocol}"
        has_tls, has_login = self._protocol.endswith("SSL"), self._protocol.startswith("SASL_")
        login = "SASL_" if has_login else ""
        if has_tls and await _is_so(self._speaks_plain()):
            return Reason(
                f"{self._where} speaks without TLS, {is_set}",
                f"set it to {login}PLAINTEXT, or use the listener with TLS",
            )
        if not has_tls and await _is_so(connectivity.speaks_tls(self._host, self._port)):
            return Reason(
                f"{self._where} speaks TLS, {is_set}",
                f"set it to {login}SSL, and ca_file where the authority is your own",
            )
        if not has_login and (offered := await self._mechanisms()):
            advice = f"set it to SASL_{self._protocol}, with username, password and sasl_mechanism out of "
            return Reason(f"{self._where} asks for a login, {is_set}", advice + ", ".join(offered))
        advice = "is it the port of a broker? If so, see what the broker logs"
        if isinstance(exc, TimeoutError):
            return Reason(f"{self._where} can be connected to and does not answer within {_LOGIN_S:g} s", advice)
        return Reason(f"{self._where} closes the connection: {_words(exc)}", advice)

    async def _speaks_plain(self) -> bool:
        connection = self._connection({"security_protocol": "PLAINTEXT"})
        try:
            await connection.connect()
        finally:
            connection.close()
        return True

    async def _mechanisms(self) -> list[str]:
        """Return the mechanisms that the listener accepts; none if it accepts no login."""
        protocol = self._protocol.removeprefix("SASL_")
        connection = self._connection({"security_protocol": protocol, "ssl_context": self._security.get("ssl_context")})
        try:
            async with asyncio.timeout(_PROBE_S):
                await connection.connect()
                answer = await connection.send(SaslHandShakeRequest("PLAIN"))
        except _ERRORS:
            return []
        finally:
            connection.close()
        return [] if answer.error_code == errors.IllegalSaslStateError.errno else sorted(answer.enabled_mechanisms)


async def _is_so(probe: Awaitable[bool]) -> bool:
    try:
        async with asyncio.timeout(_PROBE_S):
            return await probe
    except _ERRORS:
        return False


def _words(exc: BaseException) -> str:
    """Return an error's own words, printable and short."""
    found = exc.__cause__ if isinstance(exc, errors.KafkaConnectionError) and exc.__cause__ is not None else exc
    if isinstance(found, EOFError):
        return "it was closed by the other side"
    text = " ".join(str(found).split()) or type(found).__name__
    shown = "".join(letter for letter in text if letter.isprintable())
    return shown[:_MOST_WORDS].rpartition("Failed: ")[2]
