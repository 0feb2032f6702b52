"""``gateway journal`` and ``topics``: where events are stored: the journal's file, and the topics of Kafka."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any, Final

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from gateway.cli.options import config_option, json_option, settings_from
from gateway.cli.printing import print_json, print_table
from gateway.config.settings import Settings
from gateway.errors import ConfigError, JournalDamaged
from gateway.log.journal.check import JournalReport
from gateway.log.journal.check import check as checked
from gateway.log.journal.files import FILE_NAME
from gateway.log.journal.salvage import salvage as salvaged
from gateway.log.kafka import KafkaOptions
from gateway.log.kafka import topics as kafka_topics

_FOLDER = click.Path(path_type=Path, file_okay=False)

dir_option = click.option(
    "--dir", "folder", type=_FOLDER, help="The journal's folder; left out: journal.dir of the configuration."
)


EXAMPLES: Final = """
\b
Examples
  gateway journal check
  gateway journal check --dir /mnt/copy/data --json | jq '.streams[].damages'
  gateway journal salvage --to data.new
"""
TOPICS_EXAMPLES: Final = """
\b
Examples
  gateway topics create
  gateway topics create --json | jq .created
  gateway topics list
  gateway topics list --json | jq '.topics[] | select(.under_replicated > 0)'
"""


@click.group(epilog=EXAMPLES)
def journal() -> None:
    """Look at the journal's file, and copy out of a damaged one."""


@journal.command(epilog=EXAMPLES)
@dir_option
@json_option
@config_option
@click.pass_context
def check(ctx: click.Context, folder: Path | None, as_json: bool, config_path: Path) -> None:
    """Read the whole journal once and say what cannot be read.

    Changes nothing; a running gateway is not disturbed. Ends with 4 when there is damage. On a terminal a bar shows
    how far it is.
    """
    report = _inspected(_folder(folder, config_path))
    _show(report, as_json=as_json)
    ctx.exit(0 if report.is_sound else JournalDamaged.exit_code)


@journal.command(epilog=EXAMPLES)
@dir_option
@click.option("--to", type=_FOLDER, required=True, help="A folder without a journal.")
@json_option
@config_option
def salvage(folder: Path | None, to: Path, as_json: bool, config_path: Path) -> None:
    """Copy what can be read into a new journal.

    Stop the gateway first. Offsets and readers' positions are kept, so that everything continues where it was after
    you replace the old folder with the new one. The damaged journal is not changed.
    """
    report = salvaged(_folder(folder, config_path), to)
    _show(report, as_json=as_json)
    if not as_json:
        records = sum(stream.records for stream in report.streams)
        click.echo(f"{records:,} records are in {to}; move it into place", err=True)


def _folder(folder: Path | None, config_path: Path) -> Path:
    return folder if folder is not None else Path(settings_from(config_path).journal.dir)


def _inspected(folder: Path) -> JournalReport:
    """Read all of it, with a bar on a terminal."""
    console = Console(stderr=True)
    path = folder / FILE_NAME
    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        # The file holds a little more than its rows.
        task = progress.add_task("read", total=path.stat().st_size if path.exists() else None)
        return checked(folder, lambda size: progress.advance(task, size))


def _show(report: JournalReport, *, as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps(_document(report)))
        return
    rows = []
    for stream in report.streams:
        lost = sum(damage.last - damage.first + 1 for damage in stream.damages)
        offsets = f"{stream.floor:,} to {stream.head - 1:,}" if stream.head > stream.floor else "empty"
        rows.append((stream.name, offsets, stream.records, stream.size_bytes, lost or None))
    print_table(("stream", "offsets", "readable", "bytes", "damaged"), rows)
    for text in (*report.problems, *map(str, report.damages)):
        click.echo(f"{click.style('Damaged', fg='red')}: {text}")
    for text in report.notes:
        click.echo(f"{click.style('Perhaps damaged', fg='yellow')}: {text}")
    if report.is_sound:
        click.echo(click.style("sound", fg="green"))


def _document(report: JournalReport) -> dict[str, Any]:
    return {
        "is_sound": report.is_sound,
        "problems": report.problems,
        "notes": report.notes,
        "streams": [
            {
                "name": stream.name,
                "floor": stream.floor,
                "head": stream.head,
                "records": stream.records,
                "size_bytes": stream.size_bytes,
                "damages": [
                    {"first": damage.first, "last": damage.last, "reason": damage.reason} for damage in stream.damages
                ],
            }
            for stream in report.streams
        ],
    }


@click.group(epilog=TOPICS_EXAMPLES)
def topics() -> None:
    """Create and list the Kafka topics."""


@topics.command(epilog=TOPICS_EXAMPLES)
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


@topics.command(name="list", epilog=TOPICS_EXAMPLES)
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
