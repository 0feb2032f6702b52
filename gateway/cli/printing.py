"""Output of commands for people: tables, times, and a one-line summary of an event."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import click
import orjson
from rich.cells import cell_len

#: Colours of words that describe a state.
COLOURS = {
    word: colour
    for colour, words in {
        "green": "delivered healthy resolved done",
        "yellow": "degraded running cancelled paused retried retrying parked waiting",
        "red": "down interrupted failed stopped dead_lettered lost",
        "bright_black": "withdrawn skipped fetched unknown",
    }.items()
    for word in words.split()
}
#: Characters of a text that a person wrote; --json has all of it.
_MAX_TEXT: Final = 80
#: Fields of an event that has no line of its own.
_MAX_FIELDS: Final = 6
_GOOD: Final = frozenset({"delivered", "read", "sent", "answered", "completed", "success", "valid"})
_BAD: Final = frozenset(
    {"undelivered", "rejected", "failed", "expired", "deleted", "dnd", "invalid_sender", "invalid_recipient", "busy"}
)

_Data = Mapping[str, Any]


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print plain columns as wide as needed: nothing is cut or wrapped, so that lines can be searched and copied."""
    cells = [[_text(cell) for cell in row] for row in rows]
    widths = [max(cell_len(cell) for cell in column) for column in zip(columns, *cells, strict=True)]
    click.echo(_line(columns, widths, lambda _: {"bold": True}))
    for row in cells:
        click.echo(_line(row, widths, lambda cell: {"fg": COLOURS.get(cell)}))


def print_json(value: object) -> None:
    """Print one document."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2))


def local(when: float | str | None, *, with_ms: bool = False) -> str:
    """Return a time in this machine's zone; empty where there is none.

    Args:
        when: Unix seconds, or a time as events have it (RFC 3339).
        with_ms: with milliseconds.
    """
    if when is None:
        return ""
    try:
        moment = datetime.fromisoformat(when) if isinstance(when, str) else datetime.fromtimestamp(when, UTC)
    except ValueError:  # of another producer
        return str(when)
    moment = moment.astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S") + (f".{moment.microsecond // 1000:03d}" if with_ms else "")


def coloured(word: str) -> str:
    """Return a word that describes a state, in its colour on terminals."""
    return click.style(word, fg=COLOURS.get(word))


def printable(value: object) -> str:
    """Return a value as text with control characters escaped: an untrusted sender may have written it."""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def _line(cells: Sequence[str], widths: Sequence[int], style: Callable[[str], dict[str, Any]]) -> str:
    padded = (
        click.style(cell, **style(cell)) + " " * (width - cell_len(cell))
        for cell, width in zip(cells, widths, strict=True)
    )
    return "  ".join(padded).rstrip()


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:,}" if isinstance(cell, int) else printable(str(cell))


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
        yield " ".join(_words(part) for part in (data.get("status_code"), title) if part)
    yield _price(data)


def _call(data: _Data) -> Iterator[str]:
    yield _status(data.get("outcome") or data.get("state"))
    yield _way(data)
    if isinstance(data.get("duration_s"), (int, float)):
        yield f"{data['duration_s']:g} s"
    hangup = data.get("hangup")
    if isinstance(hangup, dict) and (why := hangup.get("reason") or hangup.get("cause")):
        yield f"hangup: {_words(why)}"
    yield _price(data)


def _task(data: _Data) -> Iterator[str]:
    yield _status(data.get("status"))
    yield _words(data.get("name"))
    counters = data.get("counters")
    if isinstance(counters, dict):
        yield " ".join(f"{printable(name)} {_words(count)}" for name, count in counters.items())


def _incoming(data: _Data) -> Iterator[str]:
    yield _words(data.get("kind"))
    yield _way(data)
    for name in ("text", "reply", "form_reply", "reaction", "location", "media", "contacts", "order"):
        if (value := data.get(name)) is not None:
            yield f"“{_words(value)}”" if name == "text" else f"{name} {_words(value)}"


def _rejected(data: _Data) -> Iterator[str]:
    for name in ("callback", "path", "reason"):
        yield _words(data.get(name))


def _any(data: _Data) -> Iterator[str]:
    shown = [(name, value) for name, value in data.items() if name != "raw" and value not in (None, "", {}, [])]
    for name, value in shown[:_MAX_FIELDS]:
        yield f"{printable(name)}={_words(value)}"


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
    text = _words(word)
    return click.style(text, fg="green" if text in _GOOD else "red" if text in _BAD else "yellow") if text else ""


def _way(data: _Data) -> str:
    """Return who to whom, as far as it is known."""
    ends = [_words(data.get("from")), _words(data.get("to"))]
    return " → ".join(ends) if all(ends) else f"→ {ends[1]}" if ends[1] else f"{ends[0]} →" if ends[0] else ""


def _price(data: _Data) -> str:
    price = data.get("price")
    if not isinstance(price, dict) or not (amount := price.get("total") or price.get("unit")):
        return ""
    return f"{_words(amount)} {_words(price.get('currency'))}".rstrip()


def _words(value: object) -> str:
    """Return a value as text of limited length without control characters, which a message may contain."""
    if value is None:
        return ""
    text = printable(value)
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"
