"""``gateway check`` and ``alerts test``: is the configuration right, and is everything there that it names."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import orjson

from gateway.cli.adminapi import complete_alert
from gateway.cli.options import config_option, json_option, settings_from
from gateway.config.rules import warnings
from gateway.config.settings import Settings
from gateway.config.values import suggestion
from gateway.errors import Broken, ConfigError
from gateway.eventloop import run_async
from gateway.finding import Finding

ALERTS_EXAMPLES: Final = """
\b
Examples
  gateway alerts test ops
  gateway alerts test ops -c /etc/gateway/config.yaml
"""


if TYPE_CHECKING:
    from gateway.app import Role
    from gateway.log.kafka.options import KafkaOptions

_COLOURS: Final = {"ok": "green", "unknown": "yellow", "warning": "yellow", "problem": "red"}
EXAMPLES: Final = """
\b
Examples
  gateway check
  gateway check --role fanout
  gateway check -c /etc/gateway/config.yaml --json
"""


@click.command(epilog=EXAMPLES)
@json_option
@click.option("--offline", is_flag=True, help="Only the file, and the files that it names: reach nothing.")
@click.option(
    "--role",
    type=click.Choice(["run", "serve", "fanout"]),
    default="run",
    show_default=True,
    help="The command that is to be started with it: what only another one needs is not checked.",
)
@config_option
@click.pass_context
def check(ctx: click.Context, as_json: bool, offline: bool, role: Role, config_path: Path) -> None:
    """Check the configuration and reach what it names.

    Reports problems with key paths and what to do: exit code 2 when the file is wrong, 1 when something that
    it names is. Kafka is connected to as the gateway would: protocol, certificate, login, each broker's advertised
    address, rights on topics and groups, settings of topics and brokers, clock. A subscriber's host is looked up, held
    against the rule for private addresses, connected to, and sent a HEAD for the time that it has; no webhook is sent,
    and nothing is changed anywhere. What could not be asked is 'unknown', never 'ok'. It takes ten seconds at most.
    """
    try:
        findings = _findings(config_path, role, is_offline=offline)
    except ConfigError as exc:
        if as_json:
            click.echo(orjson.dumps({"is_ok": False, "problems": exc.problems, "findings": []}))
            ctx.exit(exc.exit_code)
        raise
    has_problem = any(finding.level == "problem" for finding in findings)
    if as_json:
        document = {"is_ok": not has_problem, "problems": [], "findings": [asdict(finding) for finding in findings]}
        click.echo(orjson.dumps(document))
    else:
        _line("ok", str(config_path), "no mistakes")
        for finding in findings:
            _line(finding.level, finding.path, "; ".join(filter(None, (finding.text, finding.advice))))
    ctx.exit(1 if has_problem else 0)


def _findings(config_path: Path, role: Role, *, is_offline: bool) -> list[Finding]:
    settings = settings_from(config_path)
    # The clients take a while to import; a wrong file does not wait for them.
    from gateway.cli import checking

    options = checking.built(settings, role)
    findings = [_warning(text) for text in warnings(settings)]
    if not is_offline:
        findings += _looked(settings, role, options)
    return checking.in_order(findings)


def _looked(settings: Settings, role: Role, options: KafkaOptions | None) -> list[Finding]:
    from gateway.cli import checking

    # The finding contains what aiokafka logs of a failure.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    return run_async(checking.look(settings, role, options))


def _warning(text: str) -> Finding:
    path, _, sentence = text.partition(": ")
    return Finding("warning", path, sentence)


def _line(level: str, path: str, text: str) -> None:
    word = click.style(level, fg=_COLOURS[level])
    click.echo(f"{word}{' ' * (10 - len(level))}{path}: {text}")


@click.group(epilog=ALERTS_EXAMPLES)
def alerts() -> None:
    """Try the receivers of alerts."""


@alerts.command(epilog=ALERTS_EXAMPLES)
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
