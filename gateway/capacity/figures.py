"""Figures of a machine as a file: written by ``gateway plan --measure --figures FILE``, read by the sizing.

``recorded.json`` is such a file, used where the user has none. To record it again, on an idle machine:
``gateway plan --measure --figures gateway/capacity/recorded.json``, then ``python -m tests.readme``.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.capacity.model import Figures
from gateway.errors import Broken, ConfigError

RECORDED: Final = Path(__file__).with_name("recorded.json")
#: A time of an event in microseconds, a size in bytes, or a rate of one process, that no machine has.
_ABSURD: Final = 1e7
#: They have one number for each rate.
_CURVES: Final = ("rates_per_s", "accept_us", "commit_us", "deliver_us")


def load(path: Path) -> Figures:
    """Return the figures of a file.

    Raises:
        ConfigError: with every problem of the file.
    """
    try:
        found: Any = orjson.loads(path.read_bytes())
    except OSError as exc:
        raise ConfigError([f"{path}: cannot be read: {exc.strerror}"]) from exc
    except orjson.JSONDecodeError as exc:
        raise ConfigError([f"{path}: is not JSON: {exc}"]) from exc
    names = [one.name for one in dataclasses.fields(Figures)]
    if not isinstance(found, dict) or set(found) != set(names):
        raise ConfigError([f"{path}: needs exactly the keys {', '.join(names)}"])
    problems = [f"{path}: {name}: {reason}" for name in names if (reason := _problem(name, found[name]))]
    if not problems and len({len(found[name]) for name in _CURVES}) > 1:
        problems = [f"{path}: {', '.join(_CURVES)}: must have one number for each rate"]
    if problems:
        raise ConfigError(problems)
    return Figures(**found | {name: tuple(found[name]) for name in _CURVES})


def save(figures: Figures, path: Path) -> None:
    """Write the figures to a file.

    Args:
        figures: the figures.
        path: of the file; replaced if it exists.

    Raises:
        Broken: the file cannot be written.
    """
    try:
        path.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    except OSError as exc:
        raise Broken(f"{path}: cannot be written: {exc.strerror}") from exc


def _problem(name: str, value: Any) -> str:
    if name in ("machine", "measured", "version"):
        return "" if isinstance(value, str) else "must be a text"
    if name not in _CURVES:
        value = [value]
    elif not isinstance(value, list) or not value:
        return "must be a list of numbers"
    least = 0 if name == "load_average" else 1e-9
    if any(isinstance(one, bool) or not isinstance(one, int | float) or not least <= one < _ABSURD for one in value):
        return "must be a number above 0 and below 10,000,000"
    return "must ascend" if name == "rates_per_s" and sorted(set(value)) != value else ""
