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
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    reason = await _unreachable(host, port, where) or await _no_token(options)
    if reason is not None:
        return reason
    connection = _connection(options, host, port, options.security)
    try:
        async with asyncio.timeout(_LOGIN_S):
            await connection.connect()
            metadata = await connection.send(topics_and_rights([]))
    except TOO_OLD:
        connection.close()
        return Reason(f"{where} is a Kafka older than 2.3, which cannot be asked", "update Kafka")
    except _ERRORS as exc:
        connection.close()
        return await _refused(options, host, port, where, exc)
    except BaseException:
        connection.close()
        raise
    if not metadata.brokers and options.security.get("sasl_mechanism") == "OAUTHBEARER":
        # The broker refuses within a success (RFC 7628, section 3.2.2), which aiokafka 0.14 does not read, and answers
        # the next request with an error: without brokers.
        connection.close()
        return Reason(f"{where} refuses the login by OAUTHBEARER", "check the token (kafka.security.oauth)")
    return Broker(where, connection, metadata)


async def close(connection: Any) -> None:
    """Close a connection and wait until it is closed, for a moment at most."""
    with suppress(Exception):
        async with asyncio.timeout(_PROBE_S):
            await connection.close()


def _connection(options: KafkaOptions, host: str, port: int, security: Any) -> Any:
    return AIOKafkaConnection(
        host, port, client_id=options.client_id, request_timeout_ms=int(_LOGIN_S * 1000), **security
    )


async def _unreachable(host: str, port: int, where: str) -> Reason | None:
    try:
        async with asyncio.timeout(_CONNECT_S):
            await connectivity.resolve(host, port)
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return connectivity.silent(where, _CONNECT_S)
    except OSError as exc:
        is_name = type(exc).__name__ == "gaierror" or exc.errno == 0
        return connectivity.unresolved(host, exc) if is_name else connectivity.unreachable(where, exc)
    writer.close()
    return None


async def _no_token(options: KafkaOptions) -> Reason | None:
    provider = options.security.get("sasl_oauth_token_provider")
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


async def _refused(options: KafkaOptions, host: str, port: int, where: str, exc: BaseException) -> Reason:
    """Return why a reachable broker refuses the gateway."""
    security = options.security
    protocol = security.get("security_protocol", "PLAINTEXT")
    mechanism = security.get("sasl_mechanism")
    found = connectivity.tls_error(exc)
    if isinstance(found, ssl.SSLCertVerificationError):
        return connectivity.untrusted(where, found, "kafka.security.ca_file")
    if isinstance(exc, errors.IllegalSaslStateError):
        return Reason(
            f"{where} takes no login, and kafka.security.protocol is {protocol}",
            f"set it to {protocol.removeprefix('SASL_')}, or use the listener with login",
        )
    if isinstance(exc, errors.UnsupportedSaslMechanismError):
        offered = await _mechanisms(options, host, port)
        return Reason(
            f"{where} does not take the login by {mechanism}" + (f"; it takes {', '.join(offered)}" if offered else ""),
            "set kafka.security.sasl_mechanism to one that it takes, or enable this one at the broker",
        )
    if isinstance(exc, errors.SaslAuthenticationFailed):
        return Reason(
            f"{where} refuses the login by {mechanism}: {_words(exc)}",
            "check the token (kafka.security.oauth)"
            if mechanism == "OAUTHBEARER"
            else "check kafka.security.username and kafka.security.password",
        )
    if found is not None and connectivity.is_alert(found):
        return Reason(
            f"{where} refuses our side of TLS: {found.reason}",
            "set kafka.security.cert_file and kafka.security.key_file to a certificate that the broker accepts",
        )
    return await _other_way(options, host, port, where, exc)


async def _other_way(options: KafkaOptions, host: str, port: int, where: str, exc: BaseException) -> Reason:
    """Return what the listener expects instead, found by trying it."""
    protocol = options.security.get("security_protocol", "PLAINTEXT")
    has_tls, has_login = protocol.endswith("SSL"), protocol.startswith("SASL_")
    login = "SASL_" if has_login else ""
    if has_tls and await _is_so(_speaks_plain(options, host, port)):
        return Reason(
            f"{where} speaks without TLS, and kafka.security.protocol is {protocol}",
            f"set it to {login}PLAINTEXT, or use the listener with TLS",
        )
    if not has_tls and await _is_so(connectivity.speaks_tls(host, port)):
        return Reason(
            f"{where} speaks TLS, and kafka.security.protocol is {protocol}",
            f"set it to {login}SSL, and ca_file where the authority is your own",
        )
    if not has_login and (offered := await _mechanisms(options, host, port)):
        return Reason(
            f"{where} asks for a login, and kafka.security.protocol is {protocol}",
            f"set it to SASL_{protocol}, with username, password and sasl_mechanism out of {', '.join(offered)}",
        )
    if isinstance(exc, TimeoutError):
        return Reason(
            f"{where} can be connected to and does not answer within {_LOGIN_S:g} s",
            "is it the port of a broker? If so, see what the broker logs",
        )
    return Reason(
        f"{where} closes the connection: {_words(exc)}", "is it the port of a broker? If so, see what the broker logs"
    )


async def _is_so(probe: Awaitable[bool]) -> bool:
    try:
        async with asyncio.timeout(_PROBE_S):
            return await probe
    except _ERRORS:
        return False


async def _speaks_plain(options: KafkaOptions, host: str, port: int) -> bool:
    connection = _connection(options, host, port, {"security_protocol": "PLAINTEXT"})
    try:
        await connection.connect()
    finally:
        connection.close()
    return True


async def _mechanisms(options: KafkaOptions, host: str, port: int) -> list[str]:
    """Return the mechanisms that the listener accepts; none if it accepts no login."""
    protocol = options.security.get("security_protocol", "PLAINTEXT").removeprefix("SASL_")
    security = {"security_protocol": protocol, "ssl_context": options.security.get("ssl_context")}
    connection = _connection(options, host, port, security)
    try:
        async with asyncio.timeout(_PROBE_S):
            await connection.connect()
            answer = await connection.send(SaslHandShakeRequest("PLAIN"))
    except _ERRORS:
        return []
    finally:
        connection.close()
    return [] if answer.error_code == errors.IllegalSaslStateError.errno else sorted(answer.enabled_mechanisms)


def _words(exc: BaseException) -> str:
    """Return an error's own words, printable and short."""
    found = exc.__cause__ if isinstance(exc, errors.KafkaConnectionError) and exc.__cause__ is not None else exc
    if isinstance(found, EOFError):
        return "it was closed by the other side"
    text = " ".join(str(found).split()) or type(found).__name__
    shown = "".join(letter for letter in text if letter.isprintable())
    return shown[:_MOST_WORDS].rpartition("Failed: ")[2]
