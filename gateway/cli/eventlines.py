"""An event for people: one line that says what happened, by the topic it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import click

from gateway.cli.tables import printable

#: Characters of a text that a person wrote; --json has all of it.
_MAX_TEXT: Final = 80
#: Fields of an event that has no line of its own.
_MAX_FIELDS: Final = 6
_GOOD: Final = frozenset({"delivered", "read", "sent", "answered", "completed", "success", "valid"})
_BAD: Final = frozenset(
    {"undelivered", "rejected", "failed", "expired", "deleted", "dnd", "invalid_sender", "invalid_recipient", "busy"}
)

_Data = Mapping[str, Any]


def event_line(event: Mapping[str, Any], event_id: str, *marks: str, topic: str | None = None) -> str:
    """Return one line. The vendor's own fields (``raw``) are left out: ``--json`` has them.

    Args:
        event: parsed; may lack anything.
        event_id: shown even when the event has none.
        marks: words that need attention, such as ``repeated``.
        topic: where it was read; None: by its type.
    """
    kind = str(event.get("type", "not an event"))
    data = event.get("data")
    fields = data if isinstance(data, dict) else {}
    words = _WORDS.get(topic or _topics_by_type().get(kind, ""), _any)
    parts = (
        click.style(_time(event.get("recordedtime")), dim=True),
        click.style(printable(kind), bold=True),
        printable(str(event.get("subject", ""))),
        *words(fields),
        click.style(printable(event_id), dim=True),
        *(click.style(mark, fg="yellow") for mark in marks),
    )
    return "  ".join(part for part in parts if part)


def _message_status(data: _Data) -> Iterator[str]:
    yield _status(data.get("status"))
    yield _way(data)
    if data.get("delivered") is not True:
        error = data.get("error")
        title = error.get("title") if isinstance(error, dict) else data.get("result")
        yield " ".join(_text(part) for part in (data.get("status_code"), title) if part)
    yield _price(data)


def _call(data: _Data) -> Iterator[str]:
    yield _status(data.get("outcome") or data.get("state"))
    yield _way(data)
    if isinstance(data.get("duration_s"), (int, float)):
        yield f"{data['duration_s']:g} s"
    hangup = data.get("hangup")
    if isinstance(hangup, dict) and (why := hangup.get("reason") or hangup.get("cause")):
        yield f"hangup: {_text(why)}"
    yield _price(data)


def _task(data: _Data) -> Iterator[str]:
    yield _status(data.get("status"))
    yield _text(data.get("name"))
    counters = data.get("counters")
    if isinstance(counters, dict):
        yield " ".join(f"{printable(name)} {_text(count)}" for name, count in counters.items())


def _incoming(data: _Data) -> Iterator[str]:
    yield _text(data.get("kind"))
    yield _way(data)
    for name in ("text", "reply", "form_reply", "reaction", "location", "media", "contacts", "order"):
        if (value := data.get(name)) is not None:
            yield f"“{_text(value)}”" if name == "text" else f"{name} {_text(value)}"


def _rejected(data: _Data) -> Iterator[str]:
    for name in ("callback", "path", "reason"):
        yield _text(data.get(name))


def _any(data: _Data) -> Iterator[str]:
    shown = [(name, value) for name, value in data.items() if name != "raw" and value not in (None, "", {}, [])]
    for name, value in shown[:_MAX_FIELDS]:
        yield f"{printable(name)}={_text(value)}"


#: Topic → the words between subject and id.
_WORDS: Final[Mapping[str, Callable[[_Data], Iterator[str]]]] = {
    "sms.dr": _message_status,
    "message.status": _message_status,
    "email.dr": _message_status,
    "verify.status": _message_status,
    "call.event": _call,
    "task.status": _task,
    "message.incoming": _incoming,
    "callbacks.rejected": _rejected,
}


@cache
def _topics_by_type() -> dict[str, str]:
    from gateway.schema.events import topics  # the callbacks take a while to import; no help text waits for them

    return {kind: topic for topic, kinds in topics().items() for kind in kinds}


def _time(text: object) -> str:
    """Return a time in this machine's zone, with its date where that is not today; as it came where it is none."""
    try:
        moment = datetime.fromisoformat(str(text)).astimezone()
    except (ValueError, OverflowError):
        return printable(str(text or ""))[:26]
    is_today = moment.date() == datetime.now(UTC).astimezone().date()
    return moment.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S")


def _status(word: object) -> str:
    text = _text(word)
    return click.style(text, fg="green" if text in _GOOD else "red" if text in _BAD else "yellow") if text else ""


def _way(data: _Data) -> str:
    """Return who to whom, as far as it is known."""
    ends = [_text(data.get("from")), _text(data.get("to"))]
    return " → ".join(ends) if all(ends) else f"→ {ends[1]}" if ends[1] else f"{ends[0]} →" if ends[0] else ""


def _price(data: _Data) -> str:
    price = data.get("price")
    if not isinstance(price, dict) or not (amount := price.get("total") or price.get("unit")):
        return ""
    return f"{_text(amount)} {_text(price.get('currency'))}".rstrip()


def _text(value: object) -> str:
    """Return a value as text of limited length without control characters, which a message may contain."""
    if value is None:
        return ""
    text = printable(value)
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"
