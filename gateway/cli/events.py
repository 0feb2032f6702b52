"""Commands about the past: ``gateway events`` and ``explain`` show events, ``doctor`` and ``audit`` show changes."""

from __future__ import annotations

from typing import Any, Final

import click

from gateway.cli.adminapi import (
    AdminApi,
    NotAsked,
    asks_gateway,
    complete_callback,
    complete_subscriber,
    complete_topic,
    complete_type,
)
from gateway.cli.options import Moment
from gateway.cli.printing import coloured, local, print_json, print_table, printable
from gateway.errors import Broken

EXAMPLES: Final = """
\b
Examples
  gateway events
  gateway events --subscriber billing --outcome dead_lettered --since 1d
  gateway events --key-prefix ORDER-17 --json
  gateway events --q 15550100200 --limit 5
"""
EXPLAIN: Final = """
\b
Examples
  gateway explain 0f2a4c6e8091a2b3c4d5e6f708192a3b
  gateway explain 15550100200           a phone number, message id, call id, order id: the newest of them
  gateway explain 0f2a4c6e8091a2b3c4d5e6f708192a3b --json | jq .subscribers
"""
_ID_LENGTH: Final = 32
DOCTOR: Final = """
\b
Examples
  gateway doctor events
  gateway doctor events --since 7d --callback whatsapp
  gateway doctor events --json | jq '.callbacks[] | select(.drift != [])'
"""
#: Fields of one type that are named; the others are counted. --json has all.
_MAX_NAMED: Final = 12
AUDIT: Final = """
\b
Examples
  gateway audit
  gateway audit --subject billing --since 7d
  gateway audit --json | jq '.records[] | select(.action == "remove")'
"""
#: They have columns of their own, or are for programs.
_COLUMNS: Final = frozenset({"at", "who", "role", "action", "subject", "peer", "changed"})


@click.command(epilog=EXAMPLES)
@click.option("--q", metavar="TEXT", help="Only with this id or phone number, as a whole.")
@click.option("--key-prefix", metavar="TEXT", help="Only with a key (message id, call id, …) that begins with this.")
@click.option("--topic", shell_complete=complete_topic, help="Only of this topic.")
@click.option("--type", metavar="TYPE", shell_complete=complete_type, help="Only of this type.")
@click.option("--callback", metavar="NAME", shell_complete=complete_callback, help="Only of this callback.")
@click.option("--subscriber", metavar="NAME", shell_complete=complete_subscriber, help="Only for this subscriber.")
@click.option(
    "--outcome",
    metavar="OUTCOME",
    help="Only with this outcome at the subscriber, or at any: delivered, retrying, parked, dead_lettered, skipped, …",
)
@click.option("--since", type=Moment(), help="Stored from this time on: 15m (ago), or 2026-03-04T05:06:07Z.")
@click.option("--until", type=Moment(), help="Stored before this time.")
@click.option("--before", type=click.IntRange(0), help="Continue a list: the number that the one before named.")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True, help="At most so many.")
@asks_gateway
def events(as_json: bool, api: AdminApi, **conditions: Any) -> None:
    """List stored events, newest first.

    Asks the running gateway. The outcome is the worst one of all subscribers, or that of the given subscriber.
    """
    found = api.get("/api/search", conditions)
    if as_json:
        print_json(found)
    elif found["events"]:
        print_table(
            ("stored", "type", "key", "event", "outcome"),
            [(local(one["stored_at"]), one["type"], one["key"], one["id"], one["outcome"]) for one in found["events"]],
        )
    looked_to = found["looked_to"]
    if found["next"] is not None:
        far = "" if looked_to is None else f"everything back to {local(looked_to)} was examined; "
        click.echo(f"{far}--before {found['next']} continues", err=True)
    if (
        not found["events"]
        and found["next"] is None
        and any(conditions[name] for name in conditions if name != "limit")
    ):
        raise Broken("no stored event meets these conditions")


@click.command(epilog=EXPLAIN)
@click.argument("event_id")
@asks_gateway
def explain(event_id: str, as_json: bool, api: AdminApi) -> None:
    """Show everything that is known about one event.

    Received, stored, answered, published where, and for each subscriber: delivered, waiting, given up or skipped, why,
    and every attempt. Asks the running gateway.
    """
    story = api.get(f"/api/events/{_found(api, event_id)}")
    if as_json:
        print_json(story)
        return
    _print_story(story)


def _found(api: AdminApi, asked: str) -> str:
    """Return an event id as it is; look up anything else, and return the newest event's id."""
    if len(asked) == _ID_LENGTH and all(letter in "0123456789abcdefABCDEF" for letter in asked):
        return asked.lower()
    found = api.get("/api/search", {"q": asked, "limit": 20})["events"]
    if not found:
        raise NotAsked(f"nothing is found for {asked!r}; it may be older than the journal keeps")
    if len(found) > 1:
        click.echo(f"{len(found)} events are found; this is the newest. The others:", err=True)
        for event in found[1:]:
            click.echo(f"  {event['id']}  {event['type']}  {local(event['stored_at'])}", err=True)
    return str(found[0]["id"])


def _print_story(story: dict[str, Any]) -> None:
    event = story["event"]
    click.echo(f"{click.style(str(event.get('type')), bold=True)}  {printable(str(event.get('subject', '')))}")
    for name, value in (
        ("id", story["id"]),
        ("happened", local(event.get("time"))),
        ("received", local(story["received_at"], with_ms=True)),
        ("stored", f"{local(story['stored']['at'], with_ms=True)}, offset {story['stored']['offset']:,}"),
        ("answered", _answered(story["answered"])),
        ("published", _published(story["published"])),
    ):
        click.echo(f"  {click.style(f'{name:<10}', dim=True)} {printable(str(value))}")
    if not story["subscribers"]:
        click.echo(f"  no subscriber has the topic {story['topic']}")
    for one in story["subscribers"]:
        click.echo(f"\n  {click.style(one['name'], bold=True)}  {coloured(one['outcome'])}: {printable(one['why'])}")
        _print_attempts(one["attempts"])
        if one["dead_letter"] and one["dead_letter"]["response"]:
            click.echo(f"      it answered: {printable(one['dead_letter']['response'])}")
    for one in story["former"]:
        click.echo(f"\n  {click.style(one['name'], bold=True)}  not in the configuration any more")
        _print_attempts(one["attempts"])
    if story["gap"]:
        click.echo(f"\n  {click.style('Note', fg='yellow')}: {story['gap']}")


def _print_attempts(attempts: list[dict[str, Any]]) -> None:
    for attempt in attempts:
        replay = f"  replay {attempt['replay']}" if attempt["replay"] else ""
        click.echo(
            f"      {local(attempt['at'], with_ms=True)}  attempt {attempt['number']:<3} {attempt['result']:<12} "
            f"{attempt['duration_ms']:>6} ms  {coloured(attempt['outcome'])}{replay}"
        )
        if attempt["sentence"]:
            click.echo(f"        {printable(attempt['sentence'])}")


def _answered(answered: dict[str, Any]) -> str:
    word = "success" if answered["status"] == 200 else "failure: it was not understood"
    return f"{answered['status']}, {word}, after it was stored"


def _published(published: dict[str, Any]) -> str:
    if published["state"] == "no_kafka":
        return "no Kafka is configured"
    if published["state"] == "waiting":
        return f"not yet: it waits in the journal for {published['topic']}"
    if published.get("partition") is None:
        return f"to {published['topic']}"
    offset = published["offset"]
    return f"to {published['topic']}, partition {published['partition']}" + (
        "" if offset is None else f", offset {offset:,}"
    )


@click.group(epilog=DOCTOR)
def doctor() -> None:
    """Find out what the platform changed."""


@doctor.command(name="events", epilog=DOCTOR)
@click.option("--since", type=Moment(), help="Events stored from this time on. Left out: the last 24 hours.")
@click.option("--callback", metavar="NAME", shell_complete=complete_callback, help="Only of this callback.")
@asks_gateway
def changed(since: float | None, callback: str | None, as_json: bool, api: AdminApi) -> None:
    """Show what this version does not know, by callback.

    For each callback: how many events of which type, fields and codes that the platform sends and this version does
    not know, with the id of an event that has them, documented fields that never come, and callbacks that were
    rejected. Asks the running gateway, which decodes the newest events of its journal again, up to 1,000 of a
    callback; so after an upgrade the command shows what the new version understands.
    """
    found = api.get("/api/doctor/events", {"since": since, "callback": callback})
    if as_json:
        print_json(found)
        return
    silent = [one["name"] for one in found["callbacks"] if not one["events"] and not one["rejected"]]
    for one in found["callbacks"]:
        if one["name"] not in silent:
            _print_changes(one)
    if silent:
        click.echo(f"nothing came since {local(found['since'])} from: {', '.join(silent)}")


def _print_changes(one: dict[str, Any]) -> None:
    scope = "" if one["is_complete"] else "the newest "
    types = ", ".join(f"{kind} {count:,}" for kind, count in sorted(one["types"].items(), key=lambda pair: -pair[1]))
    last = f"; last {local(one['last_at'])}" if one["last_at"] else ""
    click.echo(f"{click.style(one['name'], bold=True)}  {scope}{one['events']:,} events{last}")
    if types:
        click.echo(f"  {types}")
    for drift in one["drift"]:
        click.echo(f"  {_yellow('new')}       {printable(drift['what'])}  {drift['count']:,} times, in {drift['id']}")
        click.echo(f"            {drift['advice']}")
    for rejected in one["rejected"]:
        click.echo(
            f"  {_yellow('rejected')}  {printable(rejected['reason'])}  {rejected['count']:,} times, {rejected['id']}"
        )
        click.echo("            gateway explain ID shows the request; after a fix: gateway replay --rejected")
    for kind in dict.fromkeys(field["type"] for field in one["never_seen"]):
        names = [field["field"] for field in one["never_seen"] if field["type"] == kind]
        more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
        click.echo(f"  never in {kind}: {', '.join(names[:_MAX_NAMED])}{more}")
    if not one["drift"] and not one["rejected"]:
        click.echo(f"  {click.style('nothing new', fg='green')}")


def _yellow(word: str) -> str:
    return click.style(word, fg="yellow")


@click.command(epilog=AUDIT)
@click.option("--subject", metavar="NAME", shell_complete=complete_subscriber, help="Only of this subscriber.")
@click.option("--since", type=Moment(), help="From this time on: 15m (ago), or 2026-03-04T05:06:07Z.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="The newest so many.")
@asks_gateway
def audit(subject: str | None, since: float | None, limit: int, as_json: bool, api: AdminApi) -> None:
    """List changes by operators, newest first: who, when, what. No value of a setting is shown."""
    query = {"subject": subject, "since": since, "limit": limit}
    document = api.get("/api/audit", query)
    if as_json:
        print_json(document)
        return
    if not document["records"]:
        click.echo("nothing was changed")
        return
    print_table(
        ("time", "who", "role", "action", "subject", "what"),
        [
            (local(one["at"]), one.get("who"), one.get("role"), one.get("action"), one.get("subject"), _what(one))
            for one in document["records"]
        ],
    )


def _what(one: dict[str, Any]) -> str:
    others = [f"{name} {value}" for name, value in one.items() if name not in _COLUMNS and value is not None]
    return ", ".join([*one.get("changed", ()), *others])
