"""``gateway serve`` and ``gateway fanout``: the two halves of the gateway as processes of their own, with workers."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import click

from gateway.cli.options import config_option, settings_from

_HIDDEN_WORKER: Final = click.option("--worker", type=int, hidden=True, help="Number of this worker; set by the first.")
_HIDDEN_SOCKET: Final = click.option("--admin-socket", type=click.Path(path_type=Path), hidden=True)

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
@_HIDDEN_SOCKET
@click.pass_context
def serve(
    ctx: click.Context, config_path: Path, workers: int | None, worker: int | None, admin_socket: Path | None
) -> None:
    """Take callbacks and publish them to Kafka.

    Workers share the port; each has a journal of its own below journal.dir. The admin port tells of all of them, and
    /workers/NUMBER/ there is the console of one. A worker that dies is started again; what it had accepted is in its
    journal. Journals whose worker is no more are drained by the first worker.
    """
    ctx.exit(_run("serve", config_path, workers, worker, admin_socket))


@click.command(epilog=FANOUT_EXAMPLES)
@config_option
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes.")
@_HIDDEN_WORKER
@_HIDDEN_SOCKET
@click.pass_context
def fanout(ctx: click.Context, config_path: Path, workers: int, worker: int | None, admin_socket: Path | None) -> None:
    """Deliver events from Kafka's topics to the subscribers.

    Any number of processes and machines may run it; each subscriber is one consumer group. The admin port tells of
    all workers, and /workers/NUMBER/ there is the console of one.
    """
    ctx.exit(_run("fanout", config_path, workers, worker, admin_socket))


def _run(
    role: Literal["serve", "fanout"], config_path: Path, workers: int | None, worker: int | None, socket: Path | None
) -> int:
    settings = settings_from(config_path)
    count = workers or settings.ingest.workers
    # The servers and the log take a while to import; --help and a wrong file do not wait for them.
    if count > 1 and worker is None:
        from gateway import workers as several

        return several.run(role, config_path, settings, count)
    from gateway import app

    if count > 1:
        # How many there are decides which journal is whose.
        ingest = settings.ingest.model_copy(update={"workers": count})
        settings = settings.model_copy(update={"ingest": ingest})
    return app.run(settings, config_path, role=role, worker=worker, admin_socket=socket)
