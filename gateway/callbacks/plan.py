"""A table of fields, compiled once into nested lists that a decode walks through.

A table line says: our name <- vendor name(s), by which converter. Dots descend on the vendor's side
(``callInfoDetail.callID``) and make one nested object on ours (``hangup.cause``). Where the vendor's side has
several names the first that gives a value wins.

What the walk takes from vendors (protocol.md, E1 and E6): absent, null and ``""`` are the same; an object
where the page says so, or a list with the object in it, or a string that holds its JSON; a known name in
another letter case or with other separators is understood, and counted as drift.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.callbacks.fields import Convert, Converter, Odd, Scope

#: What a converter may raise for a value that it cannot use.
UNUSABLE: Final = (ValueError, TypeError, LookupError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class Field:
    """One line of a table.

    Args:
        name: in ``data``; ``a.b`` is member ``b`` of object ``a``.
        source: the vendor's name, or several in order of preference; dots descend. Empty for a field that the
            shape's ``finish`` sets, which is here for the schema's sake.
        convert: how the value is read.
        note: for the documents, where name and converter do not say it.
    """

    name: str
    source: str | tuple[str, ...]
    convert: Converter
    note: str = ""

    @property
    def sources(self) -> tuple[str, ...]:
        """The vendor's names as a tuple."""
        return (self.source,) if isinstance(self.source, str) else self.source

    def schema(self) -> dict[str, Any]:
        """JSON Schema of this field, with the vendor's name in the description."""
        schema = dict(self.convert.schema)
        vendor = " or ".join(f"`{source}`" for source in self.sources if source)
        parts = [self.note, f"From {vendor}" if vendor else "", str(schema.get("description", ""))]
        schema["description"] = ". ".join(part for part in parts if part)
        return schema


def coded(
    name: str, code_name: str, source: str | tuple[str, ...], word: Converter, code: Converter
) -> tuple[Field, Field]:
    """Two lines for one enumeration: our word, and the vendor's code beside it."""
    return Field(name, source, word), Field(code_name, source, code, "The vendor's own code")


#: Vendor name, other names for it, our object and member, how it is read, and our whole name for labels.
_Leaf = tuple[str, tuple[str, ...], str, str, Convert, str]


class Plan:
    """A compiled table.

    Lines are kept in two lists: those that make a member of ``data`` from one place, nearly all of them, and
    those that make a member of an object in it or look in several places. The first need no look at what is there.

    Args:
        fields: the table.
        known: vendor names, with dots, that are documented and have no line of their own: no drift, ``raw`` has them.
    """

    __slots__ = ("_children", "_folded", "_nested", "_path", "_plain", "known")

    def __init__(self, fields: Iterable[Field], known: Iterable[str] = (), *, path: str = "") -> None:
        plain: list[_Leaf] = []
        nested: list[_Leaf] = []
        named: set[str] = set()
        below: dict[str, list[Field]] = {}
        for line in fields:
            here = [source for source in line.sources if source and "." not in source]
            deeper = [source.split(".", 1) for source in line.sources if "." in source]
            group, _, name = line.name.rpartition(".")
            if here:
                leaf = (here[0], tuple(here[1:]), group, name, line.convert.convert, line.name)
                (nested if group or deeper or path else plain).append(leaf)
            for head, rest in deeper:
                below.setdefault(head, []).append(Field(line.name, rest, line.convert))
            named.update(here, (head for head, _ in deeper))
        known_below: dict[str, list[str]] = {}
        for name in known:
            head, _, rest = name.partition(".")
            known_below.setdefault(head, []).extend([rest] if rest else [])
        self._path = path
        self._plain = tuple(_scalars_only(leaf) if leaf[0] in below else leaf for leaf in plain)
        self._nested = tuple(_scalars_only(leaf) if leaf[0] in below else leaf for leaf in nested)
        self._children = tuple(
            (key, Plan(lines, known_below.get(key, ()), path=f"{path}{key}.")) for key, lines in below.items()
        )
        self.known = frozenset(named | known_below.keys())
        self._folded = {_fold(name): name for name in sorted(self.known)}

    def run(self, source: dict[str, Any], data: dict[str, Any], scope: Scope) -> None:
        """Convert what ``source`` holds into ``data``; what was never seen before goes to ``scope``."""
        if not self.known.issuperset(source):
            source = self._understood(source, scope)
        get = source.get
        for key, others, _, name, convert, label in self._plain:
            value = get(key)
            if not value and (value is None or value == ""):
                value = _first(source, others)
                if value is None:
                    continue
            try:
                made = convert(value, scope)
            except UNUSABLE as exc:
                made = self._salvaged(exc, key, label, scope)
            if made is not None:
                data[name] = made
        for key, others, group, name, convert, label in self._nested:
            value = get(key)
            if not value and (value is None or value == ""):
                value = _first(source, others)
                if value is None:
                    continue
            target = data.setdefault(group, {}) if group else data
            if name in target:
                continue
            try:
                made = convert(value, scope)
            except UNUSABLE as exc:
                made = self._salvaged(exc, key, label, scope)
            if made is not None:
                target[name] = made
            elif not target:
                del data[group]
        for key, plan in self._children:
            inner = get(key)
            if inner is None or inner == "":
                continue
            if type(inner) is not dict:
                inner = opened(inner)
                if inner is None:
                    self._no_object(key, scope)
                    continue
            plan.run(inner, data, scope)

    def documented(self, source: dict[str, Any], scope: Scope) -> dict[str, Any]:
        """Return the documented fields of ``source`` alone, at every level; the others are noted as drift.

        For fields that several items share: each item's decoding looks at all of them again.
        """
        if not self.known.issuperset(source):
            source = {name: value for name, value in self._understood(source, scope).items() if name in self.known}
        found = dict(source)
        for key, plan in self._children:
            inner = opened(found.get(key))
            if inner is not None:
                found[key] = plan.documented(inner, scope)
        return found

    def _salvaged(self, failure: Exception, key: str, label: str, scope: Scope) -> Any:
        """What is used of a value that its converter did not like: nothing, or what it says."""
        if isinstance(failure, Odd):
            if failure.code is not None:
                scope.note(label, failure.code)
            else:
                scope.note("value", key, below=self._path)
            return failure.value
        scope.note("value", key, below=self._path)
        return None

    def _no_object(self, key: str, scope: Scope) -> None:
        """A scalar where an object is documented, unless a line of its own has read it."""
        if not any(key == leaf[0] for leaf in (*self._plain, *self._nested)):
            scope.note("value", key, below=self._path)

    def _understood(self, source: dict[str, Any], scope: Scope) -> dict[str, Any]:
        """The same fields, with a known name in place of another spelling of it; the rest is unknown."""
        found = dict(source)
        for name, value in source.items():
            if name not in self.known:
                scope.note("field", name, below=self._path)
                meant = self._folded.get(_fold(name))
                if meant is not None and found.get(meant) in (None, ""):
                    found[meant] = value
        return found


def objects(fields: Iterable[Field], known: Iterable[str] = ()) -> Converter:
    """A converter for a list of objects (or one object alone), each read by a table of its own."""
    table = tuple(fields)
    plan = Plan(table, known)

    def convert(value: Any, scope: Scope) -> list[dict[str, Any]] | None:
        made = []
        listed = value if type(value) is list else (value,)
        scope.count_members(len(listed))
        for one in listed:
            if type(one) is not dict:
                raise ValueError("not a list of objects")
            data: dict[str, Any] = {}
            plan.run(one, data, scope)
            if data:
                made.append(data)
        return made or None

    return Converter("list of objects", convert, {"type": "array", "items": object_schema(table)})


def opened(value: object) -> dict[str, Any] | None:
    """The object in a one-element list or in a string of JSON; None where there is none."""
    if type(value) is list:
        value = next(iter(value), None)
    elif type(value) is str and value.lstrip()[:1] in ("{", "["):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return None
        return value if type(value) is dict else opened(value)
    return value if type(value) is dict else None


def object_schema(table: Iterable[Field]) -> dict[str, Any]:
    """JSON Schema of the object that a table makes. Nothing is required and more may come: vendors leave fields out."""
    properties: dict[str, Any] = {}
    for line in table:
        group, name = _target(line.name)
        if group is None:
            properties.setdefault(name, line.schema())
        else:
            nested = properties.setdefault(group, {"type": "object", "properties": {}})
            nested["properties"].setdefault(name, line.schema())
    return {"type": "object", "properties": properties}


def _target(name: str) -> tuple[str | None, str]:
    group, _, member = name.rpartition(".")
    return group or None, member


def _scalars_only(leaf: _Leaf) -> _Leaf:
    """For a name that is an object on some pages and a scalar on others: the object is read by its own lines."""
    key, others, group, name, convert, label = leaf

    def scalar(value: Any, scope: Scope) -> Any:
        return None if opened(value) is not None else convert(value, scope)

    return key, others, group, name, scalar, label


def _first(source: dict[str, Any], names: tuple[str, ...]) -> Any:
    """The value of the first of these names that has one."""
    for name in names:
        value = source.get(name)
        if value is not None and value != "":
            return value
    return None


def _fold(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()
