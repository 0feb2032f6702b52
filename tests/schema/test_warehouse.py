"""``gateway schema --ddl``: each topic becomes a table that the database itself creates, fills and queries."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
import sqlglot
from click.testing import CliRunner

from gateway.callbacks import CALLBACKS
from gateway.callbacks.rejected import rejected_event
from gateway.cli import main
from gateway.errors import CallbackRejected
from gateway.event import Event
from gateway.schema.ddl import Column, ColumnKind, Dialect, columns, ddl
from gateway.schema.events import topic_schemas
from tests.callbacks.samples import Sample, all_samples
from tests.schema.databases import clickhouse, postgres

SCHEMAS = topic_schemas()
Clickhouse = Callable[[str], list[dict[str, Any]]]
each_topic = pytest.mark.parametrize("topic", SCHEMAS)


def events_of(sample: Sample) -> list[Event]:
    callback = CALLBACKS[sample.callback]
    try:
        return list(callback.decode(sample.request, sample.context).events)
    except CallbackRejected as exc:
        return [rejected_event(callback.name, sample.context.account, sample.request, exc)]


EVENTS: dict[str, dict[str, Event]] = {topic: {} for topic in SCHEMAS}
for one in all_samples():
    for made in events_of(one):
        EVENTS[made.topic][made.id] = made


def statements(topic: str, dialect: Dialect) -> list[str]:
    return [text for text in ddl(topic, SCHEMAS[topic], dialect).split(";\n") if text.strip()]


def value_at(event: dict[str, Any], column: Column) -> Any:
    found: Any = event
    for step in column.path:
        found = found.get(step) if isinstance(found, dict) else None
    return found


def without_halves(value: str) -> str:
    """A text as PostgreSQL can hold it: U+FFFD for U+0000 and for a surrogate without its other half."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")


@pytest.fixture(scope="module")
def pg() -> Iterator[psycopg.Connection[Any]]:
    with postgres() as connection:
        yield connection


@pytest.fixture(scope="module")
def ch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clickhouse]:
    with clickhouse(tmp_path_factory.mktemp("ch")) as run:
        yield run


def test_every_topic_has_samples() -> None:
    """What is loaded below is not empty."""
    assert [] == [topic for topic, found in EVENTS.items() if not found]


@each_topic
def test_columns_hold_what_events_have(topic: str) -> None:
    """Each field of every sample has a column, and no two columns have one name."""
    found = columns(SCHEMAS[topic])
    assert len(found) == len({column.name.lower() for column in found})
    paths = {column.path for column in found}

    def walk(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if path in paths or not isinstance(value, dict):
            yield path
        else:
            for name, inner in value.items():
                yield from walk(inner, (*path, name))

    for event in EVENTS[topic].values():
        seen = set(walk(orjson.loads(event.to_json()), ())) - {("specversion",), ("datacontenttype",)}
        assert set() == seen - paths


@each_topic
def test_postgres_creates_loads_and_queries(topic: str, pg: psycopg.Connection[Any]) -> None:
    """Every value arrives in its type; an event that is loaded twice is one row."""
    table = topic.replace(".", "_")
    for statement in statements(topic, "postgres"):
        pg.execute(statement)
    for event in EVENTS[topic].values():
        for _ in range(2):
            pg.execute(f"SELECT load_{table}(%s)", (event.to_json().decode(),))
    cursor = pg.execute(f"SELECT * FROM {table}")
    assert cursor.description is not None
    names = [column.name for column in cursor.description]
    rows = {row[0]: dict(zip(names, row, strict=True)) for row in cursor.fetchall()}
    assert set(EVENTS[topic]) == set(rows)
    for column in columns(SCHEMAS[topic]):
        for id_, event in EVENTS[topic].items():
            wanted, got = value_at(parsed(event), column), rows[id_][column.name]
            if column.kind is ColumnKind.JSON:
                assert (wanted is None) == (got is None)
            elif column.kind is ColumnKind.TIME:
                assert (datetime.fromisoformat(wanted) if wanted else None) == got
            elif column.kind is ColumnKind.DECIMAL:
                assert (Decimal(wanted) if wanted is not None else None) == got
            else:
                assert (without_halves(wanted) if isinstance(wanted, str) else wanted) == got


def parsed(event: Event) -> dict[str, Any]:
    """With halves of surrogate pairs, which orjson refuses to read."""
    found = json.loads(event.to_json())
    assert isinstance(found, dict)
    return found


@each_topic
def test_clickhouse_creates_loads_and_queries(topic: str, ch: Clickhouse) -> None:
    """Every event is a row or, where it is no readable JSON, in the table of unreadable ones; none is lost."""
    table = topic.replace(".", "_")
    for statement in statements(topic, "clickhouse"):
        # A table that passes on what is inserted, in place of the one that reads Kafka.
        ch(statement.partition("ENGINE = Kafka")[0] + "ENGINE = Null" if "ENGINE = Kafka" in statement else statement)
    lines = b"\n".join(
        orjson.dumps({"cloudevent": event.to_json().decode()}) for event in EVENTS[topic].values() for _ in range(2)
    )
    ch(f"INSERT INTO {table}_queue FORMAT JSONEachRow {lines.decode()}")
    rows = {row["id"]: row for row in ch(f"SELECT * FROM {table} FINAL")}
    unreadable = {row["cloudevent"] for row in ch(f"SELECT DISTINCT cloudevent FROM {table}_unreadable")}
    texts = {id_: event.to_json().decode() for id_, event in EVENTS[topic].items()}
    assert set(texts) == set(rows) | {id_ for id_, text in texts.items() if text in unreadable}
    assert len(unreadable) <= 1
    for column in columns(SCHEMAS[topic]):
        for id_, row in rows.items():
            wanted, got = value_at(parsed(EVENTS[topic][id_]), column), row[column.name]
            if column.kind is ColumnKind.JSON:
                assert (wanted is None) == (got is None), column
            elif column.kind is ColumnKind.TIME:
                assert (datetime.fromisoformat(wanted).timestamp() if wanted else None) == (
                    datetime.fromisoformat(f"{got}+00:00").timestamp() if got else None
                )
            elif column.kind is ColumnKind.DECIMAL:
                assert (Decimal(wanted) if wanted is not None else None) == (None if got is None else Decimal(str(got)))
            elif column.kind is ColumnKind.INTEGER:
                assert wanted == (None if got is None else int(got)), column
            else:
                assert wanted == got, column


@each_topic
def test_bigquery_statements_parse(topic: str) -> None:
    """BigQuery cannot run here; another project's parser of its dialect reads every statement."""
    found = sqlglot.parse(ddl(topic, SCHEMAS[topic], "bigquery"), read="bigquery", error_level=sqlglot.ErrorLevel.RAISE)
    assert ["Create", "Create", "Create", "Merge", "Insert", "TruncateTable"] == [
        type(statement).__name__ for statement in found
    ]


def test_topic_of_another_sender_has_a_table(tmp_path: Path) -> None:
    """The configuration adds its topics; their fields are the attributes and ``raw``."""
    config = tmp_path / "config.yaml"
    config.write_text("ingest: {callbacks: {shop: {decoder: json, topic: shop.order, key: $.id}}}\n")
    said = CliRunner().invoke(
        main, ["schema", "--topic", "shop.order", "--ddl", "postgres", "-c", str(config)], catch_exceptions=False
    )
    assert 0 == said.exit_code, said.output
    assert 'CREATE TABLE IF NOT EXISTS shop_order (\n  "id" text NOT NULL' in said.output
    assert '"raw" jsonb' in said.output


def test_unknown_topic_is_refused() -> None:
    """The topics there are stand in the sentence."""
    said = CliRunner().invoke(main, ["schema", "--topic", "sms.drr"])
    assert (2, True) == (said.exit_code, "sms.dr, " in said.output)
