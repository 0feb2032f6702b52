"""``gateway schema``: documents made from the code."""

from __future__ import annotations

from pathlib import Path

import click
import orjson

from gateway.cli.options import DEFAULT_CONFIG, settings_or_defaults
from gateway.schema import asyncapi, configuration, event_schemas, openapi
from gateway.traffic.examples import examples

EXAMPLES = """
\b
Examples
  gateway schema --openapi > openapi.json
  gateway schema --asyncapi > asyncapi.json
  gateway schema --config > config.schema.json
  gateway schema --type nxcloud.sms.dr
"""


@click.command(epilog=EXAMPLES)
@click.option("--asyncapi", "of_topics", is_flag=True, help="AsyncAPI 3.0 of the topics.")
@click.option("--openapi", "of_http", is_flag=True, help="OpenAPI 3.1 of the HTTP side.")
@click.option("--config", "of_config", is_flag=True, help="JSON Schema of config.yaml, for editors.")
@click.option("--type", "event_type", metavar="TYPE", help="JSON Schema of one event type; left out: of all, by type.")
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
def schema(of_topics: bool, of_http: bool, of_config: bool, event_type: str | None, config_path: Path) -> None:
    """Print documents of events, topics, HTTP and configuration.

    Paths, topics' names and addresses are those of the configuration, or the defaults where there is none.
    """
    if of_topics + of_http + of_config + (event_type is not None) > 1:
        raise click.UsageError("one document at a time: --asyncapi, --openapi, --config or --type")
    if event_type is not None:
        schemas = event_schemas()
        if event_type not in schemas:
            raise click.BadParameter(
                f"there is no type {event_type!r}; there are {', '.join(schemas)}", param_hint="--type"
            )
        found = schemas[event_type]
    elif of_config:
        found = configuration()
    elif of_topics:
        found = asyncapi(settings_or_defaults(config_path))
    elif of_http:
        found = openapi(settings_or_defaults(config_path), examples)
    else:
        found = event_schemas()
    click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
