"""``gateway replay``: deliver again, or decode again what was rejected; see, end and continue replays."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.cli.adminapi import (
    AdminApi,
    NotAsked,
    NotKnown,
    admin_option,
    asks_gateway,
    complete_callback,
    complete_subscriber,
    complete_type,
)
from gateway.cli.options import Moment, Number, config_option, json_option, settings_or_defaults
from gateway.cli.printing import coloured, local, print_json, print_table, printable
from gateway.errors import Broken
from gateway.fanout.dead_letters import WANTED

EXAMPLES: Final = """
\b
Examples
  gateway replay --subscriber billing --since 2h --dry-run
  gateway replay --subscriber billing --since 2026-03-04T05:00Z --until 2026-03-04T06:00Z --rate 50
  gateway replay --subscriber billing --id 0f2a4c6e8091a2b3c4d5e6f708192a3b
  gateway replay --subscriber billing --since 2h --failed-only --watch
  gateway replay --subscriber billing --dlq --reason attempts
  gateway replay --rejected --callback callbot-task --dry-run
  gateway replay --rejected --callback unknown-path --as callbot-task
  gateway replay list
  gateway replay cancel r-12
"""
_LOOK_S: Final = 0.3
LIST_EXAMPLES: Final = """
\b
Examples
  gateway replay list
  gateway replay show r-12
  gateway replay watch r-12
  gateway replay cancel r-12
  gateway replay resume r-12 --watch
"""


@click.group(invoke_without_command=True, subcommand_metavar="[COMMAND]", epilog=EXAMPLES)
@click.option("--subscriber", metavar="NAME", shell_complete=complete_subscriber, help="Who gets the events again.")
@click.option("--since", type=Moment(), help="Stored from this time on: 15m (ago), or 2026-03-04T05:06:07Z.")
@click.option("--until", type=Moment(), help="Stored before this time. Left out: now.")
@click.option("--id", "ids", multiple=True, metavar="ID", help="This event; can be given several times.")
@click.option("--dlq", is_flag=True, help="From its dead letters instead of the topics.")
@click.option("--reason", "reasons", multiple=True, help="Dead letters with this reason: attempts, age.")
@click.option(
    "--type", "types", multiple=True, shell_complete=complete_type, help="Only events of this type: nxcloud.sms.dr."
)
@click.option("--state", type=click.Choice(WANTED), help="With --dlq: dead letters in this state. Left out: open ones.")
@click.option("--failed-only", is_flag=True, help="Not what was delivered already, as far as attempts are recorded.")
@click.option("--all", "is_all", is_flag=True, help="Also what the subscriber's filter leaves out.")
@click.option("--rejected", is_flag=True, help="Decode rejected callbacks again instead; after a fix or an upgrade.")
@click.option("--callback", shell_complete=complete_callback, help="With --rejected: only of this callback.")
@click.option("--as", "decode_as", metavar="CALLBACK", help="With --rejected: requests to unknown paths are these.")
@click.option(
    "--unauthenticated",
    is_flag=True,
    help="With --rejected: also requests to unknown paths that did not show the token, signature or address.",
)
@click.option("--dry-run", is_flag=True, help="Count, and change nothing.")
@click.option("--rate", type=Number(min=0, min_open=True), help="At most so many a second.")
@click.option("--watch", is_flag=True, help="Until everything is delivered or given up, not only stored.")
@json_option
@admin_option
@config_option
@click.pass_context
def replay(
    context: click.Context,
    /,
    subscriber: str | None,
    since: float | None,
    until: float | None,
    ids: tuple[str, ...],
    dlq: bool,
    reasons: tuple[str, ...],
    types: tuple[str, ...],
    state: str | None,
    failed_only: bool,
    is_all: bool,
    rejected: bool,
    callback: str | None,
    decode_as: str | None,
    unauthenticated: bool,
    dry_run: bool,
    rate: float | None,
    watch: bool,
    as_json: bool,
    admin_url: str | None,
    config_path: Path,
) -> None:
    """Deliver events to a subscriber again.

    They go the normal way: in order per key, retried, with the same id and bytes, and gateway-replay: true. Asks the
    running gateway. The command ends when everything is stored for the subscriber; delivery continues by itself, and
    --watch waits for it. It fails (1) when nothing is what was asked for.
    """
    if context.invoked_subcommand is not None:
        return
    if not rejected and (decode_as or unauthenticated):
        raise click.UsageError("--as and --unauthenticated go with --rejected")
    if state and not dlq:
        raise click.UsageError("--state goes with --dlq")
    _check(subscriber, since, ids, dlq=dlq, reasons=reasons, rejected=rejected, callback=callback)
    api = AdminApi(settings_or_defaults(config_path), admin_url)
    wanted = {"since": since, "until": until, "ids": list(ids)}
    if rejected:
        more = {"callback": callback, "as": decode_as, "unauthenticated": unauthenticated, "dry_run": dry_run}
        found = api.post("/api/rejected/replay", {**wanted, **more})
        print_json(found) if as_json else _print_rejected(found)
        return
    selection = {
        **wanted,
        "subscriber": subscriber,
        "from_dlq": dlq,
        "reasons": list(reasons),
        "types": list(types),
        "state": state,
        "failed_only": failed_only,
        "all": is_all,
    }
    if dry_run:
        found = api.post("/api/replay", {**selection, "dry_run": True})
    else:
        job = api.post("/api/replay", {**selection, "rate": rate})
        found = follow(api, job, until_delivered=watch, shows=not as_json)
    print_json(found) if as_json else _print(found, is_dry_run=dry_run)
    if not found["events"]:
        raise NotKnown(f"nothing of {subscriber} is what was asked for ({found['looked_at']:,} looked at)")


def _check(
    subscriber: str | None,
    since: float | None,
    ids: tuple[str, ...],
    *,
    dlq: bool,
    reasons: tuple[str, ...],
    rejected: bool,
    callback: str | None,
) -> None:
    if rejected:
        if subscriber or dlq or reasons:
            raise click.UsageError("--rejected excludes other selections: the events go to all of their subscribers")
        return
    if callback:
        raise click.UsageError("--callback goes with --rejected; use --type to choose events")
    if not subscriber:
        raise click.UsageError("--subscriber says who gets the events; or --rejected decodes again")
    if since is None and not ids and not dlq:
        raise click.UsageError("say what: --since, --id or --dlq")
    if reasons and not dlq:
        raise click.UsageError("--reason goes with --dlq")


def _print(found: dict[str, Any], *, is_dry_run: bool) -> None:
    if found["delivered_already"]:
        click.echo(f"{found['delivered_already']:,} events were delivered already and are left out", err=True)
    if not found["events"]:
        return
    verb = "would be delivered again" if is_dry_run else "are stored for delivery"
    name = "" if is_dry_run else f" by replay {found['name']}"
    click.echo(f"{found['events']:,} events {verb} to {found['subscriber']}{name} ({found['looked_at']:,} looked at)")
    for type_, count in sorted(found["by_type"].items(), key=lambda pair: -pair[1]):
        click.echo(f"  {count:>9,}  {type_}")
    if not is_dry_run and (found["delivered"] or found["given_up"]):
        click.echo(progress_line(found))


def _print_rejected(found: dict[str, Any]) -> None:
    verb = "can be understood now" if found["dry_run"] else "are understood now"
    click.echo(f"{found['decoded']:,} of {found['looked_at']:,} rejected callbacks {verb}")
    click.echo(f"  {found['events']:>9,}  events {'would be stored' if found['dry_run'] else 'stored'}")
    if found["already_stored"]:
        click.echo(f"  {found['already_stored']:>9,}  events were stored already")
    if found["still_rejected"]:
        click.echo(f"  {found['still_rejected']:>9,}  still rejected:")
        for reason, count in sorted(found["reasons"].items(), key=lambda pair: -pair[1]):
            click.echo(f"  {count:>9,}    {printable(reason)}")
    if found["is_more"]:
        raise NotAsked(f"there are more: run it again with --since {found['last_at']:.0f}")


@replay.command(name="list", epilog=LIST_EXAMPLES)
@asks_gateway
def list_(as_json: bool, api: AdminApi) -> None:
    """List replays, newest first: how many events each stored, delivered and gave up."""
    found = api.get("/api/replays")
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


@replay.command(epilog=LIST_EXAMPLES)
@click.argument("name")
@asks_gateway
def show(name: str, as_json: bool, api: AdminApi) -> None:
    """Show a replay: which events it delivers, and how far it is."""
    found = api.get(f"/api/replays/{name}")
    print_json(found) if as_json else _print_one(found)


@replay.command(epilog=LIST_EXAMPLES)
@click.argument("name")
@asks_gateway
def watch(name: str, as_json: bool, api: AdminApi) -> None:
    """Wait until everything of a replay is delivered or given up. Ctrl-C ends the waiting, not the replay."""
    found = follow(api, api.get(f"/api/replays/{name}"), until_delivered=True, shows=not as_json)
    print_json(found) if as_json else _print_one(found)


@replay.command(epilog=LIST_EXAMPLES)
@click.argument("name")
@asks_gateway
def cancel(name: str, as_json: bool, api: AdminApi) -> None:
    """Cancel a replay: what is not delivered by now is withdrawn when it is due."""
    found = api.post(f"/api/replays/{name}/cancel", {})
    if as_json:
        print_json(found)
    else:
        click.echo(f"{found['name']} is cancelled after {found['delivered']:,} of {found['stored']:,} events")


@replay.command(epilog=LIST_EXAMPLES)
@click.argument("name")
@click.option("--watch", "watches", is_flag=True, help="Until everything is delivered or given up, not only stored.")
@asks_gateway
def resume(name: str, watches: bool, as_json: bool, api: AdminApi) -> None:
    """Continue a replay that was cancelled or broke off, as a new replay.

    One that broke off continues behind what it had stored, because that is delivered. One that was cancelled starts
    over, without what it has delivered as far as attempts are recorded.
    """
    job = api.post(f"/api/replays/{name}/resume", {})
    found = follow(api, job, until_delivered=watches, shows=not as_json)
    print_json(found) if as_json else _print_one(found)


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


def _print_one(one: dict[str, Any]) -> None:
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
