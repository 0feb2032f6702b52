"""CloudEvents filter dialects, compiled once: which events a subscriber wants.

Source: CloudEvents Subscriptions 1.0.0-wip, section 3.2.4.1 "Filter Dialects". Ours are ``exact``, ``prefix``,
``suffix``, ``all``, ``any`` and ``not``; ``sql`` is not. Beyond the specification, a name may be a path into the
event's data (``data.to``), and ``exact`` there also takes true, false and numbers, compared with their type.

* A list of filters means all of them.
* ``exact``, ``prefix`` and ``suffix`` with several names want all of them.
* What is not there matches none of these three; ``not`` turns that into a match.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from gateway.errors import ConfigError
from gateway.event import parse
from gateway.fanout import paths
from gateway.log import Record

#: A filter nested deeper is a mistake or an attack on the stack.
MAX_DEPTH: Final = 16
_DIALECTS: Final = ("exact", "prefix", "suffix", "all", "any", "not")

#: Events kept: two batches of the shared reading. More would only cost memory (some kilobytes each).
_MAX_EVENTS: Final = 1024
#: Bytes of their values: what is parsed takes several times as much.
_MAX_BYTES: Final = 8 * 1024 * 1024

Event = Mapping[str, Any]


class Filter(Protocol):
    """A compiled filter."""

    def matches(self, event: Event) -> bool:
        """Return whether the subscriber wants this event."""

    def mismatch(self, event: Event) -> str | None:
        """Return the key path of the part that rejects the event, for ``explain``; None when the event matches."""


@dataclass(frozen=True, slots=True)
class Test:
    """``exact``, ``prefix`` or ``suffix`` on one name."""

    where: str
    dialect: str
    path: paths.Path
    wanted: Any

    def matches(self, event: Event) -> bool:
        """See :class:`Filter`."""
        found = event.get(self.path[0], paths.MISSING) if len(self.path) == 1 else paths.find(event, self.path)
        if self.dialect == "exact":
            # 1 == True in Python, not in JSON.
            return bool(found == self.wanted and isinstance(found, bool) == isinstance(self.wanted, bool))
        if not isinstance(found, str):
            return False
        return found.startswith(self.wanted) if self.dialect == "prefix" else found.endswith(self.wanted)

    def mismatch(self, event: Event) -> str | None:
        """See :class:`Filter`."""
        return None if self.matches(event) else self.where


@dataclass(frozen=True, slots=True)
class All:
    """Every part matches."""

    parts: tuple[Filter, ...]

    def matches(self, event: Event) -> bool:
        """See :class:`Filter`."""
        return all(part.matches(event) for part in self.parts)

    def mismatch(self, event: Event) -> str | None:
        """See :class:`Filter`."""
        return next((found for part in self.parts if (found := part.mismatch(event)) is not None), None)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part matches."""

    where: str
    parts: tuple[Filter, ...]

    def matches(self, event: Event) -> bool:
        """See :class:`Filter`."""
        return any(part.matches(event) for part in self.parts)

    def mismatch(self, event: Event) -> str | None:
        """See :class:`Filter`."""
        return None if self.matches(event) else self.where


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not match."""

    where: str
    part: Filter

    def matches(self, event: Event) -> bool:
        """See :class:`Filter`."""
        return not self.part.matches(event)

    def mismatch(self, event: Event) -> str | None:
        """See :class:`Filter`."""
        return self.where if self.part.matches(event) else None


def compile_filter(source: object, where: str = "filter") -> Filter | None:
    """Compile a ``filter`` section; None when there is none, or an empty list: everything.

    Args:
        where: key path of the section, for the sentences.

    Raises:
        ConfigError: with every problem found, each with its key path.
    """
    if source is None or source == []:
        return None
    problems: list[str] = []
    compiled = _compile(source, where, problems, 0)
    if problems:
        raise ConfigError(problems)
    return compiled


def _compile(source: object, where: str, problems: list[str], depth: int) -> Filter:
    if depth > MAX_DEPTH:
        problems.append(f"{where}: nested deeper than {MAX_DEPTH}")
        return All(())
    if isinstance(source, list):
        return All(_parts(source, where, problems, depth))
    if not isinstance(source, dict) or not source:
        problems.append(f"{where}: a filter is one of {', '.join(_DIALECTS)}, or a list of filters")
        return All(())
    return _one([_dialect(name, value, f"{where}.{name}", problems, depth) for name, value in source.items()])


def _dialect(name: object, value: object, where: str, problems: list[str], depth: int) -> Filter:
    match name:
        case "exact" | "prefix" | "suffix":
            return _tests(str(name), value, where, problems)
        case "all":
            return All(_parts(value, where, problems, depth))
        case "any":
            return AnyOf(where, _parts(value, where, problems, depth))
        case "not":
            return Not(where, _compile(value, where, problems, depth + 1))
        case _:
            problems.append(f"{where}: unknown dialect; there are {', '.join(_DIALECTS)}")
            return All(())


def _parts(value: object, where: str, problems: list[str], depth: int) -> tuple[Filter, ...]:
    if not isinstance(value, list) or not value:
        problems.append(f"{where}: a list of one or more filters is needed")
        return ()
    return tuple(_compile(part, f"{where}[{i}]", problems, depth + 1) for i, part in enumerate(value))


def _tests(dialect: str, value: object, where: str, problems: list[str]) -> Filter:
    if not isinstance(value, dict) or not value:
        problems.append(f"{where}: names with values are needed, such as {{type: nxcloud.sms.dr}}")
        return All(())
    return _one([_test(dialect, name, wanted, f"{where}.{name}", problems) for name, wanted in value.items()])


def _test(dialect: str, name: object, wanted: object, where: str, problems: list[str]) -> Filter:
    try:
        path = paths.parse(str(name))
    except ValueError as exc:
        problems.append(f"{where}: {exc}")
        return All(())
    is_scalar = dialect == "exact" and path[0] == "data" and isinstance(wanted, bool | int | float)
    if not is_scalar and (not isinstance(wanted, str) or not wanted):
        problems.append(f"{where}: a text that is not empty is needed; put it in quotes")
    return Test(where, dialect, path, wanted)


def _one(parts: Sequence[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def wants(compiled: Filter | None) -> Callable[[Record], bool] | None:
    """Return the filter as a predicate of records without a flaw; None accepts all and parses nothing."""
    if compiled is None:
        return None
    matches = compiled.matches

    def is_wanted(record: Record) -> bool:
        return matches(EVENTS.get(record.value))

    return is_wanted


class ParsedEvents:
    """An event's bytes read once for the filters of all subscribers.

    Subscribers are given the same records one after the other, a batch each: what is kept here is at least a batch, so
    that the second one and all that follow find everything. At a bound it forgets all of it, which costs one parsing
    each.
    """

    __slots__ = ("_bytes", "_events")

    def __init__(self) -> None:
        self._events: dict[bytes, dict[str, Any]] = {}
        self._bytes = 0

    def get(self, value: bytes) -> dict[str, Any]:
        """Return the members of an event, not to be changed.

        Args:
            value: the event's bytes. The same object is found quickest: its hash is known, and nothing is compared.

        Raises:
            NotAnEvent: see :func:`gateway.event.parse`.
        """
        found = self._events.get(value)
        if found is None:
            found = parse(value)
            if len(self._events) >= _MAX_EVENTS or self._bytes + len(value) > _MAX_BYTES:
                self._events.clear()
                self._bytes = 0
            self._events[value] = found
            self._bytes += len(value)
        return found


#: Of this process: filters are compiled in several places, and all of them look at the same events.
EVENTS: Final = ParsedEvents()
