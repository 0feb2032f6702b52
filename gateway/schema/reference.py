"""Reference of events in Markdown: every topic, type and field, from the schemas that programs use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from gateway.schema.events import Schema, event_schemas, topics

_DECIMAL: Final = r"^-?\d+(\.\d+)?$"
_KINDS: Final = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "object",
    "array": "list",
}


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
