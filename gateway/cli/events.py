"""``gateway events``: the newest stored events with their outcomes, and those that meet conditions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from gateway.cli.adminapi import AdminApi, admin_option
from gateway.cli.completion import complete_callback, complete_subscriber, complete_topic, complete_type
from gateway.cli.options import Moment, config_option, json_option
from gateway.cli.tables import local, print_json, print_table
from gateway.errors import Broken

EXAMPLES: Final = """
\b
Examples
  gateway events
  gateway events --subscriber billing --outcome dead_lettered --since 1d
  gateway events --key-prefix ORDER-17 --json
  gateway events --q 15550100200 --limit 5
"""


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
@json_option
@admin_option
@config_option
def events(as_json: bool, admin_url: str | None, config_path: Path, **conditions: Any) -> None:
    """List stored events, newest first.

    Asks the running gateway. The outcome is the worst one of all subscribers, or that of the given subscriber.
    """
    found = AdminApi(config_path, admin_url).get("/api/search", conditions)
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
