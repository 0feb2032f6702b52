"""Which events a command shows: by type, by id, and by conditions in the words of a subscriber's filter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import click
import orjson

from gateway.errors import ConfigError
from gateway.fanout.filters import Filter, compile_filter

#: ``data.status=delivered``; ``!=``, and as in CSS ``^=`` for a beginning and ``$=`` for an end.
_CONDITION: Final = re.compile(r"\s*([\w.-]+)\s*(!=|\^=|\$=|=)\s*(.*?)\s*", re.DOTALL)
_EXPECTED: Final = "data.status=delivered, data.to^=+62, or a subscriber's filter as JSON"


class Condition(click.ParamType[Filter]):
    """One condition on an event: ``data.status=delivered``, ``!=``, ``^=``, ``$=``; or JSON as in ``filter``."""

    name = "condition"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Filter:
        """Return the compiled filter."""
        try:
            found = compile_filter(_source(str(value)), "--filter")
        except ConfigError as exc:
            self.fail("; ".join(exc.problems), param, ctx)
        except ValueError:
            found = None
        if found is None:
            self.fail(f"{value!r} is no condition such as {_EXPECTED}", param, ctx)
        return found


def _source(text: str) -> object:
    """Return a condition as the section ``filter`` has it.

    Raises:
        ValueError: it is none.
    """
    if text.lstrip().startswith(("{", "[")):
        return orjson.loads(text)
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise ValueError(text)
    name, how, value = found.groups()
    match how:
        case "^=":
            return {"prefix": {name: value}}
        case "$=":
            return {"suffix": {name: value}}
        case "!=":
            return {"not": _equal(name, value)}
        case _:
            return _equal(name, value)


def _equal(name: str, value: str) -> dict[str, object]:
    """Return the filter for a value; a number or boolean matches as text, too, as shells drop quotes."""
    wanted: list[object] = [value]
    if name.startswith("data."):
        try:
            literal = orjson.loads(value)
        except orjson.JSONDecodeError:
            literal = None
        if isinstance(literal, (bool, int, float)):
            wanted.append(literal)
    return {"any": [{"exact": {name: one}} for one in wanted]}


@dataclass(frozen=True, slots=True)
class Choice:
    """A selection of events; empty fields select everything.

    Args:
        types: event types, one of which it must have.
        ids: event ids, one of which it must have.
        conditions: all of which it must meet.
    """

    types: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    conditions: tuple[Filter, ...] = ()

    @classmethod
    def of(cls, types: Iterable[str], ids: Iterable[str], conditions: Iterable[Filter]) -> Choice:
        """Make one of a command's options."""
        return cls(frozenset(types), frozenset(one.strip().lower() for one in ids), tuple(conditions))

    @property
    def is_all(self) -> bool:
        """Whether nothing was selected."""
        return not (self.types or self.ids or self.conditions)

    def takes(self, event: Mapping[str, Any], event_id: str) -> bool:
        """Return whether this event is asked for."""
        return (
            (not self.types or event.get("type") in self.types)
            and (not self.ids or event_id.lower() in self.ids)
            and all(one.matches(event) for one in self.conditions)
        )
