"""Tables and times as commands print them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

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
