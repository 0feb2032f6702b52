"""structlog, set up once: for people on a terminal, JSON lines otherwise.

One wide line per unit of work, named as a past fact (``callback.received``, ``delivery.attempted``) and
emitted once at its end. Ids yes; message text, phone numbers and secrets no, in traces neither: no locals. A value that
a sender chose passes :mod:`gateway.telemetry.redaction` first.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal, TextIO

import orjson
import structlog

from gateway.telemetry import redaction

Level = Literal["debug", "info", "warning", "error"]
_BOUND: Final[dict[str, object]] = {}


def configure(level: Level = "info", style: Literal["auto", "console", "json"] = "auto") -> None:
    """Send structlog and the standard library's logging to standard error in one form.

    Args:
        level: the least that is shown.
        style: ``auto`` is ``console`` on a terminal and ``json`` otherwise.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    is_console = style == "console" or (style == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_bound,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[structlog.typing.Processor] = (
        # Its default shows the locals of every frame: payloads, phone numbers, secrets.
        [structlog.dev.ConsoleRenderer(colors=_has_colours(sys.stderr), exception_formatter=_show_trace)]
        if is_console
        else [
            structlog.processors.ExceptionRenderer(redaction.trace),
            structlog.processors.JSONRenderer(serializer=_dumps),
        ]
    )
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        # Text and newline in one write: workers share this file, and print() would let a line of another in between.
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _first_line],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(number, logging.WARNING))


@contextmanager
def for_command() -> Iterator[None]:
    """Send warnings to standard error while a command runs: standard output has its answer only.

    Afterwards lines go where they went before. A command that is a role of the gateway calls :func:`configure` inside.
    """
    before = structlog.get_config()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(colors=_has_colours(sys.stderr), exception_formatter=_show_trace),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def is_colourless() -> bool:
    """Return whether the user wants no colours anywhere (https://no-color.org)."""
    return bool(os.environ.get("NO_COLOR"))


def bind(**values: object) -> None:
    """Add values to every line of this process, also of threads, which know nothing of context variables."""
    _BOUND.update(values)


def _add_bound(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {**_BOUND, **line}


def _has_colours(stream: TextIO) -> bool:
    return stream.isatty() and not is_colourless()


def _show_trace(stream: TextIO, exc_info: redaction.ExcInfo) -> None:
    stream.write("\n" + redaction.trace(exc_info))


def _first_line(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Cut a library's message to its first line: asyncio puts the ``repr`` of a task and its exception below it."""
    line["event"] = str(line["event"]).partition("\n")[0]
    return line


def _dumps(value: object, **_: object) -> str:
    return orjson.dumps(value, default=str).decode()
