"""``gateway alerts``: try a receiver of alerts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import click

from gateway.cli.completion import complete_alert
from gateway.cli.options import config_option, settings_from
from gateway.config.values import suggestion
from gateway.errors import Broken
from gateway.eventloop import run_async

EXAMPLES: Final = """
\b
Examples
  gateway alerts test ops
  gateway alerts test ops -c /etc/gateway/config.yaml
"""


@click.group(epilog=EXAMPLES)
def alerts() -> None:
    """Try the receivers of alerts."""


@alerts.command(epilog=EXAMPLES)
@click.argument("name", shell_complete=complete_alert)
@config_option
def test(name: str, config_path: Path) -> None:
    """Send one sample to a receiver of alerts, and say whether it was accepted.

    The sample is sent by this command, and needs no running gateway.
    """
    from gateway.alerts import senders
    from gateway.alerts.alerter import sample

    known = {one.name: one for one in settings_from(config_path).alerts}
    if name not in known:
        hint = suggestion(name, list(known)) or (f"; there are {', '.join(known)}" if known else "; there are none")
        raise Broken(f"the configuration has no alert {name!r}{hint}")
    run_async(senders.send(known[name], [sample(time.time())]))
    click.echo(f"{name} accepted the sample")
