"""Tables for the documents, and the reference of events: every topic, type and field, from the schemas.

A test keeps the documents in step with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import click
from pydantic import SecretStr

from gateway.callbacks import CALLBACKS
from gateway.config.schema_tree import ConfigKey, NodeKind, keys
from gateway.schema.events import Schema, event_schemas, topics

_UNITS: Final = (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))
_SPANS: Final = (("d", 86400), ("h", 3600), ("m", 60))
_DECIMAL: Final = r"^-?\d+(\.\d+)?$"
_KINDS: Final = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "object",
    "array": "list",
}


def configuration_table() -> str:
    """Return a table of every key of ``config.yaml``: default, meaning."""
    return _table(
        ("Key", "Default", "Meaning"),
        ((f"`{key.path}`", _default(key), _meaning(key)) for key in keys() if not _is_heading(key)),
    )


def commands_table(group: click.Group) -> str:
    """Return a table of every command: what it does, and its options."""
    rows: list[tuple[str, str]] = []
    context = click.Context(group, info_name="gateway")
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if not isinstance(command, click.Group) or command.invoke_without_command:
            rows.append((f"`gateway {_usage(command)}`", command.get_short_help_str(200)))
        if isinstance(command, click.Group):
            below = click.Context(command, info_name=name, parent=context)
            rows += [
                (f"`gateway {name} {_usage(inner)}`", inner.get_short_help_str(200))
                for one in command.list_commands(below)
                if (inner := command.get_command(below, one)) is not None
            ]
    return _table(("Command", "Does"), rows)


def callbacks_table() -> str:
    """Return every callback with its path, its topics, the signature that it can carry, and how sure its page is."""
    signatures = {"general": "general", "callbot": "Callbot", None: "–"}
    return _table(
        ("Callback", "Path", "Topics", "Signature", "Certainty"),
        (
            (
                f"[{callback.title}](#{_anchor(callback.title)})",
                f"`/callbacks/{callback.name}`",
                _codes(callback.topics),
                signatures[callback.signature],
                callback.certainty,
            )
            for callback in CALLBACKS.values()
        ),
    )


def _anchor(heading: str) -> str:
    """Return the anchor that GitHub and the documents' site make of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def _usage(command: click.Command) -> str:
    parts = [command.name or ""]
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            parts.append(str(parameter.make_metavar(click.Context(command))))
        elif parameter.required:
            parts.append(f"{parameter.opts[0]} {parameter.name.upper() if parameter.name else ''}")
    return " ".join(parts).replace("|", "\\|")


def _is_heading(key: ConfigKey) -> bool:
    return key.node.kind is NodeKind.SECTION and not key.node.is_optional


def _default(key: ConfigKey) -> str:
    if key.is_required:
        return "needed"
    value = key.default
    if value is None or value in ("", [], {}) or (isinstance(value, SecretStr) and not value.get_secret_value()):
        return "–"
    return f"`{_written(key, value)}`"


def _written(key: ConfigKey, value: Any) -> str:
    """Return a value as an operator writes it in the file."""
    if isinstance(value, bool):
        return str(value).lower()
    if key.unit == "size":
        return next((f"{value // size}{unit}" for unit, size in _UNITS if value % size == 0), str(value))
    if key.unit == "duration" and isinstance(value, float):
        return _span(value)
    if isinstance(value, list):
        return f"[{', '.join(_written(key, one) for one in value)}]"
    return str(value)


def _span(seconds: float) -> str:
    if seconds < 60 or seconds % 60:
        return f"{seconds:g}s"
    return next(f"{seconds / size:g}{unit}" for unit, size in _SPANS if seconds % size == 0)


def _meaning(key: ConfigKey) -> str:
    text = key.info.description or ""
    if key.choices:
        text = f"{text}. One of {', '.join(f'`{choice}`' for choice in key.choices)}"
    return text.replace("|", "\\|")


def _codes(names: Iterable[str]) -> str:
    return "<br>".join(f"`{name}`" for name in names)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join('---' for _ in head)}|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def events_reference() -> str:
    """Return the reference: a section for each topic, with a section for each type and the fields of its ``data``."""
    schemas = event_schemas()
    return "\n".join(_topic(topic, {kind: schemas[kind] for kind in kinds}) for topic, kinds in topics().items())


def _topic(topic: str, schemas: dict[str, Schema]) -> str:
    return f"## Topic `{topic}`\n\n" + "\n".join(_type(kind, schema) for kind, schema in schemas.items())


def _type(kind: str, schema: Schema) -> str:
    data = schema["properties"]["data"]
    lines = [f"### `{kind}`", "", _cell(data.get("description", schema["title"])), ""]
    lines += ["| Field of `data` | Value | Meaning |", "|---|---|---|"]
    lines += [f"| `{path}` | {value} | {meaning} |" for path, value, meaning in _fields(data)]
    return "\n".join(lines) + "\n"


def _fields(schema: Schema, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield path, value and description of every field of an object, nested objects and lists included."""
    required = schema.get("required", ())
    for one in schema.get("anyOf", [schema]):
        for name, field in one.get("properties", {}).items():
            here = f"{path}{name}"
            value = f"{_value(field)}{', always' if name in required else ''}"
            yield here, value, _cell(". ".join(filter(None, (field.get("description"), field.get("x-source")))))
            yield from _fields(field, f"{here}.")
            items = field.get("items", {})
            if isinstance(items, dict):
                yield from _fields(items, f"{here}[].")


def _value(field: Schema) -> str:
    if "const" in field:
        return f"`{field['const']}`"
    words = field.get("anyOf", [{}])[0].get("enum")
    if words is not None:
        return " ".join(f"`{one}`" for one in words)
    if field.get("format") == "date-time":
        return "time, UTC"
    if field.get("pattern") == _DECIMAL:
        return "decimal number as text"
    kind = field.get("type")
    items = field.get("items")
    if kind == "array" and isinstance(items, dict) and items:
        return f"list of: {_value(items)}"
    return _KINDS.get(kind, "anything") if isinstance(kind, str) else "anything"


def _cell(text: str) -> str:
    """Return text for a table cell: column separators and tags are escaped."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;")
