"""``gateway topics create|list``: the Kafka topics of the configuration."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Final

import click

from gateway.cli.options import config_option, json_option, settings_from
from gateway.cli.tables import print_json, print_table
from gateway.config.settings import Settings
from gateway.errors import ConfigError
from gateway.log.kafka import KafkaOptions
from gateway.log.kafka import topics as kafka_topics

EXAMPLES: Final = """
\b
Examples
  gateway topics create
  gateway topics create --json | jq .created
  gateway topics list
  gateway topics list --json | jq '.topics[] | select(.under_replicated > 0)'
"""


@click.group(epilog=EXAMPLES)
def topics() -> None:
    """Create and list the Kafka topics."""


@topics.command(epilog=EXAMPLES)
@json_option
@config_option
def create(as_json: bool, config_path: Path) -> None:
    """Create the topics that are missing, with partitions and replication of the configuration.

    A topic that is there is left as it is. Topics of retries and dead letters are made when they are first needed.
    """
    settings = settings_from(config_path)
    wanted = settings.event_topics
    created = asyncio.run(kafka_topics.create(_options(settings), wanted))
    if as_json:
        print_json({"created": created, "existing": sorted(set(wanted) - set(created))})
        return
    click.echo(f"created: {', '.join(created)}" if created else "nothing to do: all topics are there")


@topics.command(name="list", epilog=EXAMPLES)
@config_option
@json_option
def list_(config_path: Path, as_json: bool) -> None:
    """List the topics that carry our prefix."""
    found = asyncio.run(kafka_topics.describe(_options(settings_from(config_path))))
    if as_json:
        print_json({"topics": [dataclasses.asdict(topic) for topic in found]})
        return
    print_table(
        ("topic", "name in Kafka", "partitions", "replication", "under-replicated"),
        [
            (topic.name, topic.kafka_name, topic.partitions, topic.replication_factor, topic.under_replicated)
            for topic in found
        ],
    )


def _options(settings: Settings) -> KafkaOptions:
    if settings.kafka is None:
        raise ConfigError(["kafka: the section is missing; without it there are no topics, events are in the journal"])
    return KafkaOptions.of(settings.kafka, settings.topics)
