"""``gateway schema``: documents made from the code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, cast, get_args

import click
import orjson

from gateway.admin.openapi import openapi_admin
from gateway.cli.adminapi import complete_topic, complete_type
from gateway.cli.options import DEFAULT_CONFIG, settings_or_defaults
from gateway.cli.printing import print_table
from gateway.config.settings import Settings
from gateway.schema import asyncapi, configuration, event_schemas, openapi
from gateway.schema.ddl import Dialect, ddl
from gateway.schema.events import Schema, topic_schemas
from gateway.schema.registry import Registry
from gateway.traffic.simulator import examples

EXAMPLES: Final = """
\b
Examples
  gateway schema --openapi > openapi.json
  gateway schema --openapi-admin > openapi-admin.json
  gateway schema --asyncapi > asyncapi.json
  gateway schema --config > config.schema.json
  gateway schema --type nxcloud.sms.dr
  gateway schema --topic sms.dr
  gateway schema --topic call.event --ddl clickhouse > call_event.sql
  gateway schema --register http://registry:8081
"""
#: ``name:password`` for the registry. In the environment, as every user of the machine can read a command line.
_REGISTRY_USER: Final = "SCHEMA_REGISTRY_USER"


@click.command(epilog=EXAMPLES)
@click.option("--asyncapi", "of_topics", is_flag=True, help="AsyncAPI 3.0 of the topics.")
@click.option("--openapi", "of_http", is_flag=True, help="OpenAPI 3.1 of the HTTP side.")
@click.option("--openapi-admin", "of_admin", is_flag=True, help="OpenAPI 3.1 of the admin port.")
@click.option("--config", "of_config", is_flag=True, help="JSON Schema of config.yaml, for editors.")
@click.option(
    "--type",
    "event_type",
    metavar="TYPE",
    shell_complete=complete_type,
    help="JSON Schema of one event type; left out: of all, by type.",
)
@click.option(
    "--topic",
    metavar="TOPIC",
    shell_complete=complete_topic,
    help="JSON Schema of one topic: all its event types, selected by ``type``.",
)
@click.option(
    "--ddl", "dialect", type=click.Choice(get_args(Dialect)), help="SQL of the topic as a table; left out: all topics."
)
@click.option(
    "--register", "registry", metavar="URL", help=f"Register the topic's schema, or all; {_REGISTRY_USER} may log in."
)
@click.option(
    "-c",
    "--config-file",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT_CONFIG,
    show_default=True,
    envvar="GATEWAY_CONFIG",
    show_envvar=True,
    help="The configuration; --config is a document here.",
)
def schema(
    of_topics: bool,
    of_http: bool,
    of_admin: bool,
    of_config: bool,
    event_type: str | None,
    topic: str | None,
    dialect: str | None,
    registry: str | None,
    config_path: Path,
) -> None:
    """Print documents of events, topics, HTTP and configuration.

    Paths, topics' names and addresses are those of the configuration, or the defaults where there is none.
    """
    of_topic = topic is not None or dialect is not None or registry is not None
    if of_topics + of_http + of_admin + of_config + (event_type is not None) + of_topic > 1 or (dialect and registry):
        raise click.UsageError(
            "one document at a time: --asyncapi, --openapi, --openapi-admin, --config, --type, --topic, --ddl or "
            "--register"
        )
    if of_topic:
        _topics(settings_or_defaults(config_path), topic, cast("Dialect | None", dialect), registry)
        return
    found: dict[str, Any]
    if event_type is not None:
        found = _one(event_schemas(), event_type, "type")
    elif of_config:
        found = configuration()
    elif of_topics:
        found = asyncapi(settings_or_defaults(config_path))
    elif of_http:
        found = openapi(settings_or_defaults(config_path), examples)
    elif of_admin:
        found = openapi_admin(settings_or_defaults(config_path))
    else:
        found = event_schemas()
    click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))


def _topics(settings: Settings, topic: str | None, dialect: Dialect | None, registry: str | None) -> None:
    """Print, or register, what is made of topics: of one, or of all."""
    schemas = topic_schemas(_other_topics(settings))
    wanted = schemas if topic is None else {topic: _one(schemas, topic, "topic")}
    prefix = settings.topics.prefix
    if dialect is not None:
        servers = ",".join(settings.kafka.bootstrap_servers) if settings.kafka is not None else "localhost:9092"
        click.echo("\n".join(ddl(name, found, dialect, kafka=(servers, prefix)) for name, found in wanted.items()))
    elif registry is not None:
        _register(Registry(registry, os.environ.get(_REGISTRY_USER, "")), prefix, wanted)
    else:
        click.echo(orjson.dumps(wanted[topic or ""], option=orjson.OPT_INDENT_2))


def _register(registry: Registry, prefix: str, wanted: dict[str, Schema]) -> None:
    done = {name: registry.register(prefix + name, found) for name, found in wanted.items()}
    print_table(
        ("subject", "version", "id", ""),
        [(one.subject, one.version, one.id, "registered" if one.is_new else "was there") for one in done.values()],
    )
    click.echo("\nFor records that carry the id of their schema, in config.yaml:\n\nkafka:\n  schema_ids:")
    for name, one in done.items():
        click.echo(f"    {name}: {one.guid or one.id}")


def _one(found: dict[str, Schema], name: str, option: str) -> Schema:
    if name not in found:
        raise click.BadParameter(
            f"there is no {option} {name!r}; there are {', '.join(found)}", param_hint=f"--{option}"
        )
    return found[name]


def _other_topics(settings: Settings) -> dict[str, list[str]]:
    """Return the topics of other senders' callbacks, with the types of their events."""
    found: dict[str, list[str]] = {}
    for rows in settings.ingest.callbacks.values():
        for row in rows:
            if row.decoder is not None and row.topic is not None:
                types = found.setdefault(row.topic, [])
                kind = row.type or row.topic
                if kind not in types:
                    types.append(kind)
    return found
