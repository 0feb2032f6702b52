"""``gateway run``."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.options import config_option, settings_from

EXAMPLES = """
\b
Examples
  gateway run
  GATEWAY__INGEST__PORT=9000 gateway run -c /etc/gateway/config.yaml
"""


@click.command(epilog=EXAMPLES)
@config_option
@click.pass_context
def run(ctx: click.Context, config_path: Path) -> None:
    """Run everything in one process.

    Takes callbacks, keeps them, delivers them to the subscribers of the configuration. SIGTERM and Ctrl-C stop it
    gracefully; SIGHUP, or a change of the file, takes over new subscribers.
    """
    settings = settings_from(config_path)
    # The servers and the log take a while to import; `gateway run --help` and a wrong file do not wait for them.
    from gateway import app

    ctx.exit(app.run(settings, config_path))
