"""The ``gateway`` command. ``COMMANDS`` is the list of its subcommands, each with the file that has it.

Exit codes come from the error that ended the command (``GatewayError.exit_code``) and are the same everywhere.
"""

from __future__ import annotations

import difflib
import importlib
from typing import Any, Final

import click

from gateway import __version__
from gateway.errors import INTERRUPTED, GatewayError
from gateway.telemetry import logs

#: Name of each command, and the place of its function. In the order in which users need them.
COMMANDS: Final = {
    "init": "gateway.cli.roles:init",
    "run": "gateway.cli.roles:run",
    "serve": "gateway.cli.roles:serve",
    "fanout": "gateway.cli.roles:fanout",
    "check": "gateway.cli.check:check",
    "listen": "gateway.cli.traffic:listen",
    "send": "gateway.cli.traffic:send",
    "tail": "gateway.cli.tail:tail",
    "top": "gateway.cli.top:top",
    "events": "gateway.cli.events:events",
    "explain": "gateway.cli.events:explain",
    "replay": "gateway.cli.replay:replay",
    "backfill": "gateway.cli.backfill:backfill",
    "dlq": "gateway.cli.dlq:dlq",
    "doctor": "gateway.cli.events:doctor",
    "subscribers": "gateway.cli.subscribers:subscribers",
    "alerts": "gateway.cli.check:alerts",
    "audit": "gateway.cli.events:audit",
    "topics": "gateway.cli.stores:topics",
    "journal": "gateway.cli.stores:journal",
    "plan": "gateway.cli.plan:plan",
    "schema": "gateway.cli.schema:schema",
    "completion": "gateway.cli.adminapi:completion",
}

EPILOG: Final = """
\b
Exit codes
  0    done
  1    it did not work: something cannot be reached, an answer was not success
  2    the configuration or the command line is wrong
  3    another process holds the journal
  4    the journal is damaged
  130  stopped by Ctrl-C

\b
A first look, in three terminals
  gateway run
  gateway listen --port 9000        and subscribe http://127.0.0.1:9000/ to sms.dr in config.yaml
  gateway send sms-dr --count 100

\b
Completion of commands, options, and names of the configuration
  eval "$(gateway completion bash)"
"""


#: The environment variable by which a shell asks for completion; the same however the command was started.
COMPLETE_VARIABLE: Final = "_GATEWAY_COMPLETE"


class Commands(click.Group):
    """Loads the file of a command when it is asked for, and turns our errors into sentences and exit codes."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """As click does; by itself it would name the variable after the file that was started."""
        return super().main(*args, **{"complete_var": COMPLETE_VARIABLE, **extra})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of ``COMMANDS``."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name; None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve as click does; report an unknown command with the nearest known one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as exc:
            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            if near:
                raise click.UsageError(f"{exc.message} Did you mean '{near[0]}'?", ctx) from exc
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; print each problem of a GatewayError as one line on standard error.

        Standard output has the command's answer only: log lines go to standard error, too.
        """
        if logs.is_colourless():
            ctx.color = False
        try:
            with logs.for_command():
                return super().invoke(ctx)
        except GatewayError as exc:
            for line in str(exc).splitlines() or [type(exc).__name__]:
                click.echo(f"{click.style('Error', fg='red')}: {line}", err=True)
            ctx.exit(exc.exit_code)
        except KeyboardInterrupt:
            click.echo(err=True)
            ctx.exit(INTERRUPTED)


@click.command(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=EPILOG,
)
@click.version_option(__version__, prog_name="gateway", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Accept the callbacks of the NXCloud platform, store them, and deliver them as signed webhooks."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
