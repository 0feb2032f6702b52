"""An event for people: a line that says what it is, and one with the fields of its data."""

from __future__ import annotations

from typing import Any

import click
import orjson


def event_lines(event: dict[str, Any], event_id: str, *marks: str) -> str:
    """One or two lines. The vendor's own fields (``raw``) are left out: ``--json`` has them.

    Args:
        event: parsed; may lack anything.
        event_id: shown even when the event has none.
        marks: words that need attention, such as ``repeated``.
    """
    head = " ".join(
        (
            click.style(str(event.get("recordedtime", ""))[:19].replace("T", " "), dim=True),
            click.style(str(event.get("type", "not an event")), bold=True),
            str(event.get("subject", "")),
            click.style(event_id, dim=True),
            *(click.style(mark, fg="yellow") for mark in marks),
        )
    )
    data = event.get("data")
    fields = {name: value for name, value in data.items() if name != "raw"} if isinstance(data, dict) else {}
    shown = "  ".join(f"{name}={_text(value)}" for name, value in fields.items())
    return f"{head}\n    {shown}" if shown else head


def _text(value: object) -> str:
    """Control characters are not for terminals: a message's text comes from anybody."""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)
