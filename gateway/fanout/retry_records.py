"""Headers of an event that leaves the main topic: to a retry topic, a replay or the dead letters.

The event's bytes do not change; all other data is in headers, so that the tools of Kafka show it and
so that any process can continue where another one stopped:

=============================  ==============================================================
``gateway-subscriber``         whose it is: retry topics and ``replay`` are shared by all subscribers
``gateway-due``                Unix seconds before which it is not attempted
``gateway-moves``              how often it was appended again since its last attempt, see :mod:`.retry_topics`
``gateway-attempts``           attempts so far that count against the bound
``gateway-trail``              JSON, the last :data:`MAX_TRAIL` attempts: [Unix seconds, status or error, ms]
``gateway-first-attempt-at``   Unix seconds
``gateway-last-attempt-at``    Unix seconds
``gateway-stored-at``          Unix seconds when the event was first stored: its age counts from here
``gateway-origin``             topic, partition and offset in the main log: ``sms.dr@events:1234``
``gateway-replay``             ``true`` on replays
``gateway-replay-id``          of replays: its name, such as ``r-12``
``gateway-was-open``           of replays: ``true`` where the event was an open dead letter; its delivery closes it
``gateway-reason``             dead letters only: ``attempts``, ``age``, ``poison``, ``not_an_event``, ``no_subscriber``
``gateway-last-status``        dead letters only: status or kind of error
``gateway-last-detail``        dead letters only: one sentence
``gateway-last-response``      dead letters only: the first kilobyte of the last response, as text
``gateway-closes``             closing records only: ``delivered`` or ``resolved``
``gateway-closed-at``          closing records only: Unix seconds
``gateway-closed-by``          closing records only: who
``gateway-note``               closing records only: what a person wrote
=============================  ==============================================================

A *closing record* in ``dlq.<subscriber>`` closes the dead letters of its event before it. It has their id and their
key, so it is in their partition, and its value is an event of its own (type :data:`CLOSED_TYPE`): a reader of the topic
needs nothing new. An event that is given up again after it is open again.

Headers that came with the event (``traceparent``) stay. If the log accepts no record of that size, the record of a
dead letter has only reason, last status, attempts, origin, replay mark and ``gateway-stored-at``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

import orjson

from gateway.fanout.attempt import AttemptResult
from gateway.log import Entry, Headers, Record

#: Of attempts kept with an event. Twelve is the default bound; more than this only makes records large.
MAX_TRAIL: Final = 20
_PREFIX: Final = "gateway-"
#: Of the last response: a dead letter carries it in a header.
_RESPONSE_BYTES: Final = 1024
#: Header with the name of the subscriber.
SUBSCRIBER: Final = "gateway-subscriber"
#: The topic of events that are to be delivered again, of all subscribers.
REPLAY: Final = "replay"
#: Header with the name of a replay.
REPLAY_ID: Final = "gateway-replay-id"
_WAS_OPEN: Final = "gateway-was-open"
_CLOSES: Final = "gateway-closes"
#: Type of the event in a closing record.
CLOSED_TYPE: Final = "gateway.dead_letter.closed"
#: Headers that stay with the copy of a replay wherever it goes.
_OF_REPLAY: Final = frozenset({"gateway-replay", REPLAY_ID, _WAS_OPEN})
#: Headers that a dead letter must have: some hundred bytes.
_BARE: Final = frozenset(
    {
        "gateway-reason",
        "gateway-last-status",
        "gateway-attempts",
        "gateway-stored-at",
        "gateway-origin",
        "gateway-replay",
        REPLAY_ID,
    }
)

#: How a dead letter was closed.
Outcome = Literal["delivered", "resolved"]

Step = tuple[float, str, int]


@dataclass(frozen=True, slots=True)
class AttemptHistory:
    """The attempts on one event, as they travel with it.

    Args:
        attempts: those that count against the bound.
        steps: the last of them all: time, status or error, milliseconds.
        first_at: of the first attempt, Unix seconds; None before it.
        stored_at: when the event was first stored; None if it is the time of its record.
        origin: its place in the main log; empty if it is the place of its record.
        last: the last result, in this process.
    """

    attempts: int = 0
    steps: tuple[Step, ...] = ()
    first_at: float | None = None
    stored_at: float | None = None
    origin: str = ""
    last: AttemptResult = field(default_factory=AttemptResult)

    def add(self, at: float, result: AttemptResult, attempts: int) -> AttemptHistory:
        """Return the history with one more attempt."""
        step = (round(at, 3), result.summary, round(result.duration_s * 1000))
        return replace(
            self,
            attempts=attempts,
            steps=(*self.steps, step)[-MAX_TRAIL:],
            first_at=at if self.first_at is None else self.first_at,
            last=result,
        )


def retry_topic(tier_s: float) -> str:
    """Return the name of a retry topic, such as ``retry.60s``. It has one dot; topics of one subscriber had more."""
    whole = math.floor(tier_s)
    return f"retry.{whole}s" if whole == tier_s else f"retry.{math.ceil(tier_s * 1000)}ms"


def dlq_topic(subscriber: str) -> str:
    """Return the name of the topic of a subscriber's dead letters."""
    return f"dlq.{subscriber}"


def tier(tiers: Sequence[float], delay_s: float) -> float | None:
    """Return the longest tier that is not longer than the wait; None when the wait is too short for any."""
    return max((one for one in tiers if one <= delay_s), default=None)


def parked(record: Record, topic: str, trail: AttemptHistory, due: float, subscriber: str, *, moves: int = 0) -> Entry:
    """Return the entry that brings an event to a retry topic.

    Args:
        due: Unix seconds before which it is not attempted.
        subscriber: whose it is.
        moves: how often it was appended again without an attempt.
    """
    told: Headers = ((SUBSCRIBER, subscriber), ("gateway-due", f"{due:.3f}"))
    if moves:
        told = (*told, ("gateway-moves", str(moves)))
    return _entry(record, topic, (*told, *_trail_headers(record, trail)))


def dead_letter(record: Record, topic: str, trail: AttemptHistory, reason: str) -> Entry:
    """Return the entry that brings an event to the dead letters."""
    last = trail.last
    told = (
        ("gateway-reason", reason),
        ("gateway-last-status", trail.steps[-1][1] if trail.steps else ""),
        ("gateway-last-detail", last.sentence),
        ("gateway-last-response", last.head[:_RESPONSE_BYTES].decode("utf-8", "replace")),
    )
    return _entry(record, topic, (*told, *_trail_headers(record, trail)))


def bare(entry: Entry) -> Entry:
    """Return the same entry with as few headers as possible, for a log that accepts nothing larger."""
    return entry._replace(headers=tuple(header for header in entry.headers if header[0] in _BARE))


def last_forms(record: Record, trail: AttemptHistory, subscriber: str) -> tuple[Entry, Entry]:
    """Return what is kept of a parked event whose topic does not take it: a dead letter, and the least of it."""
    letter = dead_letter(record, dlq_topic(subscriber), trail, "poison")
    return letter, bare(letter)


def replay(record: Record, due: float, subscriber: str, *, name: str = "", was_open: bool = False) -> Entry:
    """Return the entry that delivers an event to its subscriber again; the count of attempts starts again.

    Args:
        record: the event, from its topic or from the dead letters.
        due: Unix seconds before which it is not attempted.
        subscriber: whose it is.
        name: of the replay, such as ``r-12``.
        was_open: the event is an open dead letter of the subscriber.
    """
    headers: Headers = (
        (SUBSCRIBER, subscriber),
        ("gateway-due", f"{due:.3f}"),
        ("gateway-replay", "true"),
        ("gateway-origin", origin(record)),
    )
    if name:
        headers = (*headers, (REPLAY_ID, name))
    if was_open:
        headers = (*headers, (_WAS_OPEN, "true"))
    return _entry(record, REPLAY, headers, keep_replay=False)


class Closing(NamedTuple):
    """How and by whom a dead letter was closed.

    Args:
        outcome: delivered by a replay, or resolved by a person.
        at: Unix seconds.
        by: name of the person's token; empty for a delivery.
        note: what the person wrote; empty for a delivery.
        replay: name of the replay that delivered it; empty where it is not known.
    """

    outcome: Outcome
    at: float
    by: str = ""
    note: str = ""
    replay: str = ""


def closing(record: Record, subscriber: str, how: Closing) -> Entry:
    """Return the entry that closes the dead letters of an event.

    Args:
        record: the dead letter, or a replay's copy of it: the event's id and key are taken from it.
        subscriber: whose dead letter it is.
        how: what is kept of it.
    """
    told = {"outcome": how.outcome, "by": how.by, "note": how.note, "replay": how.replay}
    event = {
        "specversion": "1.0",
        "id": record.id,
        "source": "/gateway/dead-letters",
        "type": CLOSED_TYPE,
        "subject": subscriber,
        "partitionkey": record.key,
        "time": datetime.fromtimestamp(how.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "data": {name: text for name, text in told.items() if text},
    }
    headers = (
        (_CLOSES, how.outcome),
        ("gateway-closed-at", f"{how.at:.3f}"),
        ("gateway-closed-by", how.by),
        ("gateway-note", how.note),
        (REPLAY_ID, how.replay),
    )
    kept = tuple(header for header in headers if header[1])
    return Entry(dlq_topic(subscriber), record.key, record.id, orjson.dumps(event), kept)


def is_closing(record: Record | Entry) -> bool:
    """Return whether a record of the dead letters closes earlier ones, and is none itself."""
    return bool(header(record, _CLOSES))


def read_closing(record: Record) -> Closing | None:
    """Return what a closing record says; None for any other record. A word that is not known counts as resolved."""
    headers = dict(record.headers)
    outcome = headers.get(_CLOSES)
    if outcome is None:
        return None
    at = _number(headers.get("gateway-closed-at"))
    return Closing(
        "delivered" if outcome == "delivered" else "resolved",
        record.appended_at if at is None else at,
        headers.get("gateway-closed-by", ""),
        headers.get("gateway-note", ""),
        headers.get(REPLAY_ID, ""),
    )


def replay_name(record: Record) -> str:
    """Return the name of the replay that a copy belongs to; empty where it has none."""
    return header(record, REPLAY_ID)


def header(record: Record | Entry, name: str) -> str:
    """Return the text of a header; empty where there is none."""
    for one, text in record.headers:
        if one == name:
            return text
    return ""


def was_open(record: Record) -> bool:
    """Return whether the copy of a replay closes a dead letter when it is delivered."""
    return (_WAS_OPEN, "true") in record.headers


class Parked(NamedTuple):
    """Read the headers of a parked record; an unreadable header counts as absent.

    Args:
        subscriber: whose it is; empty when that is not said.
        due: Unix seconds.
        moves: see :func:`parked`.
    """

    subscriber: str
    trail: AttemptHistory
    due: float
    is_replay: bool
    moves: int


def read(record: Record) -> Parked:
    """Return what the headers say about an event in a retry topic, or about a dead letter."""
    headers = dict(record.headers)
    trail = AttemptHistory(
        attempts=_count(headers.get("gateway-attempts")),
        steps=_steps(headers.get("gateway-trail")),
        first_at=_number(headers.get("gateway-first-attempt-at")),
        stored_at=_number(headers.get("gateway-stored-at")),
        origin=headers.get("gateway-origin", ""),
    )
    return Parked(
        headers.get(SUBSCRIBER, ""),
        trail,
        _number(headers.get("gateway-due")) or 0.0,
        headers.get("gateway-replay") == "true",
        _count(headers.get("gateway-moves")),
    )


def origin(record: Record) -> str:
    """Return the place of the event in the main log, through any number of moves."""
    return dict(record.headers).get("gateway-origin") or f"{record.topic}@{record.partition}:{record.offset}"


def _entry(record: Record, topic: str, told: Headers, *, keep_replay: bool = True) -> Entry:
    kept = tuple(
        (name, value)
        for name, value in record.headers
        if not name.startswith(_PREFIX) or (keep_replay and name in _OF_REPLAY)
    )
    return Entry(topic, record.key, record.id, record.value, (*kept, *told))


def _trail_headers(record: Record, trail: AttemptHistory) -> Headers:
    stored_at = record.appended_at if trail.stored_at is None else trail.stored_at
    told: Headers = (
        ("gateway-attempts", str(trail.attempts)),
        ("gateway-trail", orjson.dumps(trail.steps).decode()),
        ("gateway-stored-at", f"{stored_at:.3f}"),
        ("gateway-origin", trail.origin or origin(record)),
    )
    if not trail.steps:
        return told
    last_at = trail.steps[-1][0]
    return (
        *told,
        ("gateway-first-attempt-at", f"{last_at if trail.first_at is None else trail.first_at:.3f}"),
        ("gateway-last-attempt-at", f"{last_at:.3f}"),
    )


def _count(text: str | None) -> int:
    return max(0, int(_number(text) or 0))


def _number(text: str | None) -> float | None:
    try:
        number = math.nan if text is None else float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _steps(text: str | None) -> tuple[Step, ...]:
    try:
        return tuple((float(at), str(what), int(ms)) for at, what, ms in orjson.loads(text or "[]"))
    except (orjson.JSONDecodeError, TypeError, ValueError, OverflowError):
        return ()
