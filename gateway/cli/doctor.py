"""``gateway doctor``: find out that the platform changed something before a person misses data."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from gateway.cli.adminapi import AdminApi, admin_option
from gateway.cli.completion import complete_callback
from gateway.cli.options import Moment, config_option, json_option
from gateway.cli.tables import local, print_json, printable

EXAMPLES: Final = """
\b
Examples
  gateway doctor events
  gateway doctor events --since 7d --callback whatsapp
  gateway doctor events --json | jq '.callbacks[] | select(.drift != [])'
"""
#: Fields of one type that are named; the others are counted. --json has all.
_MAX_NAMED: Final = 12


@click.group(epilog=EXAMPLES)
def doctor() -> None:
    """Find out what the platform changed."""


@doctor.command(epilog=EXAMPLES)
@click.option("--since", type=Moment(), help="Events stored from this time on. Left out: the last 24 hours.")
@click.option("--callback", metavar="NAME", shell_complete=complete_callback, help="Only of this callback.")
@json_option
@admin_option
@config_option
def events(since: float | None, callback: str | None, as_json: bool, admin_url: str | None, config_path: Path) -> None:
    """Show what this version does not know, by callback.

    For each callback: how many events of which type, fields and codes that the platform sends and this version does
    not know, with the id of an event that has them, documented fields that never come, and callbacks that were
    rejected. Asks the running gateway, which decodes the newest events of its journal again, up to 1,000 of a
    callback; so after an upgrade the command shows what the new version understands.
    """
    found = AdminApi(config_path, admin_url).get("/api/doctor/events", {"since": since, "callback": callback})
    if as_json:
        print_json(found)
        return
    silent = [one["name"] for one in found["callbacks"] if not one["events"] and not one["rejected"]]
    for one in found["callbacks"]:
        if one["name"] not in silent:
            _print(one)
    if silent:
        click.echo(f"nothing came since {local(found['since'])} from: {', '.join(silent)}")


def _print(one: dict[str, Any]) -> None:
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
