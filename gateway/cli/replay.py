"""``gateway replay``: deliver again, or decode again what was rejected."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from gateway.cli import replays
from gateway.cli.adminapi import AdminApi, NotAsked, NotKnown, admin_option
from gateway.cli.completion import complete_callback, complete_subscriber, complete_type
from gateway.cli.options import Moment, Number, config_option, json_option
from gateway.cli.tables import print_json, printable
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
    api = AdminApi(config_path, admin_url)
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
        found = replays.follow(api, job, until_delivered=watch, shows=not as_json)
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
        click.echo(replays.progress_line(found))


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


for command in replays.COMMANDS:
    replay.add_command(command)
