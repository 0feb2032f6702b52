"""One attempt as a value: the arguments and the result of a sink, and why it failed, as a sentence with advice.

List, card, log line, dead letter, ``explain`` and API show the same sentence. It has addresses and names of the
configuration, and no part of an answer: that comes from others, and these sentences are logged.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final, Literal, NamedTuple, Protocol, cast

from gateway.log import Record

#: Why there is no status. ``refused_address``: see :mod:`.ssrf`. ``protocol``: the answer is not HTTP. ``poison``: the
#: record can never be sent. ``not_an_event``: another producer wrote it. ``internal``: a bug of the gateway, logged
#: with its trace. ``cancelled``: cancelled when another process got its partition; the outcome is not known.
#: ``withdrawn``: not attempted, as its replay was cancelled.
ErrorKind = Literal[
    "timeout",
    "connect",
    "dns",
    "tls",
    "refused_address",
    "disconnected",
    "protocol",
    "io",
    "poison",
    "not_an_event",
    "internal",
    "cancelled",
    "withdrawn",
]

#: Kind of error, and reason of the dead letter, of a record that holds no event.
NOT_AN_EVENT: Final = "not_an_event"

#: Bytes of a response that are kept for people. Ten times more is no error message but a page.
HEAD_BYTES: Final = 4096

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


class AttemptResult(NamedTuple):
    """How one attempt ended. A subscriber answering 500 is such a value, never an exception.

    A named tuple, as one is made for every attempt on the hot path.

    Args:
        status: HTTP status, or None when there was no answer.
        error: kind of failure when there is no status.
        detail: what is known beyond status and kind; a clause without payload.
        retry_after_s: wait that the answer asks for, in seconds, not yet limited.
        head: the first :data:`HEAD_BYTES` of the response.
        duration_s: from the start of the attempt to the end of the response.
        span: id of the attempt's span, 16 hex digits, as in the webhook's ``traceparent``; empty for other sinks.
        fields: the header lines of the response, as they came.
        timestamp: ``webhook-timestamp`` of the request, Unix seconds; 0: no request was made.
        signature: ``webhook-signature`` of the request.
    """

    status: int | None = None
    error: ErrorKind | None = None
    detail: str = ""
    retry_after_s: float | None = None
    head: bytes = b""
    duration_s: float = 0.0
    span: str = ""
    fields: bytes = b""
    timestamp: int = 0
    signature: str = ""

    @property
    def is_success(self) -> bool:
        """Whether the subscriber accepted the event."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_overload(self) -> bool:
        """Whether the subscriber is overloaded: there must be fewer attempts at a time."""
        return self.status in {429, 503} or self.error == "timeout"

    @property
    def summary(self) -> str:
        """Status or kind of error, as in logs and dead letters."""
        return str(self.status) if self.status is not None else str(self.error)

    @property
    def sentence(self) -> str:
        """Why it failed and what to do, for people and logs; empty if it succeeded."""
        if self.is_success:
            return ""
        if self.status is not None:
            advice = _BY_STATUS.get(self.status) or _BY_STATUS.get(self.status // 100, _BY_STATUS[1])
            return f"answered {self.status}{_phrase(self.status)}: {advice}"
        said = _REFUSED.sub(r"\2 address \1", self.detail.rstrip(".")) or str(self.error)
        found = [advice for kind, part, advice in _BY_ERROR if kind == self.error and part in said.lower()]
        return f"{said}: {found[0]}" if found and found[0] else said


class Sink(Protocol):
    """Where a subscriber's events go: a webhook or a file."""

    async def attempt(self, record: Record, *, is_replay: bool) -> AttemptResult:
        """Try once. Never raises because of the subscriber; may be cancelled, with the outcome unknown.

        Args:
            record: the event.
            is_replay: it is marked as a replay.

        Raises:
            Poison: this record can never be sent, such as one that a transform cannot read.
        """

    async def close(self) -> None:
        """Release connections and files. May be called twice."""


def sentence_of(summary: str) -> str:
    """Return the sentence for a result of which only :attr:`AttemptResult.summary` was kept."""
    if summary.isdecimal():
        return AttemptResult(int(summary)).sentence
    detail = _WORDS.get(summary, summary.replace("_", " "))
    return AttemptResult(error=cast("ErrorKind", summary), detail=detail).sentence


def _phrase(status: int) -> str:
    """Return the phrase of the standard and not the peer's, which is untrusted."""
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""
