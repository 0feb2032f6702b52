"""``gateway backfill``: ask the platform for callbacks that were lost, and take them in."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final
from zoneinfo import ZoneInfo

import aiohttp
import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.backfill import FIELDS, REACH, Access, CallbackHistory, queries
from gateway.callbacks import CallbackRequest
from gateway.cli.adminapi import AdminApi, NotKnown, admin_option
from gateway.cli.options import Moment, config_option, json_option, settings_from
from gateway.cli.printing import print_json, printable
from gateway.cli.traffic import target_of
from gateway.config.callbacks import ConfiguredPath, configured_paths
from gateway.config.settings import Settings
from gateway.errors import Broken, CallbackRejected, ConfigError, Transient
from gateway.eventloop import run_async
from gateway.ingest.endpoints import endpoints
from gateway.traffic.client import ClientConnection, GatewayAnswer, RequestSigner, Target, encode
from gateway.traffic.simulator import JSON, TrafficRequest

EXAMPLES: Final = """
\b
Examples
  gateway backfill whatsapp --since 6h --dry-run
  gateway backfill whatsapp --since 2026-03-04T05:00Z --until 2026-03-04T06:00Z
  gateway backfill whatsapp --account main --since 2d --field account_update
"""
#: A range that begins seven days ago by the user's word is a moment older when the command looks.
_GRACE_S: Final = 60.0
#: Tries of one callback while the gateway cannot store; their waits follow its Retry-After of some seconds.
_TRIES: Final = 5
_WAIT_S: Final = 2.0


@click.group(epilog=EXAMPLES)
def backfill() -> None:
    """Ask the platform for callbacks that were lost, and take them in."""


@dataclass(slots=True)
class Summary:
    """Counts of one run. Events are counted before they are sent: an event counts as stored or as known already.

    Args:
        asked: questions put to the platform.
        callbacks: bodies that it returned.
        events: new events, stored, or to be stored in a dry run.
        known: events that the gateway had stored before.
        by_type: new events by type.
        not_understood: callbacks that the gateway keeps in ``callbacks.rejected``, by reason.
    """

    asked: int = 0
    callbacks: int = 0
    events: int = 0
    known: int = 0
    by_type: Counter[str] = field(default_factory=Counter)
    not_understood: Counter[str] = field(default_factory=Counter)


@backfill.command(epilog=EXAMPLES)
@click.option("--account", metavar="NAME", help="The vendor account; needed where several paths have backfill.")
@click.option("--since", type=Moment(), required=True, help="From this time on: 6h (ago), or 2026-03-04T05:06:07Z.")
@click.option("--until", type=Moment(), help="Up to this time. Left out: now.")
@click.option("--field", "fields", multiple=True, type=click.Choice(FIELDS), help="Only this kind. Left out: all.")
@click.option("--dry-run", is_flag=True, help="Ask the platform, count, and store nothing.")
@json_option
@admin_option
@click.option("--url", help="Where the gateway accepts callbacks; left out: where the configuration has it listen.")
@config_option
def whatsapp(
    account: str | None,
    since: float,
    until: float | None,
    fields: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    admin_url: str | None,
    url: str | None,
    config_path: Path,
) -> None:
    """Request the WhatsApp callbacks of the last seven days, and accept those that are missing.

    The platform returns the original callbacks of four kinds: account updates, and messages, contacts and history of
    the Business app. Each is sent to the running gateway as the platform would send it, with the token and signature
    of its path. Events that are stored already are recognised by their ids. Running it again is harmless.

    Needs ingest.callbacks.whatsapp.backfill in the configuration.
    """
    settings = settings_from(config_path)
    row = _row(settings, account)
    begin, end = _range(since, until)
    work = _Backfill(row, settings, target_of(url, settings), AdminApi(settings, admin_url))
    try:
        run_async(work.run(fields or FIELDS, begin, end, is_dry_run=dry_run, shows=not as_json))
    finally:
        found = _document(work.summary, row, begin, end, is_dry_run=dry_run)
        print_json(found) if as_json else _print(work.summary, is_dry_run=dry_run)


def _row(settings: Settings, account: str | None) -> ConfiguredPath:
    """Return the configured path to ask for.

    Raises:
        ConfigError: none, or several, and which there are.
    """
    rows = [one for one in configured_paths(settings.ingest) if one.callback == "whatsapp" and one.config.backfill]
    fitting = [one for one in rows if account in (None, one.config.account)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(str(one.config.account) for one in rows)
    if not rows:
        raise ConfigError(["ingest.callbacks.whatsapp.backfill: is needed, with app_key and business_phone"])
    if fitting:
        raise ConfigError([f"--account is needed: backfill is configured for {names}"])
    raise ConfigError([f"--account {account}: backfill is not configured for it; it is for {names}"])


def _range(since: float, until: float | None) -> tuple[datetime, datetime]:
    now = time.time()
    oldest = now - REACH.total_seconds()
    if since < oldest - _GRACE_S:
        earliest = datetime.fromtimestamp(oldest, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        raise click.UsageError(f"--since: the platform keeps callbacks for 7 days; the earliest is {earliest}")
    begin, end = max(since, oldest), min(until if until is not None else now, now)
    if begin > end:
        raise click.UsageError("--since must lie before --until, and neither in the future")
    return datetime.fromtimestamp(begin, UTC), datetime.fromtimestamp(end, UTC)


def _access(row: ConfiguredPath) -> Access:
    """Return the credentials of ``backfill``; what it leaves out is that of the path's signature."""
    config, signature = row.config.backfill, row.config.auth.signature
    assert config is not None
    secrets = [config.secret.get_secret_value(), *(signature.all_secrets if signature else [])]
    return Access(
        config.url,
        config.app_key,
        config.access_key or (signature.access_key if signature else None) or "",
        next(filter(None, secrets), ""),
        "sha256" if signature and signature.algorithm == "sha256" else "md5",
    )


def _advice(path: str, answer: GatewayAnswer) -> str:
    advice = {
        401: "the token or secret of the running gateway differs from this configuration",
        403: "auth.allow_ips must allow this machine, or run the command where it does",
        404: "the running gateway has no such path; its configuration differs from this one",
        413: "the callback is larger than ingest.max_body_bytes",
    }.get(answer.status, "see the gateway's log")
    return f"the gateway answers {answer.status} on {path}: {advice}"


class _Backfill:
    """One run: ask the platform, leave out known events, send the others to the gateway as the platform sends them.

    Args:
        row: the path to ask for; it has ``backfill``.
        settings: the whole configuration.
        target: where the gateway takes callbacks.
        admin: knows which events are stored.
    """

    def __init__(self, row: ConfiguredPath, settings: Settings, target: Target, admin: AdminApi) -> None:
        self._row = row
        self._zone = ZoneInfo(row.config.timezone or settings.ingest.timezone)
        endpoint = endpoints(settings.ingest).find(row.path)
        assert endpoint is not None  # both are made from the same configuration
        self._endpoint = endpoint
        self._target = target
        self._connection = ClientConnection(target)
        self._signer = RequestSigner(row.config.auth, "general", Random(), _now)
        self._admin = admin
        self._seen: set[str] = set()
        self.summary = Summary()

    async def run(
        self, fields: Sequence[str], begin: datetime, end: datetime, *, is_dry_run: bool, shows: bool
    ) -> None:
        """Request a range, oldest day first, and accept the callbacks that the platform returns.

        Raises:
            GatewayError: the platform or the gateway did not do its part; what was sent until then is stored.
        """
        assert self._row.config.backfill is not None
        asked = list(queries(fields, self._row.config.backfill.business_phone, begin, end))
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        hides = not (shows and console.is_terminal)
        async with aiohttp.ClientSession() as session, self._connection:
            history = CallbackHistory(session, _access(self._row), self._zone, _now)
            with Progress(*columns, console=console, transient=True, disable=hides) as progress:
                task = progress.add_task("asking", total=len(asked))
                for query in asked:
                    progress.update(task, description=f"{query.since:%Y-%m-%d} {query.field}")
                    bodies = await history.ask(query)
                    self.summary.asked += 1
                    for body in bodies:
                        await self._take(body, is_dry_run=is_dry_run)
                    progress.advance(task)

    async def _take(self, body: bytes, *, is_dry_run: bool) -> None:
        summary = self.summary
        summary.callbacks += 1
        try:
            request = CallbackRequest("POST", self._endpoint.path, b"", {"content-type": JSON}, body, _now())
            decoded = self._endpoint.callback.decode(request, self._endpoint.context)
        except CallbackRejected as exc:
            if not is_dry_run:
                await self._send(body)
            summary.not_understood[str(exc)] += 1
            return
        fresh = [event for event in decoded.events if not await self._is_known(event.id)]
        if fresh and not is_dry_run:
            await self._send(body)
        self._seen.update(event.id for event in decoded.events)
        summary.known += len(decoded.events) - len(fresh)
        summary.events += len(fresh)
        summary.by_type.update(event.type for event in fresh)

    async def _send(self, body: bytes) -> None:
        """Send one callback; return when the gateway has stored it, understood or not.

        Raises:
            Transient: the gateway could not store it in several tries.
            Broken: the gateway refuses requests of this path; says what to do.
        """
        request = TrafficRequest("whatsapp", content_type=JSON, body=body, action="webhook", biz_type="2")
        for attempt in range(1, _TRIES + 1):
            message = encode(self._target, self._endpoint.path, request, self._signer.headers(request))
            answer = await self._connection.exchange(message)
            if answer.status in (200, 400):
                return
            if answer.status != 503:
                raise Broken(_advice(self._endpoint.path, answer))
            if attempt < _TRIES:
                await asyncio.sleep(_WAIT_S)
        raise Transient("the gateway cannot store now (503); see its /readyz, then run this again")

    async def _is_known(self, event_id: str) -> bool:
        """Return whether an event is stored: the index reaches as far back as the journal, known ids do not."""
        if event_id in self._seen:
            return True
        try:
            await asyncio.to_thread(self._admin.get, f"/api/events/{event_id}")
        except NotKnown:
            return False
        return True


def _now() -> datetime:
    return datetime.now(UTC)


def _document(
    summary: Summary, row: ConfiguredPath, begin: datetime, end: datetime, *, is_dry_run: bool
) -> dict[str, Any]:
    return {
        "dry_run": is_dry_run,
        "account": row.config.account,
        "since": begin.isoformat(),
        "until": end.isoformat(),
        "asked": summary.asked,
        "callbacks": summary.callbacks,
        "events": summary.events,
        "already_stored": summary.known,
        "by_type": summary.by_type,
        "not_understood": summary.not_understood,
    }


def _print(summary: Summary, *, is_dry_run: bool) -> None:
    click.echo(f"{summary.callbacks:,} callbacks in {summary.asked:,} answers of the platform")
    click.echo(f"  {summary.events:>9,}  events {'would be stored' if is_dry_run else 'stored'}")
    for type_, count in summary.by_type.most_common():
        click.echo(f"  {count:>9,}    {type_}")
    if summary.known:
        click.echo(f"  {summary.known:>9,}  events were stored already")
    if summary.not_understood:
        kept = "would be kept" if is_dry_run else "are kept"
        click.echo(
            f"  {summary.not_understood.total():>9,}  callbacks not understood; they {kept} in callbacks.rejected"
        )
        for reason, count in summary.not_understood.most_common():
            click.echo(f"  {count:>9,}    {printable(reason)}")
