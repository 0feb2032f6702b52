"""``gateway topics create|list``: the Kafka topics of the configuration."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.table import Table

from gateway.cli.options import config_option, json_option, settings_from
from gateway.config.settings import Settings
from gateway.errors import ConfigError
from gateway.log.kafka import KafkaOptions
from gateway.log.kafka import topics as kafka_topics


@click.group(epilog="\b\nExamples\n  gateway topics create\n  gateway topics list --json")
def topics() -> None:
    """Create and list the Kafka topics."""


@topics.command()
@config_option
def create(config_path: Path) -> None:
    """Create the topics that are missing, with partitions and replication of the configuration.

    A topic that is there is left as it is. Topics of retries and dead letters are made when they are first needed.
    """
    from gateway.derived import event_topics

    settings = settings_from(config_path)
    created = asyncio.run(kafka_topics.create(_options(settings), event_topics(settings)))
    click.echo(f"created: {', '.join(created)}" if created else "nothing to do: all topics are there")


@topics.command(name="list")
@config_option
@json_option
def list_(config_path: Path, as_json: bool) -> None:
    """List the topics that carry our prefix."""
    found = asyncio.run(kafka_topics.describe(_options(settings_from(config_path))))
    if as_json:
        click.echo(orjson.dumps([dataclasses.asdict(topic) for topic in found]).decode())
        return
    table = Table("topic", "name in Kafka", "partitions", "replication", "under-replicated", box=None)
    for topic in found:
        table.add_row(
            topic.name,
            topic.kafka_name,
            str(topic.partitions),
            str(topic.replication_factor),
            str(topic.under_replicated),
        )
    Console().print(table)


def _options(settings: Settings) -> KafkaOptions:
    if settings.kafka is None:
        raise ConfigError(["kafka: the section is missing; without it there are no topics, events are in the journal"])
    return KafkaOptions.of(settings.kafka, settings.topics)
