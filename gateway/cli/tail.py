"""``gateway tail``: events as they come, chosen by type, id, and conditions in the words of a filter."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import orjson

from gateway.cli.adminapi import complete_any_topic, complete_type, event_types
from gateway.cli.options import Moment, config_option, settings_from
from gateway.cli.printing import event_line
from gateway.cli.reading import Damaged, consume, follow
from gateway.config.settings import Settings
from gateway.config.values import suggestion
from gateway.errors import Broken, ConfigError
from gateway.eventloop import run_async
from gateway.fanout.filters import Filter, compile_filter
from gateway.log import Record
from gateway.log.journal.files import FILE_NAME
from gateway.search.keys import parsed

EXAMPLES: Final = """
\b
Examples
  gateway tail
  gateway tail --topic sms.dr --since 15m
  gateway tail --filter data.status=undelivered --filter data.to^=+62
  gateway tail --type nxcloud.whatsapp.message --json | jq .data.text
  gateway tail --since 1d --follow --filter '{"not": {"exact": {"type": "nxcloud.sms.dr"}}}'
  gateway tail --topic dlq.billing --since 7d --once
"""

#: People do not see less; ten times more and it feels stuck.
_POLL_S: Final = 0.25
#: What names of the gateway's own topics begin with.
_INTERNAL: Final = ("retry.", "replay", "dlq.", "fanout.")
#: ``data.status=delivered``; ``!=``, and as in CSS ``^=`` for a beginning and ``$=`` for an end.
_CONDITION: Final = re.compile(r"\s*([\w.-]+)\s*(!=|\^=|\$=|=)\s*(.*?)\s*", re.DOTALL)
_EXPECTED: Final = "data.status=delivered, data.to^=+62, or a subscriber's filter as JSON"


class Condition(click.ParamType[Filter]):
    """One condition on an event: ``data.status=delivered``, ``!=``, ``^=``, ``$=``; or JSON as in ``filter``."""

    name = "condition"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Filter:
        """Return the compiled filter."""
        try:
            found = compile_filter(_source(str(value)), "--filter")
        except ConfigError as exc:
            self.fail("; ".join(exc.problems), param, ctx)
        except ValueError:
            found = None
        if found is None:
            self.fail(f"{value!r} is no condition such as {_EXPECTED}", param, ctx)
        return found


def _source(text: str) -> object:
    """Return a condition as the section ``filter`` has it.

    Raises:
        ValueError: it is none.
    """
    if text.lstrip().startswith(("{", "[")):
        return orjson.loads(text)
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise ValueError(text)
    name, how, value = found.groups()
    match how:
        case "^=":
            return {"prefix": {name: value}}
        case "$=":
            return {"suffix": {name: value}}
        case "!=":
            return {"not": _equal(name, value)}
        case _:
            return _equal(name, value)


def _equal(name: str, value: str) -> dict[str, object]:
    """Return the filter for a value; a number or boolean matches as text, too, as shells drop quotes."""
    wanted: list[object] = [value]
    if name.startswith("data."):
        try:
            literal = orjson.loads(value)
        except orjson.JSONDecodeError:
            literal = None
        if isinstance(literal, (bool, int, float)):
            wanted.append(literal)
    return {"any": [{"exact": {name: one}} for one in wanted]}


@dataclass(frozen=True, slots=True)
class Choice:
    """A selection of events; empty fields select everything.

    Args:
        types: event types, one of which it must have.
        ids: event ids, one of which it must have.
        conditions: all of which it must meet.
    """

    types: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    conditions: tuple[Filter, ...] = ()

    @classmethod
    def of(cls, types: Iterable[str], ids: Iterable[str], conditions: Iterable[Filter]) -> Choice:
        """Make one of a command's options."""
        return cls(frozenset(types), frozenset(one.strip().lower() for one in ids), tuple(conditions))

    @property
    def is_all(self) -> bool:
        """Whether nothing was selected."""
        return not (self.types or self.ids or self.conditions)

    def takes(self, event: Mapping[str, Any], event_id: str) -> bool:
        """Return whether this event is asked for."""
        return (
            (not self.types or event.get("type") in self.types)
            and (not self.ids or event_id.lower() in self.ids)
            and all(one.matches(event) for one in self.conditions)
        )


class _Printer:
    """Prints the events that are asked for, and counts them.

    Args:
        topic: None is every one.
        choice: of the events of the topic.
        as_json: as bytes, for programs; otherwise as lines for people.
    """

    def __init__(self, topic: str | None, choice: Choice, *, as_json: bool) -> None:
        self._topic = topic
        self._choice = choice
        self._as_json = as_json
        self.shown = 0
        self.flawed = 0

    def take(self, record: Record) -> None:
        """Print one record if it is asked for."""
        if self._topic is not None and record.topic != self._topic:
            return
        if record.flaw:
            self.flawed += 1
            click.echo(f"{record.partition} offset {record.offset}: no event: {record.flaw}", err=True)
            return
        event = parsed(record.value)
        if not self._choice.takes(event, record.id):
            return
        self.shown += 1
        click.echo(record.value if self._as_json else event_line(event, record.id, topic=record.topic))


@click.command(epilog=EXAMPLES)
@click.option(
    "--topic", shell_complete=complete_any_topic, help="Only this one. Also retry.DELAY, replay and dlq.NAME."
)
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="TYPE",
    shell_complete=complete_type,
    help="Only events of this type, such as nxcloud.sms.dr; can be given several times.",
)
@click.option("--id", "ids", multiple=True, metavar="ID", help="Only this event; can be given several times.")
@click.option(
    "--filter",
    "conditions",
    multiple=True,
    type=Condition(),
    metavar="CONDITION",
    help="Only events that meet it: data.status=delivered, !=, ^= (begins with), $= (ends with), or a subscriber's "
    "filter as JSON; can be given several times.",
)
@click.option("--since", type=Moment(), help="Begin at a time: 15m (ago), or 2026-03-04T05:06:07Z. Left out: now.")
@click.option(
    "-f",
    "--follow/--once",
    "follows",
    default=True,
    help="Continue with events as they come (the default), or print the stored ones and stop; all, without --since.",
)
@click.option(
    "--json/--pretty",
    "as_json",
    default=None,
    help="Each event as one line of JSON, or as a line for people. Left out: for people on a terminal, JSON otherwise.",
)
@config_option
def tail(
    topic: str | None,
    types: tuple[str, ...],
    ids: tuple[str, ...],
    conditions: tuple[Filter, ...],
    since: float | None,
    follows: bool,
    as_json: bool | None,
    config_path: Path,
) -> None:
    """Print events as they come.

    With Kafka it reads the topics, in no consumer group. Otherwise it reads the journal's file, whether
    the gateway is running or not. With --once it fails (1) when nothing is what was asked for.
    """
    settings = settings_from(config_path)
    if follows:
        _check_types(settings, types)
    choice = Choice.of(types, ids, conditions)
    printer = _Printer(topic, choice, as_json=not sys.stdout.isatty() if as_json is None else as_json)
    if settings.kafka is not None:
        run_async(_tail_topics(settings, topic, since, printer, is_once=not follows))
    else:
        for record in _journalled(settings, topic, since, is_once=not follows):
            printer.take(record)
    if not printer.shown and not printer.flawed and not (topic is None and choice.is_all):
        raise Broken(_nothing(settings, topic, choice))


def _nothing(settings: Settings, topic: str | None, choice: Choice) -> str:
    """Return the sentence that says what was not found."""
    asked = [
        f"in the topic {topic}" if topic is not None else "",
        f"of type {' or '.join(sorted(choice.types))}" if choice.types else "",
        f"with the id {' or '.join(sorted(choice.ids))}" if choice.ids else "",
        "that meets every --filter" if choice.conditions else "",
    ]
    hints = (suggestion(one, event_types(settings)) for one in choice.types - set(event_types(settings)))
    return f"there is no event {' '.join(filter(None, asked))}{''.join(hints)}"


def _check_types(settings: Settings, types: Collection[str]) -> None:
    """Refuse a type that no callback makes: it would print nothing, for ever.

    Raises:
        Broken: names the nearest type.
    """
    rows = [row for rows in settings.ingest.callbacks.values() for row in rows]
    if any((row.type or "").startswith("$") for row in rows):
        return  # the payload names it
    known = event_types(settings)
    for one in types:
        if one not in known:
            raise Broken(f"no callback makes events of type {one}{suggestion(one, known)}")


async def _tail_topics(
    settings: Settings, topic: str | None, since: float | None, printer: _Printer, *, is_once: bool
) -> None:
    async with aclosing(consume(settings, topic, since, is_once=is_once)) as records:
        async for record in records:
            printer.take(record)


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
    known = settings.event_topics
    if topic is not None and topic not in known and not topic.startswith(_INTERNAL):
        raise Broken(f"there is no topic {topic}{suggestion(topic, known)}")
