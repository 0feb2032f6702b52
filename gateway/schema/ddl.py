"""SQL that creates a warehouse table for a topic, and fills it with the events of Kafka.

One row is one event. Columns are derived from the topic's JSON Schema: attributes of the event are columns of the same
name; each field of ``data`` is a column, each member of an object too, joined by ``_`` (``price_unit``). Lists, objects
without a fixed set of members, and ``raw`` are JSON columns. A field with the name of an attribute gets the prefix
``data_``.

An event that a consumer reads twice becomes one row, because its id is the same. Reading a value never fails: a value
that does not fit its column becomes NULL, and ``raw`` has it. Values that the database cannot read as JSON are stored
in a separate table (ClickHouse, BigQuery) or repaired (PostgreSQL): escapes of U+0000 and half surrogate pairs, which
JSON permits and databases refuse, become U+FFFD.

Sources: https://clickhouse.com/docs/engines/table-engines/integrations/kafka,
https://www.postgresql.org/docs/current/functions-json.html,
https://cloud.google.com/bigquery/docs/reference/standard-sql/json_functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

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
    return set.intersection(*(_required(schema) for schema in topic_schema["oneOf"]))


def _required(schema: Schema) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = {(name,) for name in schema["required"]}
    data = schema["properties"]["data"]
    inner: list[set[tuple[str, ...]]] = [
        {("data", name) for name in one.get("required", ())} for one in data.get("anyOf", [data])
    ]
    return found | set.intersection(*inner)


Dialect = Literal["clickhouse", "postgres", "bigquery"]

#: Digits after the decimal point. Prices of the platform have at most seven.
_SCALE: Final = 12

_CLICKHOUSE: Final[Mapping[ColumnKind, str]] = {
    ColumnKind.TEXT: "String",
    ColumnKind.WORD: "String",
    ColumnKind.TIME: "DateTime64(6, 'UTC')",
    ColumnKind.DECIMAL: f"Decimal(38, {_SCALE})",
    ColumnKind.INTEGER: "Int64",
    ColumnKind.NUMBER: "Float64",
    ColumnKind.FLAG: "Bool",
    ColumnKind.JSON: "String",
}
_POSTGRES: Final[Mapping[ColumnKind, str]] = {
    ColumnKind.TEXT: "text",
    ColumnKind.WORD: "text",
    ColumnKind.TIME: "timestamptz",
    ColumnKind.DECIMAL: "numeric",
    ColumnKind.INTEGER: "bigint",
    ColumnKind.NUMBER: "double precision",
    ColumnKind.FLAG: "boolean",
    ColumnKind.JSON: "jsonb",
}
_BIGQUERY: Final[Mapping[ColumnKind, str]] = {
    ColumnKind.TEXT: "STRING",
    ColumnKind.WORD: "STRING",
    ColumnKind.TIME: "TIMESTAMP",
    ColumnKind.DECIMAL: "BIGNUMERIC",
    ColumnKind.INTEGER: "INT64",
    ColumnKind.NUMBER: "FLOAT64",
    ColumnKind.FLAG: "BOOL",
    ColumnKind.JSON: "JSON",
}


def ddl(topic: str, topic_schema: Schema, dialect: Dialect, *, kafka: tuple[str, str] = ("localhost:9092", "")) -> str:
    """Return the SQL for one topic, statements separated by ``;`` and an empty line.

    Args:
        topic: name without prefix; the table has this name, with ``_`` in place of special characters.
        topic_schema: see :func:`gateway.schema.events.topic_schemas`.
        dialect: the database.
        kafka: brokers, and prefix of the topic's name; ClickHouse reads from Kafka itself.
    """
    table = re.sub(r"\W", "_", topic)
    return _WRITERS[dialect](topic, table, columns(topic_schema), kafka)


def _clickhouse(topic: str, table: str, found: Sequence[Column], kafka: tuple[str, str]) -> str:
    servers, prefix = kafka
    rows = ",\n".join(f"  {_ticks(one.name)} {_clickhouse_type(one)}{_commented(one.description)}" for one in found)
    values = ",\n".join(f"  {_clickhouse_value(one)} AS {_ticks(one.name)}" for one in found)
    return _statements(
        f"CREATE TABLE IF NOT EXISTS {table} (\n{rows}\n)\n"
        "ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(`recordedtime`) ORDER BY (`subject`, `id`)",
        f"CREATE TABLE IF NOT EXISTS {table}_unreadable (`cloudevent` String) ENGINE = MergeTree ORDER BY tuple()",
        f"CREATE TABLE IF NOT EXISTS {table}_queue (`cloudevent` String)\n"
        f"ENGINE = Kafka({_text(servers)}, {_text(prefix + topic)}, {_text(f'clickhouse.{topic}')}, 'RawBLOB')",
        f"CREATE MATERIALIZED VIEW IF NOT EXISTS {table}_rows TO {table} AS SELECT\n{values}\n"
        f"FROM {table}_queue WHERE JSONExtractString(`cloudevent`, 'id') != ''",
        f"CREATE MATERIALIZED VIEW IF NOT EXISTS {table}_rest TO {table}_unreadable AS SELECT `cloudevent`\n"
        f"FROM {table}_queue WHERE JSONExtractString(`cloudevent`, 'id') = ''",
    )


def _clickhouse_type(one: Column) -> str:
    inner = _CLICKHOUSE[one.kind]
    if not one.is_required:
        inner = f"Nullable({inner})"
    return f"LowCardinality({inner})" if one.kind is ColumnKind.WORD else inner


def _clickhouse_value(one: Column) -> str:
    path = ", ".join(_text(step) for step in one.path)
    if one.kind is ColumnKind.JSON:
        raw = f"JSONExtractRaw(`cloudevent`, {path})"
        return raw if one.is_required else f"nullIf({raw}, '')"
    if one.kind is ColumnKind.TIME:
        text = f"JSONExtract(`cloudevent`, {path}, 'Nullable(String)')"
        kind = _CLICKHOUSE[one.kind]
        value = f"accurateCastOrNull({text}, {_text(kind)})"
        return f"assumeNotNull({value})" if one.is_required else value
    kind = _CLICKHOUSE[one.kind] if one.is_required else f"Nullable({_CLICKHOUSE[one.kind]})"
    return f"JSONExtract(`cloudevent`, {path}, {_text(kind)})"


def _postgres(_: str, table: str, found: Sequence[Column], __: tuple[str, str]) -> str:
    rows = ",\n".join(f'  "{one.name}" {_POSTGRES[one.kind]}{" NOT NULL" if one.is_required else ""}' for one in found)
    names = ", ".join(f'"{one.name}"' for one in found)
    values = ",\n".join(f"    {_postgres_value(one)}" for one in found)
    comments = [
        f'COMMENT ON COLUMN {table}."{one.name}" IS {_text(one.description)}' for one in found if one.description
    ]
    return _statements(
        f'CREATE TABLE IF NOT EXISTS {table} (\n{rows},\n  PRIMARY KEY ("id")\n)',
        f'CREATE INDEX IF NOT EXISTS {table}_subject ON {table} ("subject", "time")',
        f'CREATE INDEX IF NOT EXISTS {table}_recordedtime ON {table} ("recordedtime")',
        *comments,
        # A surrogate pair is one character: only halves are replaced. An escaped backslash does not begin an escape.
        "CREATE OR REPLACE FUNCTION nxcloud_event(event text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$\n"
        "  SELECT regexp_replace(event,\n"
        r"    '(?<!\\)((?:\\\\)*)\\u(?:0000|[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
        "\n"
        r"    |(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u)[dD][c-fC-F][0-9a-fA-F]{2})', '\1\\ufffd', 'gx')::jsonb"
        "\n$$",
        f"CREATE OR REPLACE FUNCTION load_{table}(event text) RETURNS void LANGUAGE sql AS $$\n"
        f"  INSERT INTO {table} ({names})\n"
        f"  SELECT\n{values}\n"
        '  FROM nxcloud_event(event) AS e\n  ON CONFLICT ("id") DO NOTHING\n$$',
    )


def _postgres_value(one: Column) -> str:
    *above, last = one.path
    base = "e" + "".join(f"->{_text(step)}" for step in above)
    if one.kind is ColumnKind.JSON:
        return f"{base}->{_text(last)}"
    kind = _POSTGRES[one.kind]
    return f"{base}->>{_text(last)}" if kind == "text" else f"({base}->>{_text(last)})::{kind}"


def _bigquery(_: str, table: str, found: Sequence[Column], __: tuple[str, str]) -> str:
    rows = ",\n".join(
        f"  {_ticks(one.name)} {_BIGQUERY[one.kind]}{' NOT NULL' if one.is_required else ''}"
        f"{f' OPTIONS (description = {_escaped(one.description)})' if one.description else ''}"
        for one in found
    )
    names = ", ".join(_ticks(one.name) for one in found)
    values = ",\n".join(f"    {_bigquery_value(one)} AS {_ticks(one.name)}" for one in found)
    return _statements(
        f"CREATE TABLE IF NOT EXISTS {table} (\n{rows}\n)\n"
        "PARTITION BY DATE(`recordedtime`) CLUSTER BY `subject`, `id`",
        f"CREATE TABLE IF NOT EXISTS {table}_landing (`cloudevent` STRING)",
        f"CREATE TABLE IF NOT EXISTS {table}_unreadable (`cloudevent` STRING)",
        f"MERGE INTO {table} AS known USING (\n  SELECT\n{values}\n  FROM {table}_landing\n"
        "  WHERE JSON_VALUE(`cloudevent`, '$.id') IS NOT NULL\n"
        "  QUALIFY ROW_NUMBER() OVER (PARTITION BY JSON_VALUE(`cloudevent`, '$.id')) = 1\n"
        f") AS new ON known.`id` = new.`id`\nWHEN NOT MATCHED THEN INSERT ({names}) VALUES ({names})",
        f"INSERT INTO {table}_unreadable (`cloudevent`) SELECT `cloudevent` FROM {table}_landing\n"
        "WHERE JSON_VALUE(`cloudevent`, '$.id') IS NULL",
        f"TRUNCATE TABLE {table}_landing",
    )


def _bigquery_value(one: Column) -> str:
    path = _escaped("$." + ".".join(one.path))
    if one.kind is ColumnKind.JSON:
        return f"SAFE.PARSE_JSON(JSON_QUERY(`cloudevent`, {path}), wide_number_mode => 'round')"
    value = f"JSON_VALUE(`cloudevent`, {path})"
    kind = _BIGQUERY[one.kind]
    return value if kind == "STRING" else f"SAFE_CAST({value} AS {kind})"


_WRITERS: Final[Mapping[Dialect, Callable[[str, str, Sequence[Column], tuple[str, str]], str]]] = {
    "clickhouse": _clickhouse,
    "postgres": _postgres,
    "bigquery": _bigquery,
}


def _statements(*statements: str) -> str:
    return ";\n\n".join(statements) + ";\n"


def _commented(description: str) -> str:
    return f" COMMENT {_text(description)}" if description else ""


def _ticks(name: str) -> str:
    return f"`{name}`"


def _text(value: str) -> str:
    """Return a string literal of standard SQL; descriptions and names have no backslash."""
    return "'" + value.replace("'", "''") + "'"


def _escaped(value: str) -> str:
    """Return a string literal of BigQuery, in which a backslash escapes a quote."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
