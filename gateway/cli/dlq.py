"""``gateway dlq``: what was given up, delivering it again, and closing it with a note."""

from __future__ import annotations

from typing import Any, Final

import click
import orjson

from gateway.cli.adminapi import (
    AdminApi,
    NotAsked,
    NotKnown,
    admin_option,
    asks_gateway,
    complete_subscriber,
    complete_type,
)
from gateway.cli.options import Moment, Number, config_option, json_option
from gateway.cli.printing import local, print_json, print_table, printable
from gateway.cli.replay import replay
from gateway.fanout.dead_letters import WANTED

EXAMPLES: Final = """
\b
Examples
  gateway dlq list
  gateway dlq list --subscriber billing --since 1d --json
  gateway dlq show 0f2a4c6e8091a2b3c4d5e6f708192a3b
  gateway dlq replay --subscriber billing --reason attempts --dry-run
  gateway dlq resolve --subscriber billing --reason age --note "sent by hand, ticket 4711"
  gateway dlq list --state resolved
"""


_NONE: Final = {
    "open": "no dead letter is open",
    "delivered": "no dead letter was delivered by a replay",
    "resolved": "no dead letter was resolved",
    "all": "nothing was given up",
}
_CLOSED: Final = ("state", "closed")
state_option: Final = click.option("--state", type=click.Choice(WANTED), help="In this state. Left out: open ones.")
all_option: Final = click.option("--all", "is_all", is_flag=True, help="In any state; the same as --state all.")


@click.group(epilog=EXAMPLES)
def dlq() -> None:
    """Look at what was given up, with reasons; deliver it again, or close it with a note.

    A dead letter is open until it is delivered or resolved. The commands are about open ones unless asked for others.
    """


@dlq.command(name="list", epilog=EXAMPLES)
@click.option("--subscriber", metavar="NAME", shell_complete=complete_subscriber, help="Only of this one.")
@click.option("--reason", help="Only with this reason: attempts, age.")
@click.option("--since", type=Moment(), help="Given up from this time on: 15m (ago), or 2026-03-04T05:06:07Z.")
@state_option
@all_option
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="The newest so many.")
@asks_gateway
def list_(
    subscriber: str | None,
    reason: str | None,
    since: float | None,
    state: str | None,
    is_all: bool,
    limit: int,
    as_json: bool,
    api: AdminApi,
) -> None:
    """List dead letters, newest first: open ones, unless --state or --all says otherwise."""
    wanted = "all" if is_all else state
    found = api.get(
        "/api/dead-letters",
        {"subscriber": subscriber, "reason": reason, "since": since, "state": wanted, "limit": limit},
    )
    if as_json:
        print_json(found)
        return
    letters = found["letters"]
    if not letters:
        click.echo(_NONE[found["state"]])
        if reason and any(found["counts"].values()):
            raise NotKnown(f"no dead letter has the reason {reason}; there are: {_reasons(found['counts'])}")
        return
    has_closed = found["state"] != "open"
    print_table(
        ("given up", "subscriber", "event", "type", "reason", "attempts", "last answer", *_CLOSED[: 2 * has_closed]),
        [
            (
                local(letter["given_up_at"]),
                letter["subscriber"],
                letter["id"],
                letter["type"],
                letter["reason"],
                letter["attempts"],
                letter["last_detail"] or letter["last_status"],
                *((letter["state"], _closed(letter)) if has_closed else ()),
            )
            for letter in letters
        ],
    )
    total = sum(sum(counts.values()) for counts in found["counts"].values())
    if total > len(letters):
        click.echo(f"the newest {len(letters):,} of {total:,}; --limit shows more", err=True)


def _closed(letter: dict[str, Any]) -> str:
    closed = letter["closed"]
    if closed is None:
        return ""
    how = f"by replay {closed['replay']}" if letter["state"] == "delivered" else f"by {closed['by']}: {closed['note']}"
    return f"{local(closed['at'])} {how}"


def _reasons(counts: dict[str, dict[str, int]]) -> str:
    return ", ".join(sorted({name for one in counts.values() for name in one}))


@dlq.command(epilog=EXAMPLES)
@click.argument("event_id")
@click.option(
    "--subscriber", metavar="NAME", shell_complete=complete_subscriber, help="Whose; left out: all are searched."
)
@asks_gateway
def show(event_id: str, subscriber: str | None, as_json: bool, api: AdminApi) -> None:
    """Show a dead letter: its attempts, the last answer, the event."""
    names = [subscriber] if subscriber else [one["name"] for one in api.get("/api/subscribers")["subscribers"]]
    for name in names:
        try:
            letter = api.get(f"/api/dead-letters/{name}/{event_id}")
        except NotAsked:
            if name == names[-1]:
                raise
            continue
        break
    else:
        raise NotAsked("there are no subscribers")
    if as_json:
        print_json(letter)
        return
    click.echo(f"{click.style(letter['type'], bold=True)}  {printable(letter['key'])}")
    for title, value in (
        ("subscriber", letter["subscriber"]),
        ("state", f"{letter['state']} {_closed(letter)}".rstrip()),
        ("given up", f"{local(letter['given_up_at'])}, reason: {letter['reason']}"),
        ("attempts", f"{letter['attempts']}, the first {local(letter['first_attempt_at'])}"),
        ("last answer", letter["last_detail"] or letter["last_status"]),
        ("", letter["last_response"]),
        ("stored at", letter["origin"]),
    ):
        if value:
            click.echo(f"  {click.style(f'{title:<12}', dim=True)} {printable(value)}")
    for step in letter["steps"]:
        click.echo(f"      {local(step['at'], with_ms=True)}  {step['result']:<12} {step['duration_ms']:>6} ms")
    click.echo(orjson.dumps(letter["event"], option=orjson.OPT_INDENT_2))


@dlq.command(name="replay", epilog=EXAMPLES)
@click.option(
    "--subscriber", metavar="NAME", shell_complete=complete_subscriber, required=True, help="Whose; it gets them again."
)
@click.option("--id", "ids", multiple=True, metavar="ID", help="This event; can be given several times.")
@click.option("--reason", "reasons", multiple=True, help="Only with this reason: attempts, age.")
@click.option(
    "--type", "types", multiple=True, shell_complete=complete_type, help="Only events of this type: nxcloud.sms.dr."
)
@state_option
@all_option
@click.option("--dry-run", is_flag=True, help="Count, and change nothing.")
@click.option("--watch", is_flag=True, help="Until everything is delivered or given up, not only stored.")
@click.option("--rate", type=Number(min=0, min_open=True), help="At most so many a second.")
@json_option
@admin_option
@config_option
@click.pass_context
def replay_(context: click.Context, /, *, state: str | None, is_all: bool, **options: Any) -> None:
    """Deliver open dead letters to their subscriber again.

    The same as gateway replay --dlq, which can also choose them by time.
    """
    context.invoke(replay, dlq=True, state="all" if is_all else state, **options)


@dlq.command(epilog=EXAMPLES)
@click.option("--subscriber", metavar="NAME", shell_complete=complete_subscriber, required=True, help="Whose.")
@click.option("--id", "ids", multiple=True, metavar="ID", help="This event; can be given several times.")
@click.option("--reason", "reasons", multiple=True, help="All open ones with this reason: attempts, age.")
@click.option("--all", "is_all", is_flag=True, help="All open ones.")
@click.option("--note", required=True, help="Why nothing needs to be delivered; it is kept with each.")
@asks_gateway
def resolve(
    subscriber: str,
    ids: tuple[str, ...],
    reasons: tuple[str, ...],
    is_all: bool,
    note: str,
    as_json: bool,
    api: AdminApi,
) -> None:
    """Close open dead letters of a subscriber with a note, without delivering them.

    Say which: --id, --reason or --all. What is closed already stays as it is; it can be repeated.
    """
    if sum(map(bool, (ids, reasons, is_all))) != 1:
        raise click.UsageError("say which dead letters: --id, --reason, or --all")
    found = api.post(
        "/api/dead-letters/resolve",
        {"subscriber": subscriber, "ids": list(ids), "reasons": list(reasons), "all": is_all, "note": note},
    )
    if as_json:
        print_json(found)
        return
    count = found["resolved"]
    click.echo(f"{count:,} {'dead letter' if count == 1 else 'dead letters'} of {subscriber} resolved")
