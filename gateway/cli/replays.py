"""``gateway replay list|show|watch|cancel|resume``: what became of replays, and ending or continuing one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.cli.adminapi import AdminApi, admin_option
from gateway.cli.options import config_option, json_option
from gateway.cli.tables import coloured, local, print_json, print_table
from gateway.errors import Broken

_LOOK_S: Final = 0.3
EXAMPLES: Final = """
\b
Examples
  gateway replay list
  gateway replay show r-12
  gateway replay watch r-12
  gateway replay cancel r-12
  gateway replay resume r-12 --watch
"""


@click.command(name="list", epilog=EXAMPLES)
@json_option
@admin_option
@config_option
def list_(as_json: bool, admin_url: str | None, config_path: Path) -> None:
    """List replays, newest first: how many events each stored, delivered and gave up."""
    found = AdminApi(config_path, admin_url).get("/api/replays")
    if as_json:
        print_json(found)
        return
    if not found["replays"]:
        click.echo("there are no replays")
        return
    print_table(
        ("replay", "subscriber", "state", "started", "stored", "delivered", "given up", "withdrawn", "waiting"),
        [
            (
                one["name"],
                one["subscriber"],
                one["state"],
                local(one["started_at"]),
                *(one[name] for name in ("stored", "delivered", "given_up", "withdrawn", "waiting")),
            )
            for one in found["replays"]
        ],
    )


@click.command(epilog=EXAMPLES)
@click.argument("name")
@json_option
@admin_option
@config_option
def show(name: str, as_json: bool, admin_url: str | None, config_path: Path) -> None:
    """Show a replay: which events it delivers, and how far it is."""
    found = AdminApi(config_path, admin_url).get(f"/api/replays/{name}")
    print_json(found) if as_json else _print(found)


@click.command(epilog=EXAMPLES)
@click.argument("name")
@json_option
@admin_option
@config_option
def watch(name: str, as_json: bool, admin_url: str | None, config_path: Path) -> None:
    """Wait until everything of a replay is delivered or given up. Ctrl-C ends the waiting, not the replay."""
    api = AdminApi(config_path, admin_url)
    found = follow(api, api.get(f"/api/replays/{name}"), until_delivered=True, shows=not as_json)
    print_json(found) if as_json else _print(found)


@click.command(epilog=EXAMPLES)
@click.argument("name")
@json_option
@admin_option
@config_option
def cancel(name: str, as_json: bool, admin_url: str | None, config_path: Path) -> None:
    """Cancel a replay: what is not delivered by now is withdrawn when it is due."""
    found = AdminApi(config_path, admin_url).post(f"/api/replays/{name}/cancel", {})
    if as_json:
        print_json(found)
    else:
        click.echo(f"{found['name']} is cancelled after {found['delivered']:,} of {found['stored']:,} events")


@click.command(epilog=EXAMPLES)
@click.argument("name")
@click.option("--watch", "watches", is_flag=True, help="Until everything is delivered or given up, not only stored.")
@json_option
@admin_option
@config_option
def resume(name: str, watches: bool, as_json: bool, admin_url: str | None, config_path: Path) -> None:
    """Continue a replay that was cancelled or broke off, as a new replay.

    One that broke off continues behind what it had stored, because that is delivered. One that was cancelled starts
    over, without what it has delivered as far as attempts are recorded.
    """
    api = AdminApi(config_path, admin_url)
    job = api.post(f"/api/replays/{name}/resume", {})
    found = follow(api, job, until_delivered=watches, shows=not as_json)
    print_json(found) if as_json else _print(found)


COMMANDS: Final = (list_, show, watch, cancel, resume)


def follow(api: AdminApi, job: dict[str, Any], *, until_delivered: bool, shows: bool) -> dict[str, Any]:
    """Return a replay when everything is stored, or delivered.

    Args:
        api: of the gateway.
        job: as the gateway describes it.
        until_delivered: wait until nothing of it waits any more.
        shows: a bar, on terminals.

    Raises:
        Broken: it failed, was cancelled or broke off.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not (shows and console.is_terminal)) as progress:
        task = progress.add_task("storing", total=None)
        while job["state"] == "running" or (until_delivered and job["state"] == "done" and job["waiting"]):
            time.sleep(_LOOK_S)
            job = api.get(f"/api/replays/{job['number']}")
            if job["state"] == "running":
                progress.update(task, completed=job["stored"])
            else:
                done = job["stored"] - job["waiting"]
                progress.update(task, description="delivering", total=job["stored"], completed=done)
    if job["state"] != "done":
        why = f": {job['error']}" if job["error"] else ""
        raise Broken(f"the replay {job['name']} is {job['state']} after {job['stored']:,} events{why}")
    return job


def progress_line(one: dict[str, Any]) -> str:
    """Return how far the delivery of a replay is, as a sentence."""
    parts = [f"{one['delivered']:,} delivered"]
    parts += [f"{one[name]:,} {word}" for name, word in _MORE if one[name]]
    return f"of {one['stored']:,} stored: {', '.join(parts)}"


_MORE: Final = (("given_up", "given up"), ("withdrawn", "withdrawn"), ("waiting", "waiting"))


def _print(one: dict[str, Any]) -> None:
    selection = one["selection"]
    ids = selection["ids"]
    for title, value in (
        ("replay", f"{click.style(one['name'], bold=True)} to {one['subscriber']}: {coloured(one['state'])}"),
        ("continues", one["resumes"]),
        ("started", local(one["started_at"])),
        ("ended", local(one["ended_at"])),
        ("from", f"dead letters ({selection['state']})" if selection["is_from_dlq"] else "its topics"),
        ("since", local(selection["since"]) if selection["since"] else ""),
        ("until", local(selection["until"])),
        ("ids", ", ".join(ids[:3]) + (f" and {len(ids) - 3:,} more" if len(ids) > 3 else "")),
        ("types", ", ".join(selection["types"])),
        ("reasons", ", ".join(selection["reasons"])),
        ("rate", f"{one['rate']:g} a second" if one["rate"] else ""),
        ("events", progress_line(one)),
        ("error", one["error"]),
    ):
        if value:
            click.echo(f"  {click.style(f'{title:<13}', dim=True)} {value}")
