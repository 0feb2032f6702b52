"""Options and parameter types that several commands share."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import click

from gateway.config.loading import load, loads
from gateway.config.settings import Settings
from gateway.config.values import seconds

_F = TypeVar("_F", bound=Callable[..., Any])

DEFAULT_CONFIG: Final = Path("config.yaml")
_AGO: Final = re.compile(r"\d+(\.\d+)?\s*(ms|s|m|h|d|w)", re.IGNORECASE)

config_option: Final = click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT_CONFIG,
    show_default=True,
    envvar="GATEWAY_CONFIG",
    show_envvar=True,
    help="The configuration.",
)


def json_option(function: _F) -> _F:
    """Add ``--json``, for programs."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")(function)


def settings_from(path: Path) -> Settings:
    """Return the configuration with this process's environment.

    Raises:
        ConfigError: with every problem.
    """
    return load(path, os.environ)


def settings_or_defaults(path: Path) -> Settings:
    """Return :func:`settings_from`; if no file was named and there is none, the defaults with the environment."""
    if path == DEFAULT_CONFIG and not path.exists():
        return loads("", os.environ)
    return settings_from(path)


def url_of(host: str, port: int) -> str:
    """Return the address of a configured server; one that listens on all addresses also listens on loopback."""
    if host in ("0.0.0.0", "::", ""):  # noqa: S104
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Moment(click.ParamType[float]):
    """A time as Unix seconds: ``15m`` (ago), ``2026-03-04T05:06:07Z``, ``2026-03-04``."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return a time as Unix seconds."""
        if isinstance(value, float):
            return value
        text = str(value).strip()
        try:
            found = _ago(text) if _AGO.fullmatch(text) else _moment(text)
        except (ValueError, OverflowError):
            self.fail(f"{text!r} is not a time such as 15m (ago) or 2026-03-04T05:06:07Z", param, ctx)
        if found < 0:
            self.fail(f"{text!r} is before 1970; nothing is as old", param, ctx)
        return found


def _ago(text: str) -> float:
    ago = seconds(text)
    assert isinstance(ago, float)
    return datetime.now(UTC).timestamp() - ago


def _moment(text: str) -> float:
    """Return Unix seconds. Without an offset the local zone applies; a year out of its range is an OverflowError."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.astimezone()).timestamp()


class Seconds(click.ParamType[float]):
    """A duration: ``2``, ``250ms``, ``5m``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return a duration in seconds."""
        try:
            found = float(seconds(str(value)))  # type: ignore[arg-type]  # text or number, checked by float
        except ValueError:
            found = math.inf
        if math.isinf(found):
            self.fail(f"{value!r} is not a duration such as 2, 250ms or 5m", param, ctx)
        return found


class Number(click.FloatRange):
    """A number in a range; ``nan``, which is in every range, and ``inf`` are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return a finite number of the range."""
        found = float(super().convert(value, param, ctx))
        if not math.isfinite(found):
            self.fail(f"{value!r} is not a number that can be reached", param, ctx)
        return found


class Address(click.ParamType[str]):
    """Where an HTTP server is: ``http://127.0.0.1:8081``, perhaps with a path in front of its own."""

    name = "URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return a usable address."""
        text = str(value)
        try:
            parts = urlsplit(text)
            is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # brackets without an end, a port that is no number
            is_usable = False
        if not is_usable or not text.isascii() or not text.isprintable() or set(text) & set(" ?#@"):
            self.fail(f"{text!r} is not an address such as http://127.0.0.1:8081", param, ctx)
        return text
