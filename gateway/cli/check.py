"""``gateway check``: is the configuration right, and is everything there that it names."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Final

import click
import orjson

from gateway.cli.loop import run_async
from gateway.cli.options import config_option, json_option, settings_from
from gateway.cli.reach import Finding, look, problems_of
from gateway.config.advice import warnings
from gateway.errors import ConfigError

_MARKS: Final = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "problem": ("problem", "red")}


@click.command(epilog="\b\nExamples\n  gateway check\n  gateway check -c /etc/gateway/config.yaml --json")
@json_option
@click.option("--offline", is_flag=True, help="Only the file: reach nothing.")
@config_option
@click.pass_context
def check(ctx: click.Context, as_json: bool, offline: bool, config_path: Path) -> None:
    """Check the configuration and reach what it names.

    Tells all problems at once, with key paths and lines: 2 when the file is wrong, 1 when Kafka, a subscriber's host or
    the journal's folder cannot be reached. A subscriber's host is looked up, held against the guard, and connected to;
    no webhook is sent.
    """
    try:
        settings = settings_from(config_path)
    except ConfigError as exc:
        if as_json:
            click.echo(orjson.dumps({"is_ok": False, "problems": exc.problems, "findings": []}))
            ctx.exit(exc.exit_code)
        raise
    findings = [_warning(text) for text in warnings(settings)]
    if not offline:
        findings += run_async(look(settings))
    problems = problems_of(findings)
    if as_json:
        document = {"is_ok": not problems, "problems": [], "findings": [asdict(finding) for finding in findings]}
        click.echo(orjson.dumps(document))
    else:
        click.echo(f"{click.style('ok', fg='green'):<{_width('green')}}{config_path}: no mistakes")
        for finding in findings:
            word, colour = _MARKS[finding.level]
            click.echo(f"{click.style(word, fg=colour):<{_width(colour)}}{finding.path}: {finding.text}")
    ctx.exit(1 if problems else 0)


def _warning(text: str) -> Finding:
    path, _, sentence = text.partition(": ")
    return Finding("warning", path, sentence)


def _width(colour: str) -> int:
    """A column of ten letters, with what colours add to the text."""
    return 10 + len(click.style("", fg=colour))
