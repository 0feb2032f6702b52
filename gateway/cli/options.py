"""Options and parameter types that several commands share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from gateway.config.loading import load, loads
from gateway.config.settings import Settings
from gateway.config.units import seconds

_F = TypeVar("_F", bound=Callable[..., Any])

DEFAULT_CONFIG: Final = Path("config.yaml")

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
    """``--json``: for programs."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")(function)


def settings_from(path: Path) -> Settings:
    """The configuration with this process's environment.

    Raises:
        ConfigError: with every problem.
    """
    return load(path, os.environ)


def settings_or_defaults(path: Path) -> Settings:
    """As :func:`settings_from`; where nobody named a file and there is none, the defaults and the environment."""
    if path == DEFAULT_CONFIG and not path.exists():
        return loads("", os.environ)
    return settings_from(path)


class Moment(click.ParamType[float]):
    """A time as Unix seconds: ``15m`` (ago), ``2026-03-04T05:06:07Z``, ``2026-03-04``."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read one."""
        if isinstance(value, float):
            return value
        text = str(value).strip()
        try:
            if re.fullmatch(r"\d+(\.\d+)?\s*(ms|s|m|h|d|w)", text, re.IGNORECASE):
                ago = seconds(text)
                assert isinstance(ago, float)
                return datetime.now(UTC).timestamp() - ago
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r} is not a time such as 15m (ago) or 2026-03-04T05:06:07Z", param, ctx)
        return (moment if moment.tzinfo else moment.astimezone()).timestamp()


class Seconds(click.ParamType[float]):
    """A duration: ``2``, ``250ms``, ``5m``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read one."""
        try:
            return float(seconds(str(value)))  # type: ignore[arg-type]  # text or number, checked by float
        except ValueError:
            self.fail(f"{value!r} is not a duration such as 2, 250ms or 5m", param, ctx)
