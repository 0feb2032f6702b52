"""Requests and answers of attempts, as ``gateway explain`` and the console show them, without secrets.

The part of a request that differs between attempts is small (time stamp, span, signature: some 40 bytes), and is stored
for each attempt. The part that all requests of a subscriber share is stored once for each record of attempts. The body
is the event, which the log has.

An answer has kilobytes, and most say nothing: keeping all of them would double what a delivery writes. So headers and
the first :data:`~gateway.fanout.attempt.HEAD_BYTES` of the body are kept of failures, of the success that ends them, of
replays, and of one other success of each subscriber a minute; and :class:`Budget` bounds their bytes.

Values of headers that look like a secret are hidden, in both directions. So are the values of the subscriber's own
headers wherever an answer repeats them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.config import webhook_url
from gateway.config.settings import Subscriber
from gateway.fanout.attempt import HEAD_BYTES, AttemptResult
from gateway.fanout.webhook import HIDDEN, fixed_headers, secrets_of, traceparent, without
from gateway.log import Record

#: Characters of a signature that are shown: enough to compare it with a receiver's log, too few to use it.
SIGNATURE_SHOWN: Final = 10
#: Bytes of answers kept at once, and in the long run a second: 350 MB a day while everything fails.
_BURST_BYTES: Final = 1024 * 1024
_BYTES_PER_S: Final = 4096.0
#: Of one answer: headers, and characters of the value of one.
_MOST_HEADERS: Final = 50
_MOST_VALUE: Final = 500
_SECRET_NAME: Final = re.compile(
    r"cookie|auth|token|secret|passw|credential|signature|session|(api|access|private)[-_]?key", re.IGNORECASE
)
_UNPRINTABLE: Final = re.compile(r"[^\t\x20-\x7e\xa0-\xff]")


@dataclass(frozen=True, slots=True)
class RequestShape:
    """The common part of all requests of a subscriber.

    Args:
        line: method and address, without the path: many addresses carry a secret there.
        headers: names and values; those of the subscriber's own headers are hidden.
        secrets: the values that are hidden.
    """

    line: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    secrets: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, subscriber: Subscriber) -> RequestShape:
        """Return that of a subscriber; an empty one if it is no webhook."""
        if subscriber.kind != "webhook" or subscriber.url is None:
            return cls()
        url = webhook_url.parse(subscriber.url)
        shown = fixed_headers(dict.fromkeys(subscriber.headers, HIDDEN))
        secrets = secrets_of(value.get_secret_value() for value in subscriber.headers.values())
        return cls(f"POST {url.origin}/…", (("host", url.authority), *shown.items()), secrets)


class Budget:
    """Bounds the bytes of the answers that are kept, of all subscribers together."""

    def __init__(self) -> None:
        self._left = float(_BURST_BYTES)
        self._at = 0.0

    def takes(self, size: int, now: float) -> bool:
        """Return whether an answer may be kept, and count it.

        Args:
            size: in bytes.
            now: Unix seconds.
        """
        self._left = min(_BURST_BYTES, self._left + max(0.0, now - self._at) * _BYTES_PER_S)
        self._at = now
        if size > self._left:
            return False
        self._left -= size
        return True


def size_of(result: AttemptResult) -> int:
    """Return the bytes that an answer takes, about."""
    return 100 + len(result.fields) + len(result.head) + len(result.detail)


def answer_of(result: AttemptResult, secrets: Sequence[bytes]) -> dict[str, Any]:
    """Return an answer as it is kept: ``detail``, ``headers``, ``body``, ``is_cut``.

    Args:
        result: of the attempt.
        secrets: values to hide.
    """
    secrets = [*secrets, *result.signature.encode().split()]
    kept: dict[str, Any] = {"detail": result.detail} if result.detail else {}
    if result.status is not None:
        kept["headers"] = list(_header_lines(without(result.fields, secrets).decode("latin-1")))
        kept["body"] = without(result.head, secrets).decode("utf-8", "replace")
        kept["is_cut"] = len(result.head) >= HEAD_BYTES
    return kept


def request_of(
    record: Record, shape: Mapping[str, Any] | None, sent: Sequence[Any], *, is_replay: bool
) -> dict[str, Any]:
    """Return the request of an attempt for people.

    Args:
        record: the event.
        shape: ``line`` and ``headers`` of :class:`RequestShape`.
        sent: of the attempt, as :mod:`gateway.fanout.attempts` keeps it.
        is_replay: whether it belongs to a replay.
    """
    timestamp, span, signature = sent
    own = [
        ("webhook-id", record.id),
        ("webhook-timestamp", str(timestamp)),
        ("traceparent", traceparent(record, span)),
        ("webhook-signature", f"{signature}…" if signature else ""),
        ("gateway-replay", "true" if is_replay else ""),
    ]
    headers = [*(shape or {}).get("headers", []), *([name, value] for name, value in own if value)]
    return {"line": (shape or {}).get("line", ""), "headers": headers}


def _header_lines(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if line.strip()]
    for line in lines[:_MOST_HEADERS]:
        name, colon, value = line.partition(":")
        if colon and name.strip():
            shown = HIDDEN if _SECRET_NAME.search(name) else _UNPRINTABLE.sub("?", value.strip())[:_MOST_VALUE]
            yield _UNPRINTABLE.sub("?", name.strip())[:_MOST_VALUE], shown
