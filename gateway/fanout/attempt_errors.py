"""Why an attempt failed, as a sentence with advice: the only place that makes it. Pure.

List, card, log line, dead letter, ``explain`` and API show the same sentence. It has addresses and names of the
configuration, and no part of an answer: that comes from others, and these sentences are logged.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

#: Kind of error, a part of its detail in lower case, and the advice: the first row that applies counts.
_BY_ERROR: Final[tuple[tuple[str, str, str], ...]] = (
    ("timeout", "", "it should store the event, answer, and work afterwards; or raise timeout_s"),
    ("connect", "refused", "is it running?"),
    ("connect", "too many open files", "raise the limit of open files of the gateway"),
    ("connect", "", "is the network, or a firewall, in between?"),
    ("dns", "", "is the name in url right, and does the resolver of this machine know it?"),
    ("tls", "the certificate of", ""),  # has its advice, see gateway.connectivity
    ("tls", "wrong version", "does it speak TLS on this port?"),
    ("tls", "certificate required", "set tls.cert_file to a certificate that it accepts"),
    ("tls", "", "see its certificate, and tls of the subscriber"),
    ("refused_address", "metadata", "no webhook is sent to the metadata service of a cloud"),
    ("refused_address", "loopback", "set allow_private"),
    ("refused_address", "private", "set allow_private"),
    ("refused_address", "link-local", "set allow_private"),
    ("refused_address", "carrier-grade", "set allow_private"),
    ("refused_address", "", "no webhook is sent there"),
    ("disconnected", "", "did it restart, or does something in between close connections?"),
    ("protocol", "", "is another service on this port?"),
    ("io", "", "does the folder exist, with space and the right to write?"),
    ("poison", "", "no attempt can succeed; correct the event's producer, or the transform"),
    ("not_an_event", "", "another program wrote this record; let it write CloudEvents"),
    ("internal", "", "this is a fault of the gateway; its log has more"),
    ("cancelled", "", "it is sent again, and may arrive twice"),
    ("withdrawn", "", "resume the replay to deliver it"),
)
#: By status, then by its hundreds.
_BY_STATUS: Final[dict[int, str]] = {
    400: "it does not understand the event: see its answer, and its log",
    401: "does it know the secret, or need a header (secrets, headers)?",
    403: "does it know the secret, or need a header (secrets, headers)?",
    404: "is the path in url right?",
    405: "the address in url must accept POST",
    408: "it gave up reading: is it overloaded?",
    410: "it wants no more events; resume it when it is ready",
    413: "the event is larger than it, or a proxy before it, accepts: raise that limit",
    415: "it must accept application/cloudevents+json",
    422: "it refuses this event: see its answer, and its log",
    429: "it asks for fewer: lower rate_per_s or concurrency",
    502: "the service behind its proxy does not answer",
    503: "it is overloaded, or being restarted",
    504: "the service behind its proxy is too slow",
    3: "redirects are not followed: set url to the new address",
    4: "see its answer, and its log",
    5: "it failed: see its log",
    1: "this is no answer to a webhook",
}
#: From the start of a word only: anywhere else, the cost would be the square of a long word.
_REFUSED: Final = re.compile(r"(?<!\S)(\S++) is refused: (\S+)")


def sentence(status: int | None, error: str | None, detail: str) -> str:
    """Return why an attempt failed and what to do; empty if it succeeded.

    Args:
        status: of the answer; None if there was none.
        error: kind of failure (:data:`~gateway.fanout.attempt.ErrorKind`) if there is no status.
        detail: what is known beyond the kind; a clause without a full stop.
    """
    if status is not None:
        if 200 <= status < 300:
            return ""
        advice = _BY_STATUS.get(status) or _BY_STATUS.get(status // 100, _BY_STATUS[1])
        return f"answered {status}{_phrase(status)}: {advice}"
    said = _REFUSED.sub(r"\2 address \1", detail.rstrip(".")) or str(error)
    found = [advice for kind, part, advice in _BY_ERROR if kind == error and part in said.lower()]
    return f"{said}: {found[0]}" if found and found[0] else said


def of_summary(result: str) -> str:
    """Return the sentence for a result of which only the word was kept: a status or the kind of an error."""
    if result.isdecimal():
        return sentence(int(result), None, "")
    return sentence(None, result, _WORDS.get(result, result.replace("_", " ")))


#: Of records that have no detail.
_WORDS: Final = {
    "timeout": "no whole answer in time",
    "connect": "cannot connect",
    "dns": "its name cannot be resolved",
    "tls": "TLS failed",
    "refused_address": "its address is refused",
    "disconnected": "the connection was closed before an answer came",
    "protocol": "the answer is not HTTP",
    "io": "cannot write",
    "poison": "this event can never be sent",
    "not_an_event": "the record is not an event",
    "internal": "an error inside the gateway",
    "cancelled": "its partition went to another process meanwhile",
    "withdrawn": "its replay was cancelled",
}


def _phrase(status: int) -> str:
    """Return the phrase of the standard and not the peer's, which is untrusted."""
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""
