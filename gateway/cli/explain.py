"""``gateway explain``: the whole story of one event."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from gateway.cli.adminapi import AdminApi, NotAsked, admin_option
from gateway.cli.options import config_option, json_option
from gateway.cli.tables import coloured, local, print_json, printable

EXAMPLES: Final = """
\b
Examples
  gateway explain 0f2a4c6e8091a2b3c4d5e6f708192a3b
  gateway explain 15550100200           a phone number, message id, call id, order id: the newest of them
  gateway explain 0f2a4c6e8091a2b3c4d5e6f708192a3b --json | jq .subscribers
"""
_ID_LENGTH: Final = 32


@click.command(epilog=EXAMPLES)
@click.argument("event_id")
@json_option
@admin_option
@config_option
def explain(event_id: str, as_json: bool, admin_url: str | None, config_path: Path) -> None:
    """Show everything that is known about one event.

    Received, stored, answered, published where, and for each subscriber: delivered, waiting, given up or skipped, why,
    and every attempt. Asks the running gateway.
    """
    api = AdminApi(config_path, admin_url)
    story = api.get(f"/api/events/{_found(api, event_id)}")
    if as_json:
        print_json(story)
        return
    _print(story)


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


def _print(story: dict[str, Any]) -> None:
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
