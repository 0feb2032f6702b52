"""Keeping or dropping fields of an event before it goes to one subscriber, such as everything but ``data.raw``.

The stored bytes stay whole; the same event gives the same bytes at every attempt and replay, and what is kept of it
keeps its digits. The attributes that CloudEvents requires are always kept, as without them it would be no event.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import orjson

from gateway.errors import ConfigError, Poison
from gateway.event import NotAnEvent, parse
from gateway.fanout import paths

REQUIRED: Final = frozenset({"specversion", "id", "source", "type"})


class Transform:
    """``include`` first, then ``exclude``; an empty ``include`` keeps everything.

    Raises:
        ConfigError: a path is not one; all such paths at once.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = (), where: str = "transform") -> None:
        problems: list[str] = []
        self._include = _parse(include, f"{where}.include", problems)
        self._exclude = _parse(exclude, f"{where}.exclude", problems)
        problems += [
            f"{where}.exclude: {path[0]} is required by CloudEvents" for path in self._exclude if path[0] in REQUIRED
        ]
        if problems:
            raise ConfigError(problems)

    def apply(self, value: bytes) -> bytes:
        """Return the event's bytes without some fields.

        Raises:
            Poison: they are not a JSON object, or nested more than 250 levels deep.
        """
        try:
            event = _lossless(value)
            if self._include:
                event = _kept(event, self._include)
            for path in self._exclude:
                _drop(event, path)
            return orjson.dumps(event)
        except TypeError as exc:
            raise Poison("nested too deeply, so no fields can be left out") from exc


def _lossless(value: bytes) -> dict[str, Any]:
    """Return the event with every number as it was written: ``0.10`` and twenty digits are no doubles.

    orjson is asked to write what it read: where that gives the same bytes, as it mostly does, it has kept every digit.
    Otherwise the slower parser keeps numbers as text. Looking for such numbers with an expression costs twice as much
    as either.
    """
    try:
        event = parse(value)
    except NotAnEvent as exc:
        raise Poison(f"no fields can be left out: {exc}") from exc
    if orjson.dumps(event) == value:
        return event
    kept: dict[str, Any] = json.loads(value, parse_float=orjson.Fragment, parse_int=orjson.Fragment)
    return kept


def _parse(texts: Sequence[str], where: str, problems: list[str]) -> tuple[paths.Path, ...]:
    found: list[paths.Path] = []
    for position, text in enumerate(texts):
        if text == "data":
            found.append(("data",))
            continue
        try:
            found.append(paths.parse(text))
        except ValueError as exc:
            problems.append(f"{where}[{position}]: {exc}")
    return tuple(found)


def _kept(event: dict[str, Any], include: Sequence[paths.Path]) -> dict[str, Any]:
    kept = {name: value for name, value in event.items() if name in REQUIRED}
    for path in include:
        value = _find(event, path)
        if value is paths.MISSING:
            continue
        target = kept
        for step in path[:-1]:
            target = target.setdefault(step, {})
        target[path[-1]] = value
    return kept


def _drop(event: dict[str, Any], path: paths.Path) -> None:
    parent = _find(event, path[:-1])
    if isinstance(parent, dict):
        parent.pop(path[-1], None)


def _find(event: dict[str, Any], path: paths.Path) -> Any:
    """Find a value as :func:`paths.find` does, but never in a list: half a list would not be the sender's list."""
    value: Any = event
    for step in path:
        value = value.get(step, paths.MISSING) if isinstance(value, dict) else paths.MISSING
    return value
