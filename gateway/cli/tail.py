"""``gateway tail``: events as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import click

from gateway.cli.consuming import consume
from gateway.cli.eventlines import event_lines
from gateway.cli.following import Damaged, follow
from gateway.cli.loop import run_async
from gateway.cli.options import Moment, config_option, settings_from
from gateway.config.settings import Settings
from gateway.config.values import suggestion
from gateway.errors import Broken
from gateway.log import Record
from gateway.log.journal.store import FILE_NAME
from gateway.search.keys import parsed

EXAMPLES = """
\b
Examples
  gateway tail
  gateway tail --topic sms.dr --since 15m
  gateway tail --type nxcloud.whatsapp.message --json | jq .data.text
  gateway tail --topic dlq.billing --since 7d --once
"""

#: People do not see less; ten times more and it feels stuck.
_POLL_S = 0.25
#: What names of the gateway's own topics begin with.
_INTERNAL = ("retry.", "replay", "dlq.", "fanout.")


@click.command(epilog=EXAMPLES)
@click.option("--topic", help="Only this one. Also retry.DELAY, replay and dlq.SUBSCRIBER.")
@click.option("--type", "event_type", help="Only events of this type, such as nxcloud.sms.dr.")
@click.option("--since", type=Moment(), help="Begin at a time: 15m (ago), or 2026-03-04T05:06:07Z. Left out: now.")
@click.option("--once", is_flag=True, help="Print what is there and stop; without --since everything.")
@click.option("--json", "as_json", is_flag=True, help="Each event as one line of JSON.")
@config_option
def tail(
    topic: str | None, event_type: str | None, since: float | None, once: bool, as_json: bool, config_path: Path
) -> None:
    """Print events as they come.

    With Kafka it reads the topics, in no consumer group. Otherwise it reads the journal beside a running
    gateway, and works when the gateway is down, too.
    """
    settings = settings_from(config_path)

    def show(record: Record) -> None:
        if topic is not None and record.topic != topic:
            return
        if record.flaw:
            click.echo(f"{record.partition} offset {record.offset}: no event: {record.flaw}", err=True)
            return
        event = parsed(record.value)
        if event_type is None or event.get("type") == event_type:
            click.echo(record.value if as_json else event_lines(event, record.id))

    if settings.kafka is not None:
        run_async(_tail_topics(settings, topic, since, show, is_once=once))
        return
    for record in _journalled(settings, topic, since, is_once=once):
        show(record)


async def _tail_topics(
    settings: Settings, topic: str | None, since: float | None, show: Callable[[Record], None], *, is_once: bool
) -> None:
    async with aclosing(consume(settings, topic, since, is_once=is_once)) as records:
        async for record in records:
            show(record)


def _journalled(settings: Settings, topic: str | None, since: float | None, *, is_once: bool) -> Iterator[Record]:
    folder = Path(settings.journal.dir)
    _check_topic(settings, topic)
    if not (folder / FILE_NAME).exists():
        raise Broken(f"{folder}: there is no journal yet; start the gateway first, or set journal.dir")
    if is_once and since is None:
        since = 0.0
    wait = None if is_once else (lambda: time.sleep(_POLL_S))
    for found in follow(folder, topic, since, wait):
        if isinstance(found, Damaged):
            click.echo(f"Warning: {found}; see gateway journal check", err=True)
        else:
            yield found


def _check_topic(settings: Settings, topic: str | None) -> None:
    """Refuse a name that nothing is journalled under: it would print nothing, for ever.

    Raises:
        Broken: names the nearest topic.
    """
    from gateway.derived import event_topics

    known = event_topics(settings)
    if topic is not None and topic not in known and not topic.startswith(_INTERNAL):
        raise Broken(f"there is no topic {topic}{suggestion(topic, known)}")
