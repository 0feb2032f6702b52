"""``gateway send`` and ``listen``: the platform, and a subscriber, to try things out with."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from random import Random
from typing import Any, Final

import click
import orjson
from aiohttp import web
from click.core import ParameterSource
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gateway.callbacks import CALLBACKS, CallbackRequest
from gateway.cli.options import Number, Seconds, config_option, json_option, settings_or_defaults, url_of
from gateway.cli.printing import event_line, print_table, printable
from gateway.config.callbacks import ConfiguredPath, configured_paths
from gateway.config.settings import Settings
from gateway.connectivity import resolve, unresolved
from gateway.errors import Broken, ConfigError
from gateway.eventloop import run_async
from gateway.ingest.endpoints import endpoints
from gateway.signing import problem
from gateway.traffic.client import RequestSigner, Target, encode
from gateway.traffic.load import LoadProfile, LoadRequest, LoadResult, drive, is_success, percentile
from gateway.traffic.receiver import Delivery, Receiver, ReceiverBehaviour
from gateway.traffic.simulator import FORM, JSON, TrafficRequest, mixed, requests

SEND = f"""
CALLBACK is one of {", ".join(CALLBACKS)}, or all; with --body also a configured callback of another sender.

\b
Examples
  gateway send sms-dr
  gateway send sms-dr --count 100000 --concurrency 128
  gateway send whatsapp --count 500 --rate 50 --repeat-rate 0.05 --seed 7
  gateway send all --url http://gateway.internal:8080
  gateway send callbot-task --account main
  gateway send stripe --body event.json
"""

#: A resolver that answers takes milliseconds; one that does not is asked again by the system for longer.
_LOOKUP_S: Final = 5.0
_SHARES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0))
LISTEN = """
\b
Examples
  gateway listen --port 9000
  gateway listen --port 9000 --secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
  gateway listen --port 9000 --fail-rate 0.1 --delay 2 --quiet
  gateway listen --port 9000 --status 410
"""


class _CallbackName(click.Choice[str]):
    """A callback whose traffic is known, or with ``--body`` any name."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        has_body = ctx is not None and isinstance(ctx.params.get("body_path"), Path)
        return value if has_body else super().convert(value, param, ctx)


@click.command(epilog=SEND)
@click.option(
    "--body",
    "body_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    is_eager=True,
    help="Send this file's bytes, once unless --count is given, as another sender would.",
)
@click.argument("callback", type=_CallbackName([*CALLBACKS, "all"]), metavar="CALLBACK")
@click.option("-n", "--count", type=click.IntRange(1), default=100, show_default=True, help="Requests in all.")
@click.option("--rate", type=Number(0, min_open=True), help="Requests a second; left out: as many as possible.")
@click.option("--url", help="The gateway's address; left out: where the configuration has it listen.")
@click.option("--concurrency", type=click.IntRange(1, 10_000), default=32, show_default=True, help="Connections.")
@click.option("--repeat-rate", type=Number(0, 1), default=0.0, help="Share of requests that are an earlier one again.")
@click.option("--seed", type=int, help="Plays the same requests again.")
@click.option("--account", help="Of several paths of one callback: the one with this account.")
@click.option("--path", help="Send to this path; signed as configured for it.")
@json_option
@config_option
@click.pass_context
def send(
    ctx: click.Context,
    body_path: Path | None,
    callback: str,
    count: int,
    rate: float | None,
    url: str | None,
    concurrency: int,
    repeat_rate: float,
    seed: int | None,
    account: str | None,
    path: str | None,
    as_json: bool,
    config_path: Path,
) -> None:
    """Play the platform: push CALLBACK (or a mix of all) at a running gateway.

    Requests have the platform's layouts, content types and oddities, and carry the tokens and signatures that the
    configuration asks for. Fails (1) if any answer was not the platform's word for success.

    CALLBACK is one of:"""
    settings = settings_or_defaults(config_path)
    rng = Random(seed)
    target = target_of(url, settings)
    names = list(CALLBACKS) if callback == "all" and body_path is None else [callback]
    paths = [_path_of(name, settings, account, path) for name in names]
    body = body_path.read_bytes() if body_path is not None else None
    rows = [_prepared(row, settings, target, rng, body) for row in paths]
    if body is not None and ctx.get_parameter_source("count") is ParameterSource.DEFAULT:
        count = 1
    run_async(reachable_name(target))
    result = LoadResult()
    plan = LoadProfile(count, concurrency, rate, repeat_rate)
    work = _drive(target, mixed(rows, rng), plan, rng, result, show=not as_json)
    try:
        run_async(work)
    finally:
        (_print_json if as_json else _print)(result)
    ctx.exit(1 if result.failed else 0)


def _now() -> datetime:
    return datetime.now(UTC)


def target_of(url: str | None, settings: Settings) -> Target:
    """Return the address of the gateway's callbacks.

    Args:
        url: as given on the command line; None: where the configuration has it listen.
        settings: the whole configuration.

    Raises:
        ConfigError: the address has no use.
    """
    try:
        return Target.parse(url or url_of(settings.ingest.host, settings.ingest.port))
    except ValueError as exc:
        raise ConfigError([f"--url: {exc}"]) from exc


async def reachable_name(target: Target) -> None:
    """Look the host's name up once: without this each connection would wait for it, and say the same.

    Raises:
        Broken: there is no such name, or no answer in some seconds.
    """
    try:
        async with asyncio.timeout(_LOOKUP_S):
            await resolve(target.host, target.port)
    except TimeoutError as exc:
        raise Broken(f"the name {target.host} cannot be looked up: no answer within {_LOOKUP_S:g} s") from exc
    except OSError as exc:
        raise Broken(f"{unresolved(target.host, exc).text}; is --url right?") from exc


def _path_of(name: str, settings: Settings, account: str | None, path: str | None) -> ConfiguredPath:
    """Return the configured path that fits; one that is not configured can be named with ``--path``."""
    rows = [row for row in configured_paths(settings.ingest) if row.callback == name]
    fitting = [row for row in rows if account in (None, row.config.account) and path in (None, row.path)]
    if fitting:
        return fitting[0]
    if path is not None and account is None and rows:
        return ConfiguredPath(name, path, 0, rows[0].config, rows[0].is_in_file)
    known = ", ".join(f"{row.path} (account {row.config.account})" for row in rows) or "none"
    raise ConfigError([f"{name} has no such path in the configuration; there are: {known}"])


def _prepared(
    row: ConfiguredPath, settings: Settings, target: Target, rng: Random, body: bytes | None
) -> Iterator[LoadRequest]:
    """Yield endless traffic of a callback, or one body repeatedly; each request is signed as the sender signs."""
    answers = next(one.callback for one in endpoints(settings.ingest) if one.callback.name == row.callback).answers
    scheme = CALLBACKS[row.callback].signature if row.is_builtin else "hmac"
    signer = RequestSigner(row.config.auth, scheme, rng, _now)
    blank = CallbackRequest("POST", row.path, b"", {}, b"", _now())
    judge = is_success(answers.success(blank, None, _now()).body)
    if body is None:
        stream = requests(row.callback, rng, _now)
    else:
        content_type = FORM if row.config.decoder == "form" else JSON
        stream = repeat(TrafficRequest(row.callback, b"", content_type, body))
    for request in stream:
        yield LoadRequest(row.callback, encode(target, row.path, request, signer.headers(request)), judge)


async def _drive(
    target: Target, rows: Iterator[LoadRequest], plan: LoadProfile, rng: Random, result: LoadResult, *, show: bool
) -> None:
    if not show or not sys.stderr.isatty():
        await drive(target, rows, plan, rng, result)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]:,.0f}/s"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=plan.count, rate=0.0)
        async with asyncio.TaskGroup() as group:
            shown = group.create_task(_show(result, lambda **now: progress.update(bar, **now)))
            await drive(target, rows, plan, rng, result)
            shown.cancel()


async def _show(result: LoadResult, update: Callable[..., Any]) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    while True:
        await asyncio.sleep(0.1)
        update(completed=result.sent, rate=result.sent / (loop.time() - started))


def _summary(result: LoadResult) -> dict[str, Any]:
    latencies = sorted(result.latencies_s)
    return {
        "sent": result.sent,
        "succeeded": result.succeeded,
        "failed": result.failed,
        "repeats": result.repeats,
        "took_s": round(result.took_s, 3),
        "rate_per_s": round(result.sent / result.took_s, 1) if result.took_s else 0.0,
        "latency_ms": {name: round(percentile(latencies, share) * 1000, 3) for name, share in _SHARES},
        "answers": dict(sorted(result.by_status.items())),
        "refused": dict(result.refused.most_common()),
    }


def _print_json(result: LoadResult) -> None:
    click.echo(orjson.dumps(_summary(result)))


def _print(result: LoadResult) -> None:
    summary = _summary(result)
    said = click.style(
        f"{summary['succeeded']:,} of {summary['sent']:,} answered with success",
        fg="red" if summary["failed"] else "green",
    )
    took = f"{summary['took_s']:.2f} s, {summary['rate_per_s']:,.0f} a second"
    click.echo(f"{said}, {summary['repeats']:,} repeats, {took}")
    latencies = [f"{value:,.2f}" for value in summary["latency_ms"].values()]
    print_table(("latency", *(name for name, _ in _SHARES)), [("ms", *latencies)])
    click.echo("answers  " + "  ".join(f"{status}: {count:,}" for status, count in summary["answers"].items()))
    for kind, count in summary["refused"].items():
        click.echo(click.style(f"  {count:,} × {printable(kind)}", fg="red"))


@dataclass(frozen=True, slots=True)
class _Printing:
    """The selected output."""

    is_quiet: bool
    as_json: bool


@click.command(epilog=LISTEN)
@click.option("--port", type=click.IntRange(0, 65535), default=9000, show_default=True, help="0: any free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    envvar="GATEWAY_LISTEN_SECRET",
    show_envvar=True,
    help="Check signatures with this whsec_ secret (whpk_ key); may be given several times.",
)
@click.option(
    "--status", type=click.IntRange(200, 599), help="Answer with this status, always (with --fail-rate: when failing)."
)
@click.option("--fail-rate", type=Number(0, 1), help="Refuse this share of deliveries.")
@click.option("--delay", type=Seconds(), default=0.0, help="Wait before each answer.")
@click.option("--count", type=click.IntRange(1), help="Stop after so many distinct events.")
@click.option("--seed", type=int, help="Seed of the choice of refused deliveries.")
@click.option("-q", "--quiet", is_flag=True, help="A counter instead of events; for thousands a second.")
@click.option("--json", "as_json", is_flag=True, help="Each event as one line of JSON, and the summary too.")
@config_option
def listen(
    port: int,
    host: str,
    secrets: tuple[str, ...],
    status: int | None,
    fail_rate: float | None,
    delay: float,
    count: int | None,
    seed: int | None,
    quiet: bool,
    as_json: bool,
    config_path: Path,
) -> None:
    """Run a subscriber: print what arrives, check signatures, misbehave on request.

    Any path and method POST are accepted. It answers 204, counts distinct events and repeats, and prints the sums at
    the end. The configuration is not needed.
    """
    wrong = [f"--secret: {found}" for one in secrets if not one.startswith("whpk_") and (found := problem(one))]
    if wrong:
        raise ConfigError(wrong)
    rate = fail_rate if fail_rate is not None else (0.0 if status is None else 1.0)
    behaviour = ReceiverBehaviour(secrets, status if status is not None else 500, rate, delay)
    printing = _Printing(quiet, as_json)
    run_async(_listen(host, port, behaviour, Random(seed), count, printing))


async def _listen(
    host: str, port: int, behaviour: ReceiverBehaviour, rng: Random, count: int | None, printing: _Printing
) -> None:
    receiver = Receiver(
        behaviour, rng, None if printing.is_quiet else lambda delivery: _print_delivery(delivery, printing)
    )
    runner = web.ServerRunner(receiver.server(), shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=1024).start()
    except OSError as exc:
        raise Broken(f"cannot listen on {host}:{port}: {exc.strerror or exc}") from exc
    bound = runner.addresses[0][1]
    click.echo(f"listening on http://{host}:{bound}/ (Ctrl-C stops)", err=True)
    try:
        async with asyncio.TaskGroup() as group:
            counter = group.create_task(_show_counter(receiver)) if printing.is_quiet and sys.stderr.isatty() else None
            await (receiver.accepted(count) if count is not None else asyncio.Event().wait())
            if counter is not None:
                counter.cancel()
    finally:
        await runner.cleanup()
        _sum_up(receiver, printing)


def _print_delivery(delivery: Delivery, printing: _Printing) -> None:
    if printing.as_json:
        if delivery.outcome == "accepted":
            click.echo(delivery.body.replace(b"\n", b" "))
        return
    marks = [] if delivery.outcome == "accepted" else [delivery.outcome]
    marks += ["replay"] if delivery.is_replay else []
    marks += [delivery.reason] if delivery.reason else []
    click.echo(event_line(delivery.event or {}, delivery.event_id, *marks))


async def _show_counter(receiver: Receiver) -> None:
    before = 0
    while True:
        await asyncio.sleep(1)
        total = receiver.counts.outcomes.total()
        shown = f"{total:,} received, {receiver.counts.distinct:,} distinct, {total - before:,}/s"
        click.echo(f"\r{shown:<60}", err=True, nl=False)
        before = total


def _sum_up(receiver: Receiver, printing: _Printing) -> None:
    counts = receiver.counts
    summary = {
        "received": counts.outcomes.total(),
        "distinct": counts.distinct,
        "repeated": counts.outcomes["repeated"],
        "refused": counts.outcomes["refused"],
        "unauthenticated": counts.outcomes["unauthenticated"],
        "rate_per_s": round(counts.rate_per_s, 1),
    }
    if printing.as_json:
        click.echo(orjson.dumps({"summary": summary}))
        return
    if printing.is_quiet and sys.stderr.isatty():
        click.echo(err=True)
    parts = (f"{value:,} {name.replace('rate_per_s', 'a second')}" for name, value in summary.items())
    click.echo(", ".join(parts), err=True)
