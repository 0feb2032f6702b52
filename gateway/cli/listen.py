"""``gateway listen``: a subscriber to try things out with."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random

import click
import orjson
from aiohttp import web

from gateway.cli.eventlines import event_line
from gateway.cli.options import Number, Seconds, config_option
from gateway.errors import Broken, ConfigError
from gateway.eventloop import run_async
from gateway.signing import problem
from gateway.traffic.receiver import Delivery, Receiver, ReceiverBehaviour

EXAMPLES = """
\b
Examples
  gateway listen --port 9000
  gateway listen --port 9000 --secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
  gateway listen --port 9000 --fail-rate 0.1 --delay 2 --quiet
  gateway listen --port 9000 --status 410
"""


@dataclass(frozen=True, slots=True)
class _Printing:
    """The selected output."""

    is_quiet: bool
    as_json: bool


@click.command(epilog=EXAMPLES)
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
    receiver = Receiver(behaviour, rng, None if printing.is_quiet else lambda delivery: _print(delivery, printing))
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


def _print(delivery: Delivery, printing: _Printing) -> None:
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
