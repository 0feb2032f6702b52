"""``gateway audit``: who changed what, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from gateway.cli.adminapi import AdminApi, admin_option
from gateway.cli.completion import complete_subscriber
from gateway.cli.options import Moment, config_option, json_option
from gateway.cli.tables import local, print_json, print_table

EXAMPLES: Final = """
\b
Examples
  gateway audit
  gateway audit --subject billing --since 7d
  gateway audit --json | jq '.records[] | select(.action == "remove")'
"""
#: They have columns of their own, or are for programs.
_COLUMNS: Final = frozenset({"at", "who", "role", "action", "subject", "peer", "changed"})


@click.command(epilog=EXAMPLES)
@click.option("--subject", metavar="NAME", shell_complete=complete_subscriber, help="Only of this subscriber.")
@click.option("--since", type=Moment(), help="From this time on: 15m (ago), or 2026-03-04T05:06:07Z.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="The newest so many.")
@json_option
@admin_option
@config_option
def audit(
    subject: str | None, since: float | None, limit: int, as_json: bool, admin_url: str | None, config_path: Path
) -> None:
    """List changes by operators, newest first: who, when, what. No value of a setting is shown."""
    query = {"subject": subject, "since": since, "limit": limit}
    document = AdminApi(config_path, admin_url).get("/api/audit", query)
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
