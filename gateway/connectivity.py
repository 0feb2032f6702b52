"""Why another machine cannot be reached, in words; and names resolved within a time.

For ``gateway check``. A reason is a pair: what was seen, and what to do.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
from typing import Final, NamedTuple

#: Codes of X509_verify_cert_error_string(3).
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_UNTRUSTED: Final = frozenset({2, 18, 19, 20, 21})
_OTHER_NAME: Final = frozenset({62, 64})


class Reason(NamedTuple):
    """An observation and the advice: two parts of one sentence."""

    text: str
    advice: str


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name, each once, in the order of preference.

    The look-up runs in a thread that is abandoned when this is cancelled: the resolver of the C library may take half a
    minute, and the event loop's own threads are waited for at its end.

    Raises:
        OSError: there are none; see :func:`unresolved`.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[str]] = loop.create_future()

    def settle(addresses: list[str], error: OSError | None) -> None:
        if not found.done():
            found.set_exception(error) if error is not None else found.set_result(addresses)

    def look_up() -> None:
        addresses: list[str] = []
        error: OSError | None = None
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))
        except OSError as exc:
            error = exc
        except UnicodeError:  # a label of more than 63 characters
            error = OSError(0, "not a name of a host")
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, addresses, error)

    threading.Thread(target=look_up, name=f"resolve {host}", daemon=True).start()
    return await found


def unresolved(host: str, exc: OSError) -> Reason:
    """Return the reason of a name that has no address."""
    said = exc.strerror or str(exc)
    return Reason(f"the name {host} cannot be resolved: {said}", "correct the name, or this machine's name service")


def unreachable(where: str, exc: OSError) -> Reason:
    """Return the reason of a connection that was not made.

    Args:
        where: ``host:port``.
        exc: what connecting raised.
    """
    if isinstance(exc, ConnectionRefusedError):
        advice = "nothing listens there: start it, or correct host and port"
    else:
        advice = "check routes and firewalls between both machines"
    return Reason(f"{where} cannot be reached: {os_reason(exc)}", advice)


def silent(where: str, seconds: float) -> Reason:
    """Return the reason of a connection that was not made in time."""
    return Reason(
        f"{where} does not answer within {seconds:g} s", "check host and port, and firewalls between both machines"
    )


def os_reason(exc: OSError) -> str:
    """Return the operating system's words for an error, or the error's own."""
    return os.strerror(exc.errno).lower() if exc.errno and exc.errno > 0 else str(exc) or type(exc).__name__


def untrusted(where: str, exc: ssl.SSLCertVerificationError, ca_key: str) -> Reason:
    """Return the reason of a certificate that was not accepted.

    Args:
        where: ``host:port``.
        exc: what the handshake raised.
        ca_key: key path at which its authority can be given.
    """
    code = exc.verify_code
    if code == _EXPIRED:
        return Reason(f"the certificate of {where} has expired", "its owner has to renew it")
    if code == _NOT_YET_VALID:
        return Reason(f"the certificate of {where} is not valid yet", "compare the clocks of both machines")
    if code in _OTHER_NAME:
        said = exc.verify_message.rstrip(".")
        return Reason(f"the certificate of {where} is for another name: {said}", "use a name that the certificate has")
    if code in _UNTRUSTED:
        return Reason(
            f"the certificate of {where} is not trusted: {exc.verify_message}", f"give its authority in {ca_key}"
        )
    return Reason(f"the certificate of {where} is refused: {exc.verify_message}", "its owner has to replace it")


def tls_error(exc: BaseException | None) -> ssl.SSLError | None:
    """Return the TLS error among an error and its causes; None where there is none."""
    while exc is not None and not isinstance(exc, ssl.SSLError):
        exc = exc.__cause__ or exc.__context__
    return exc


def is_alert(exc: ssl.SSLError) -> bool:
    """Return whether the other side spoke TLS and said no, as for a client certificate that it misses."""
    return "ALERT" in (exc.reason or "") and exc.reason != "TLSV1_ALERT_PROTOCOL_VERSION"


async def speaks_tls(host: str, port: int) -> bool:
    """Return whether what listens there answers a TLS handshake. Its certificate does not matter, and nothing is sent.

    Raises:
        OSError: it does not, or cannot be connected to.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without the system's authorities, which take 30 ms to read
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        _, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLError as exc:
        return is_alert(exc)
    writer.transport.abort()
    return True
