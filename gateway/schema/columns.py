"""Derive the columns of a table with the events of one topic from the topic's JSON Schema.

One row is one event. Attributes of the event are columns of the same name. Each field of ``data`` is a column; each
member of an object is a column, joined by ``_`` (``price_unit``). Lists, objects without a fixed set of members, and
``raw`` are JSON columns. A field with the name of an attribute gets the prefix ``data_``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from gateway.schema.events import Schema

#: Attributes with the same value in each event; they have no column.
_CONSTANT: Final = frozenset({"specversion", "datacontenttype"})
_DECIMAL: Final = r"^-?\d+(\.\d+)?$"


class ColumnKind(Enum):
    """Type of a column."""

    TEXT = "text"
    WORD = "word"  # text out of a small set
    TIME = "time"
    DECIMAL = "decimal"
    INTEGER = "integer"
    NUMBER = "number"
    FLAG = "flag"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Args:
        name: name in the table.
        path: path of the value in an event's JSON.
        kind: type of the value.
        is_required: whether each event of the topic has the value.
        description: comment of the column; may be empty.
    """

    name: str
    path: tuple[str, ...]
    kind: ColumnKind
    is_required: bool
    description: str = ""


def columns(topic_schema: Schema) -> list[Column]:
    """Return the columns of a topic: attributes, then the fields of ``data``, then ``raw``."""
    found: dict[tuple[str, ...], Column] = {}
    for schema in topic_schema["oneOf"]:
        for column in _of_event(schema):
            known = found.get(column.path)
            found[column.path] = column if known is None else _merged(known, column)
    required = _always(topic_schema)
    taken = {path[0] for path in found if len(path) == 1}
    named = [
        Column(_name(one.path, taken), one.path, one.kind, one.path in required, one.description)
        for one in found.values()
    ]
    return sorted(named, key=lambda one: (one.path[0] == "data", one.path == ("data", "raw")))


def _name(path: tuple[str, ...], taken: set[str]) -> str:
    name = "_".join(path[1:] if path[0] == "data" else path)
    return f"data_{name}" if path[0] == "data" and name in taken else name


def _of_event(schema: Schema) -> Iterator[Column]:
    for name, attribute in schema["properties"].items():
        if name == "data":
            for data in attribute.get("anyOf", [attribute]):
                yield from _of_object(data, ("data",))
        elif name not in _CONSTANT:
            yield _column((name,), attribute)


def _of_object(schema: Schema, path: tuple[str, ...]) -> Iterator[Column]:
    for name, field in schema.get("properties", {}).items():
        if field.get("type") == "object" and field.get("properties"):
            yield from _of_object(field, (*path, name))
        else:
            yield _column((*path, name), field)


def _column(path: tuple[str, ...], field: Schema) -> Column:
    return Column("", path, _kind(field), is_required=False, description=field.get("description", ""))


def _kind(field: Schema) -> ColumnKind:
    if "enum" in field or "const" in field:
        values = field.get("enum", [field.get("const")])
        return ColumnKind.WORD if all(isinstance(value, str) for value in values) else _kind_of_type(field)
    if field.get("format") == "date-time":
        return ColumnKind.TIME
    if field.get("pattern") == _DECIMAL:
        return ColumnKind.DECIMAL
    return _kind_of_type(field)


def _kind_of_type(field: Schema) -> ColumnKind:
    value = field.get("const")
    if isinstance(value, bool):
        return ColumnKind.FLAG
    names = {
        "string": ColumnKind.TEXT,
        "integer": ColumnKind.INTEGER,
        "number": ColumnKind.NUMBER,
        "boolean": ColumnKind.FLAG,
    }
    kind = field.get("type")
    return names.get(kind, ColumnKind.JSON) if isinstance(kind, str) else ColumnKind.JSON


def _merged(one: Column, other: Column) -> Column:
    """Return a column for the values of both. Related types become the wider one; other types become JSON."""
    kinds = {one.kind, other.kind}
    description = one.description or other.description
    if len(kinds) == 1:
        kind = one.kind
    elif kinds <= {ColumnKind.TEXT, ColumnKind.WORD}:
        kind = ColumnKind.TEXT
    elif kinds <= {ColumnKind.INTEGER, ColumnKind.NUMBER}:
        kind = ColumnKind.NUMBER
    else:
        kind = ColumnKind.JSON
    return Column("", one.path, kind, is_required=False, description=description)


def _always(topic_schema: Schema) -> set[tuple[str, ...]]:
    """Return the paths that every event of the topic has."""
    each = [_required(schema) for schema in topic_schema["oneOf"]]
    return set.intersection(*each)


def _required(schema: Schema) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = {(name,) for name in schema["required"]}
    data = schema["properties"]["data"]
    inner: list[set[tuple[str, ...]]] = [
        {("data", name) for name in one.get("required", ())} for one in data.get("anyOf", [data])
    ]
    return found | set.intersection(*inner)
