"""``gateway dlq``: what was given up, and delivering it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click
import orjson

from gateway.cli.adminapi import AdminApi, NotAsked, NotKnown, admin_option
from gateway.cli.completion import complete_subscriber, complete_type
from gateway.cli.options import Moment, Number, config_option, json_option
from gateway.cli.replay import replay
from gateway.cli.tables import local, print_json, print_table, printable

EXAMPLES: Final = """
\b
Examples
  gateway dlq list
  gateway dlq list --subscriber billing --since 1d --json
  gateway dlq show 0f2a4c6e8091a2b3c4d5e6f708192a3b
  gateway dlq replay --subscriber billing --reason attempts --dry-run
"""


@click.group(epilog=EXAMPLES)
def dlq() -> None:
    """Look at what was given up, with reasons, and deliver it again."""


@dlq.command(name="list", epilog=EXAMPLES)
@click.option("--subscriber", metavar="NAME", shell_complete=complete_subscriber, help="Only of this one.")
@click.option("--reason", help="Only with this reason: attempts, age.")
@click.option("--since", type=Moment(), help="Given up from this time on: 15m (ago), or 2026-03-04T05:06:07Z.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="The newest so many.")
@json_option
@admin_option
@config_option
def list_(
    subscriber: str | None,
    reason: str | None,
    since: float | None,
    limit: int,
    as_json: bool,
    admin_url: str | None,
    config_path: Path,
) -> None:
    """List dead letters, newest first."""
    found = AdminApi(config_path, admin_url).get(
        "/api/dead-letters", {"subscriber": subscriber, "reason": reason, "since": since, "limit": limit}
    )
    if as_json:
        print_json(found)
        return
    letters = found["letters"]
    if not letters:
        click.echo("nothing was given up")
        if reason and any(found["counts"].values()):
            raise NotKnown(f"no dead letter has the reason {reason}; there are: {_reasons(found['counts'])}")
        return
    print_table(
        ("given up", "subscriber", "event", "type", "reason", "attempts", "last answer"),
        [
            (
                local(letter["given_up_at"]),
                letter["subscriber"],
                letter["id"],
                letter["type"],
                letter["reason"],
                letter["attempts"],
                letter["last_status"],
            )
            for letter in letters
        ],
    )
    total = sum(sum(counts.values()) for counts in found["counts"].values())
    if total > len(letters):
        click.echo(f"the newest {len(letters):,} of {total:,}; --limit shows more", err=True)


def _reasons(counts: dict[str, dict[str, int]]) -> str:
    return ", ".join(sorted({name for one in counts.values() for name in one}))


@dlq.command(epilog=EXAMPLES)
@click.argument("event_id")
@click.option(
    "--subscriber", metavar="NAME", shell_complete=complete_subscriber, help="Whose; left out: all are looked through."
)
@json_option
@admin_option
@config_option
def show(event_id: str, subscriber: str | None, as_json: bool, admin_url: str | None, config_path: Path) -> None:
    """Show a dead letter: its attempts, the last answer, the event."""
    api = AdminApi(config_path, admin_url)
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
        ("given up", f"{local(letter['given_up_at'])}, reason: {letter['reason']}"),
        ("attempts", f"{letter['attempts']}, the first {local(letter['first_attempt_at'])}"),
        ("last answer", f"{letter['last_status']} {letter['last_detail']}"),
        ("", letter["last_response"]),
        ("stood at", letter["origin"]),
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
@click.option("--dry-run", is_flag=True, help="Count, and change nothing.")
@click.option("--rate", type=Number(min=0, min_open=True), help="At most so many a second.")
@json_option
@admin_option
@config_option
@click.pass_context
def replay_(context: click.Context, /, **options: Any) -> None:
    """Deliver dead letters to their subscriber again.

    The same as gateway replay --dlq, which can also choose them by time.
    """
    context.invoke(replay, dlq=True, **options)
