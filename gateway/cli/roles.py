"""``gateway serve`` and ``gateway fanout``: the two halves of the gateway as processes of their own, with workers."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final, Literal

import click

from gateway.cli.options import config_option, settings_from
from gateway.config.settings import Settings

_HIDDEN_WORKER: Final = click.option("--worker", type=int, hidden=True, help="Number of this worker; set by the first.")

SERVE_EXAMPLES: Final = """
\b
Examples
  gateway serve
  gateway serve --workers 4
"""

FANOUT_EXAMPLES: Final = """
\b
Examples
  gateway fanout
  gateway fanout --workers 2
"""


@click.command(epilog=SERVE_EXAMPLES)
@config_option
@click.option("--workers", type=click.IntRange(1, 64), help="Processes; left out: ingest.workers.")
@_HIDDEN_WORKER
@click.pass_context
def serve(ctx: click.Context, config_path: Path, workers: int | None, worker: int | None) -> None:
    """Take callbacks and publish them to Kafka.

    Workers share the port; each has a journal of its own below journal.dir, and its admin port is admin.port plus its
    number. A worker that dies is started again; what it had accepted is in its journal. Journals whose worker is no
    more are drained by the first worker.
    """
    ctx.exit(_run("serve", config_path, workers, worker))


@click.command(epilog=FANOUT_EXAMPLES)
@config_option
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes.")
@_HIDDEN_WORKER
@click.pass_context
def fanout(ctx: click.Context, config_path: Path, workers: int, worker: int | None) -> None:
    """Deliver events from Kafka's topics to the subscribers.

    Any number of processes and machines may run it; each subscriber is one consumer group. The admin port of a worker
    is admin.port plus its number.
    """
    ctx.exit(_run("fanout", config_path, workers, worker))


def _run(role: Literal["serve", "fanout"], config_path: Path, workers: int | None, worker: int | None) -> int:
    settings = settings_from(config_path)
    count = workers or settings.ingest.workers
    if count > 1 and worker is None:
        return _supervise(role, config_path, settings, count)
    from gateway import app

    if count > 1 and worker is not None:
        settings = _of_worker(settings, count, worker)
    return app.run(settings, config_path, role=role, worker=worker)


def _of_worker(settings: Settings, workers: int, worker: int) -> Settings:
    """The configuration as one worker has it: how many there are, and an admin port of its own."""
    ingest = settings.ingest.model_copy(update={"workers": workers})
    admin_port = settings.admin.port + worker if settings.admin.port else 0
    return settings.model_copy(
        update={"ingest": ingest, "admin": settings.admin.model_copy(update={"port": admin_port})}
    )


def _supervise(role: Literal["serve", "fanout"], config_path: Path, settings: Settings, workers: int) -> int:
    from gateway.supervisor import Supervisor, reserve_port
    from gateway.telemetry import logs

    logs.configure(settings.log.level, settings.log.format)

    def command(number: int) -> list[str]:
        base = [sys.executable, "-m", "gateway", role, "-c", str(config_path)]
        return [*base, "--workers", str(workers), "--worker", str(number)]

    if role == "fanout":
        return asyncio.run(Supervisor(command, workers).run())
    with reserve_port(settings.ingest.host, settings.ingest.port) as held:
        port = str(held.getsockname()[1])
        supervisor = Supervisor(command, workers, environment=lambda _: {"GATEWAY__INGEST__PORT": port})
        return asyncio.run(supervisor.run())
