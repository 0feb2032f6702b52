"""``gateway top``: rates, lag and states of a running gateway, live in a terminal.

All of it is what ``/api/overview`` says, so it is of all processes. What the gateway does not know (a value that is
None, or not there) is shown as ``unknown``, never as 0; while it does not answer, the last known values are greyed and
say since when. :func:`screen` is pure: a document in, something for rich to print out.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from gateway.cli.adminapi import AdminApi, admin_option
from gateway.cli.options import Seconds, config_option, json_option, settings_or_defaults
from gateway.cli.printing import COLOURS, local, print_json, printable
from gateway.errors import Broken, GatewayError

UNKNOWN: Final = "unknown"
#: Lines of the screen that are not rows of its tables: header, titles, headings and a line to breathe.
_FRAME_LINES: Final = 14
#: Lines of an error with the longest sentence, where 80 columns are all there is.
_ERROR_LINES: Final = 4
#: States of a subscriber, the one that needs a person first.
_URGENCY: Final = ("stopped", "down", "degraded", None, "paused", "healthy")

_GREY: Final = Style(color="bright_black")

_Rows = list[tuple[object, ...]]


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
#: Keys that scroll the subscribers: as in less, and arrows (ECMA-48, CUD and CUU).
_DOWN: Final = ("j", "\x1b[B", "\x1bOB")
_UP: Final = ("k", "\x1b[A", "\x1bOA")
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
    open, over all processes of the gateway. What is not known is unknown, never 0. The last error of the subscriber at
    the top is shown in full; j and k, or the arrow keys, scroll. Asks the running gateway; q or Ctrl-C ends it.
    """
    api = AdminApi(settings_or_defaults(config_path), admin_url, timeout_s=_PATIENCE_S)
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
    console, first = Console(highlight=False), 0
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            _look(api, seen)
            if seen.overview is None:
                raise Broken(seen.problem)
            silent_since = seen.at if seen.problem else None
            first = min(first, max(0, len(seen.overview["subscribers"]) - 1))
            drawn = screen(
                seen.overview, height=console.height, first=first, problem=seen.problem, silent_since=silent_since
            )
            live.update(drawn, refresh=True)
            keys = pressed(interval_s)
            if "q" in keys.lower():
                return
            first = max(0, first + sum(keys.count(one) for one in _DOWN) - sum(keys.count(one) for one in _UP))


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
    """Yield a function that waits so many seconds and returns the keys that were pressed meanwhile, or nothing."""
    if termios is None or not sys.stdin.isatty():
        yield _no_key
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    def pressed(wait_s: float) -> str:
        ready, _, _ = select.select([fd], [], [], wait_s)
        return os.read(fd, 64).decode("latin-1") if ready else ""

    try:
        tty.setcbreak(fd)
        yield pressed
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def screen(
    overview: Mapping[str, Any],
    *,
    height: int | None,
    first: int = 0,
    problem: str = "",
    silent_since: float | None = None,
) -> RenderableType:
    """Return the whole screen.

    Args:
        overview: of ``/api/overview``.
        height: lines of the terminal; None shows every row, and every error in full.
        first: subscribers that are scrolled out; the last error of the one that is then at the top is shown in full.
        problem: why the gateway does not answer now; then the values are those of before, and greyed.
        silent_since: Unix seconds of the last answer.
    """
    subscribers = sorted(overview.get("subscribers") or [], key=_urgency)[first:]
    errors = [_error(one) for one in (subscribers if height is None else subscribers[:1]) if one.get("last_error")]
    intake = overview.get("intake") or {}
    callbacks = sorted(intake.get("callbacks") or [], key=lambda one: -(one.get("rate") or 0.0))
    topics = sorted(overview.get("topics") or [], key=lambda one: (not one.get("problem"), -(one.get("rate") or 0.0)))
    rows = None if height is None else max(1, (height - _FRAME_LINES - _ERROR_LINES * len(errors)) // 3)
    parts: list[RenderableType] = [_head(overview, problem, silent_since), Text("")]
    parts.append(_table("subscriber", _SUBSCRIBER, [_subscriber(one) for one in subscribers], rows))
    parts += [Text.assemble((f"{printable(str(name))}  ", "bold"), f"{error}\n") for name, error in errors]
    parts.append(_table("topic", _TOPIC, [_topic(one, overview.get("mode")) for one in topics], rows))
    parts.append(_table("callback", _CALLBACK, [_callback(one) for one in callbacks], rows))
    group = Group(*parts)
    if not problem:
        return group
    # Greyed as a whole: nothing of it is known to be so now.
    return Group(parts[0], _Dim(Group(*parts[1:])))


_SUBSCRIBER: Final = ("state", "per second", "lag", "in flight", "success", "p50", "p99", "given up", "last error")
_TOPIC: Final = ("per second", "published per second", "lag", "problem")
_CALLBACK: Final = ("per second", "p50", "p99", "accepted", "refused")


class _Dim:
    """Something, greyed, whatever colours it had."""

    def __init__(self, inner: RenderableType) -> None:
        self._inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self._inner, options):
            yield segment if segment.control else Segment(segment.text, _GREY)


def _head(overview: Mapping[str, Any], problem: str, silent_since: float | None) -> Text:
    text = Text()
    if problem:
        text.append(f"no answer since {local(silent_since)}: {problem}; the values are of before\n", "bold red")
    ready = overview.get("ready")
    word, style = ("ready", "green") if ready else ("not ready", "bold red") if ready is False else (UNKNOWN, "yellow")
    text.append(f"gateway {overview.get('version') or UNKNOWN} {overview.get('role') or ''}  ", "bold")
    text.append(word, style)
    text.append(f"  up {_age(overview.get('started_at'))}  {_processes(overview.get('processes'))}\n")
    for name, said in (overview.get("checks") or {}).items():
        if said != "ok":
            text.append(f"{name}: {printable(said)}\n", "red")
    intake, journal, kafka = (overview.get(name) for name in ("intake", "journal", "kafka"))
    if intake is not None:
        text.append(
            f"callbacks {_rate(intake.get('rate'))}/s  p50 {_ms(intake.get('p50'))}  p99 {_ms(intake.get('p99'))}"
            f"  refused {_rate(intake.get('refused_rate'))}/s\n"
        )
    if journal is not None:
        used, most = journal.get("used_bytes"), journal.get("max_bytes")
        share = f" ({used / most:.0%})" if isinstance(used, int) and isinstance(most, int) and most else ""
        text.append(f"journal {_count(journal.get('records'))} records  {_bytes(used)} of {_bytes(most)}{share}\n")
    if kafka is not None:
        state = kafka.get("is_ready")
        said = "ready" if state else _trouble(kafka) if state is False else UNKNOWN
        text.append(f"kafka {said}  waiting to be published: {_count(kafka.get('lag'))}\n", "" if state else "red")
    return text


def _table(title: str, columns: Sequence[str], rows: _Rows, most: int | None) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column(title, no_wrap=True)
    for column in columns:
        is_sentence = column in ("problem", "last error")
        # In a narrow window rich takes room from columns that may wrap before it takes any from the others.
        is_text = is_sentence or column == "state"
        table.add_column(column, justify="left" if is_text else "right", no_wrap=not is_sentence)
    shown = rows if most is None else rows[:most]
    for row in shown:
        table.add_row(*(_cell(value) for value in row))
    if len(rows) > len(shown):
        table.add_row(Text(f"and {len(rows) - len(shown)} more", "dim"))
    if not rows:
        table.add_row(Text("none", "dim"))
    return Group(table, Text(""))


def _subscriber(one: Mapping[str, Any]) -> tuple[object, ...]:
    is_here = one.get("is_here")
    # A stream has no breaker and no lag of its own; its clients read where they are.
    state = one.get("state") or (one.get("kind") if one.get("kind") == "stream" and is_here else None)
    share = one.get("success_share")
    return (
        one.get("name"),
        state or UNKNOWN,
        _rate(one.get("rate")) if is_here else UNKNOWN,
        "-" if state == "stream" else _count(one.get("lag")),
        "-" if state == "stream" else _count(one.get("in_flight")),
        "-" if share is None else f"{share:.1%}",
        _ms(one.get("p50")),
        _ms(one.get("p99")),
        _count(one.get("dead_letters")),
        _error(one)[1],
    )


def _error(one: Mapping[str, Any]) -> tuple[str, str]:
    """Return the name of a subscriber, and its last error; empty if there is none."""
    error = one.get("last_error")
    said = "" if error is None else f"{local(error.get('at'))}  {printable(str(error.get('sentence')))}"
    return str(one.get("name")), said


def _topic(one: Mapping[str, Any], mode: object) -> tuple[object, ...]:
    is_published = mode == "kafka"
    return (
        one.get("name"),
        _rate(one.get("rate")),
        _rate(one.get("published_rate")) if is_published else "-",
        _count(one.get("lag")) if is_published else "-",
        one.get("problem") or "",
    )


def _callback(one: Mapping[str, Any]) -> tuple[object, ...]:
    outcomes = one.get("outcomes") or {}
    refused = sum(count for name, count in outcomes.items() if name not in ("accepted", "repeated"))
    return (
        one.get("name"),
        _rate(one.get("rate")),
        _ms(one.get("p50")),
        _ms(one.get("p99")),
        _count(outcomes.get("accepted", 0)),
        _count(refused),
    )


def _urgency(one: Mapping[str, Any]) -> tuple[int, int, str]:
    state = one.get("state")
    place = _URGENCY.index(state) if state in _URGENCY else len(_URGENCY)
    return place, -(one.get("lag") or 0), str(one.get("name"))


def _processes(processes: Sequence[Mapping[str, Any]] | None) -> str:
    if not processes:
        return f"processes {UNKNOWN}"
    sick = [
        f"{one.get('name')} {'unknown' if one.get('is_ready') is None else 'not ready'}"
        for one in processes
        if not one.get("is_ready")
    ]
    restarts = sum(one.get("restarts") or 0 for one in processes)
    said = f"{len(processes)} processes"
    said += f", {', '.join(sick)}" if sick else ""
    return said + (f", {restarts} restarts" if restarts else "")


def _trouble(kafka: Mapping[str, Any]) -> str:
    problem = kafka.get("problem") or {}
    return printable(problem.get("reason") or problem.get("state") or "not ready")


def _cell(value: object) -> Text:
    text = printable(str(value))
    style = COLOURS.get(text) or ("yellow" if text == UNKNOWN else "")
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _rate(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.1f}"


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def _ms(seconds: float | None) -> str:
    """Return a time that is None when nothing was measured in the last minute."""
    return "-" if seconds is None else f"{seconds * 1000:,.0f} ms"


def _bytes(value: int | None) -> str:
    if value is None:
        return UNKNOWN
    size, units = float(value), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size, _ = size / 1024, units.pop(0)
    return f"{size:,.1f} {units[0]}" if units[0] != "B" else f"{value} B"


def _age(started_at: float | None) -> str:
    if started_at is None:
        return UNKNOWN
    seconds = max(0, int(time.time() - started_at))
    days, hours, minutes = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60
    return f"{days} d {hours} h" if days else f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s"
