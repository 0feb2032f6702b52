"""``gateway subscribers``: how they are doing; pause and resume one. Changes: gateway.cli.subscriber_changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from gateway.cli.adminapi import AdminApi, admin_option
from gateway.cli.completion import complete_subscriber
from gateway.cli.options import config_option, json_option
from gateway.cli.subscriber_changes import add, remove, rotate_secret, set_, show, test
from gateway.cli.tables import coloured, local, print_json, print_table, printable

EXAMPLES: Final = """
\b
Examples
  gateway subscribers list
  gateway subscribers list --json | jq '.subscribers[] | select(.state != "healthy") | .name'
  gateway subscribers pause billing      its events wait in the log
  gateway subscribers resume billing     and are delivered from there on
  gateway subscribers add name=billing topics=sms.dr url=https://billing.example.com/hooks
  gateway subscribers test billing
"""


@click.group(epilog=EXAMPLES)
def subscribers() -> None:
    """See how subscribers are doing; add, change, test and remove them while the gateway runs."""


@subscribers.command(name="list", epilog=EXAMPLES)
@json_option
@admin_option
@config_option
def list_(as_json: bool, admin_url: str | None, config_path: Path) -> None:
    """List all with state, lag, rate, latency and the last error."""
    document = AdminApi(config_path, admin_url).get("/api/subscribers")
    if as_json:
        print_json(document)
        return
    found = document["subscribers"]
    for one in document["not_usable"]:
        click.echo(f"{one['name']} cannot be used: {printable(one['problem'])}", err=True)
    if not found:
        click.echo("there are no subscribers")
        return
    print_table(
        (
            "subscriber",
            "source",
            "state",
            "lag",
            "in flight",
            "per second",
            "success",
            "p50 ms",
            "p99 ms",
            "given up",
            "last error",
        ),
        [
            (
                one["name"],
                one["source"],
                one["state"] or ("stream" if one["kind"] == "stream" else "unknown"),
                _lag(one),
                one["in_flight"],
                f"{one['rate']:.1f}",
                None if one["success_share"] is None else f"{one['success_share']:.1%}",
                _ms(one["p50"]),
                _ms(one["p99"]),
                one["dead_letters"],
                _error(one["last_error"]),
            )
            for one in found
        ],
    )


@subscribers.command(epilog=EXAMPLES)
@click.argument("name", shell_complete=complete_subscriber)
@json_option
@admin_option
@config_option
def pause(name: str, as_json: bool, admin_url: str | None, config_path: Path) -> None:
    """Hold a subscriber's events back, over restarts, until it is resumed.

    They wait in the log; what is older than the log keeps is lost to it, and counted.
    """
    _tell(AdminApi(config_path, admin_url).post(f"/api/subscribers/{name}/pause", {}), as_json=as_json)


@subscribers.command(epilog=EXAMPLES)
@click.argument("name", shell_complete=complete_subscriber)
@json_option
@admin_option
@config_option
def resume(name: str, as_json: bool, admin_url: str | None, config_path: Path) -> None:
    """Continue from the stored position after a pause, or after the subscriber answered 410."""
    _tell(AdminApi(config_path, admin_url).post(f"/api/subscribers/{name}/resume", {}), as_json=as_json)


for command in (add, show, set_, remove, test, rotate_secret):
    subscribers.add_command(command)


def _tell(one: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(one)
        return
    lag = "" if one["lag"] is None else f", {one['lag']:,} records behind"
    unknown = f"; how far behind is unknown: {one['lag_unknown']['reason']}" if one["lag_unknown"] else ""
    click.echo(f"{one['name']} is {coloured(one['state'] or 'unknown')}{lag}{unknown}\n  {printable(one['reason'])}")


def _lag(one: dict[str, Any]) -> object:
    """Return the lag for display: an unknown one is not 0, and is shown with its last known value."""
    unknown = one["lag_unknown"]
    if unknown is None:
        return one["lag"]
    return "unknown" if unknown["since"] is None else f"unknown ({unknown['last']:,} at {local(unknown['since'])})"


def _ms(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds * 1000:.0f}"


def _error(error: dict[str, Any] | None) -> str | None:
    return None if error is None else f"{local(error['at'])}  {error['sentence']}"
