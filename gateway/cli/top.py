"""``gateway top``: rates, lag and states of a running gateway, live in a terminal.

All of it is what ``/api/overview`` says, so it is of all processes. What the gateway does not know is shown as
``unknown``, never as 0; while it does not answer, the last known values are greyed and say since when.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.live import Live

from gateway.cli.adminapi import AdminApi, admin_option
from gateway.cli.options import Seconds, config_option, json_option
from gateway.cli.tables import print_json
from gateway.cli.topscreen import screen
from gateway.errors import Broken, GatewayError

try:
    import termios
    import tty
except ImportError:  # not a Unix: Ctrl-C ends it
    termios = None  # type: ignore[assignment]

EXAMPLES: Final = """
\b
Examples
  gateway top
  gateway top --interval 5 --admin http://gateway.internal:8081
  gateway top --once
  gateway top --once --json | jq '.subscribers[] | {name, state, lag}'
"""
#: The gateway reads its counters so often; asked more often it says the same.
_INTERVAL_S: Final = 2.0
#: A gateway that hangs is said to be silent after this; a whole answer takes some milliseconds.
_PATIENCE_S: Final = 5.0
#: Columns where there is no terminal: no sentence of an error is as long.
_FILE_WIDTH: Final = 2000
#: Parts of the overview that are of now; its points over time are for the console's charts.
_PARTS: Final = (
    "now",
    "version",
    "role",
    "mode",
    "started_at",
    "ready",
    "checks",
    "processes",
    "intake",
    "topics",
    "journal",
    "kafka",
    "subscribers",
)


@dataclass(slots=True)
class _Seen:
    """The newest answer, and what is wrong since when (monotonic and Unix seconds) if there is none now."""

    overview: dict[str, Any] | None = None
    at: float = 0.0
    problem: str = ""


@click.command(epilog=EXAMPLES)
@click.option(
    "--interval", type=Seconds(), default=_INTERVAL_S, show_default=True, help="Seconds between two readings."
)
@click.option("--once", is_flag=True, help="Print it once and end; for scripts with --json.")
@json_option
@admin_option
@config_option
def top(interval: float, once: bool, as_json: bool, admin_url: str | None, config_path: Path) -> None:
    """Show rates, lag and states live in the terminal.

    Callbacks, topics and subscribers with what they do a second, how far behind they are, and whether a breaker is
    open, over all processes of the gateway. What is not known is unknown, never 0. Asks the running gateway; q or
    Ctrl-C ends it.
    """
    api = AdminApi(config_path, admin_url, timeout_s=_PATIENCE_S)
    if as_json and not once:
        raise click.UsageError("--json goes with --once: one document")
    if once:
        overview = _overview(api)
        print_json(overview) if as_json else _print(overview)
        return
    if not sys.stdout.isatty():
        raise click.UsageError("it needs a terminal; elsewhere use --once")
    _watch(api, max(0.2, interval))


def _overview(api: AdminApi) -> dict[str, Any]:
    """Return what the gateway says of now, with the names of the API; a part that it does not have is None.

    Raises:
        Broken: no gateway answers.
    """
    # Points of the last ten minutes would be most of the answer; none of them is newer than a day from now.
    found = api.get("/api/overview", {"since": f"{time.time() + 86_400:.0f}"})
    if "subscribers" not in found:
        raise Broken(f"{api.url} is not a gateway's admin port")
    return {name: found.get(name) for name in _PARTS}


def _print(overview: dict[str, Any]) -> None:
    """Print it as it would be on a terminal of any width: nothing is cut when it goes into a file."""
    console = Console(width=None if sys.stdout.isatty() else _FILE_WIDTH, highlight=False)
    console.print(screen(overview, height=None))


def _watch(api: AdminApi, interval_s: float) -> None:
    seen = _Seen()
    console = Console(highlight=False)
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            _look(api, seen)
            if seen.overview is None:
                raise Broken(seen.problem)
            silent_since = seen.at if seen.problem else None
            live.update(
                screen(seen.overview, height=console.height, problem=seen.problem, silent_since=silent_since),
                refresh=True,
            )
            if pressed(interval_s) in ("q", "Q"):
                return


def _look(api: AdminApi, seen: _Seen) -> None:
    try:
        seen.overview, seen.at, seen.problem = _overview(api), time.time(), ""
    except GatewayError as exc:
        seen.problem = str(exc)


def _no_key(wait_s: float) -> str:
    time.sleep(wait_s)
    return ""


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Yield a function that waits so many seconds and returns the key that was pressed meanwhile, or nothing."""
    if termios is None or not sys.stdin.isatty():
        yield _no_key
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    def pressed(wait_s: float) -> str:
        ready, _, _ = select.select([fd], [], [], wait_s)
        return os.read(fd, 1).decode("latin-1") if ready else ""

    try:
        tty.setcbreak(fd)
        yield pressed
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
