"""One attempt as a value: the arguments and the result of a sink."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, Protocol

from gateway.fanout import attempt_errors
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
        return attempt_errors.sentence(self.status, self.error, self.detail)


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
