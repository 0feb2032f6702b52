"""``gateway init`` writes a configuration to start from; ``run``, ``serve`` and ``fanout`` start the gateway."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Final, Literal

import click

from gateway.cli.options import config_option, settings_from
from gateway.errors import Broken

RUN_EXAMPLES: Final = """
\b
Examples
  gateway run
  gateway run --workers 2
  GATEWAY__INGEST__PORT=9000 gateway run -c /etc/gateway/config.yaml
"""

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

_ingest_workers: Final = click.option(
    "--workers", type=click.IntRange(1, 64), help="Processes that accept callbacks; left out: ingest.workers."
)


@click.command(epilog=RUN_EXAMPLES)
@config_option
@_ingest_workers
@click.pass_context
def run(ctx: click.Context, config_path: Path, workers: int | None) -> None:
    """Run everything on this machine.

    Takes callbacks, keeps them, delivers them to the subscribers of the configuration. One process keeps the journal,
    one delivers and has the admin port, and the workers take callbacks; one that dies is started again. SIGTERM and
    Ctrl-C stop them gracefully (exit codes 0 and 130); SIGHUP, or a change of the file, takes over new subscribers.
    """
    ctx.exit(_run("run", config_path, workers))


@click.command(epilog=SERVE_EXAMPLES)
@config_option
@_ingest_workers
@click.pass_context
def serve(ctx: click.Context, config_path: Path, workers: int | None) -> None:
    """Accept callbacks and publish them to Kafka.

    One process owns the journal, one publishes and has the admin port, and the workers accept callbacks; one that dies
    is started again. Signals as for 'gateway run'.
    """
    ctx.exit(_run("serve", config_path, workers))


@click.command(epilog=FANOUT_EXAMPLES)
@config_option
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes that deliver.")
@click.pass_context
def fanout(ctx: click.Context, config_path: Path, workers: int) -> None:
    """Deliver events from Kafka's topics to the subscribers.

    Any number of processes and machines may run it; each subscriber is one consumer group. The first process of a
    machine has the admin port.
    """
    ctx.exit(_run("fanout", config_path, workers))


def _run(role: Literal["run", "serve", "fanout"], config_path: Path, workers: int | None) -> int:
    settings = settings_from(config_path)
    if workers is not None and role != "fanout":
        ingest = settings.ingest.model_copy(update={"workers": workers})
        settings = settings.model_copy(update={"ingest": ingest})
    # The servers and the log take a while to import; --help and a wrong file do not wait for them.
    from gateway import processes

    return processes.run(settings, config_path, role=role, workers=workers or settings.ingest.processes)


@click.command(epilog="\b\nExamples\n  gateway init\n  gateway init -c /etc/gateway/config.yaml")
@config_option
def init(config_path: Path) -> None:
    """Write a configuration to start from.

    It has every key with its default and meaning, as a comment where the default is suitable. An existing file is
    never overwritten.
    """
    text = resources.files("gateway.config").joinpath("default.yaml").read_bytes()
    try:
        with config_path.open("xb") as file:
            file.write(text)
    except FileExistsError as exc:
        raise Broken(f"{config_path}: is there already, and is not changed") from exc
    except OSError as exc:
        raise Broken(f"{config_path}: cannot be written: {exc.strerror}") from exc
    click.echo(f"{config_path}: written. Start with: gateway run")
