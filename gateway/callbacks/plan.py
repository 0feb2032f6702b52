"""A table of fields, compiled once into a function (:mod:`gateway.callbacks.plan_code`).

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

from gateway.callbacks.fields import Convert, Converter, Flag, Odd, Scope, flag, phone
from gateway.callbacks.fields import code as code_text
from gateway.callbacks.jsontext import in_text
from gateway.callbacks.meanings import MEANINGS
from gateway.callbacks.phones import Read, certain
from gateway.callbacks.plan_code import Leaf, Run, compiled

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
        note: for the documents: what is particular to this type. What the name means in all types is in
            :mod:`gateway.callbacks.meanings`.
    """

    name: str
    source: str | tuple[str, ...]
    convert: Converter
    note: str = ""

    @property
    def sources(self) -> tuple[str, ...]:
        """The vendor's names as a tuple."""
        return (self.source,) if isinstance(self.source, str) else self.source

    def schema(self, *, is_item: bool = False) -> dict[str, Any]:
        """Return the JSON Schema of this field: its meaning, and in ``x-source`` where it comes from in this type.

        Args:
            is_item: it is a member of the objects of a list, where its note is what it means.
        """
        vendor = " or ".join(f"`{source}`" for source in self.sources if source)
        meaning = (is_item and self.note) or MEANINGS.get(self.name, self.note)
        note = "" if meaning == self.note else self.note
        source = ". ".join(part for part in (note, f"From {vendor}" if vendor else "") if part)
        schema = {**self.convert.schema, "description": meaning}
        return {**schema, "x-source": source} if source else schema


def coded(
    name: str, code_name: str, source: str | tuple[str, ...], word: Converter, code: Converter = code_text
) -> tuple[Field, Field]:
    """Two lines for one enumeration: our word, and the vendor's code beside it."""
    return Field(name, source, word), Field(code_name, source, code)


def phone_number(
    name: str,
    source: str | tuple[str, ...],
    note: str = "",
    read: Read = certain,
) -> tuple[Field, Field]:
    """Two lines for one phone number: the number, and the flag of one whose country is not certain.

    Args:
        name: in ``data``.
        source: the vendor's name, or several.
        note: see :class:`Field`.
        read: :func:`~gateway.callbacks.phones.certain` where the page states that these numbers have their country
            code, else :func:`~gateway.callbacks.phones.uncertain`.
    """
    flag_name = f"{name}_national"
    return Field(name, source, phone(flag_name, read), note), Field(flag_name, "", flag)


class Plan:
    """A table, compiled when the first callback comes that it reads.

    Lines are kept in two lists: those that make a member of ``data`` from one place, nearly all of them, and
    those that make a member of an object in it or look in several places. The first need no look at what is there.

    Args:
        fields: the table.
        known: vendor names, with dots, that are documented and have no line of their own: no drift, ``raw`` has them.
    """

    __slots__ = ("_children", "_folded", "_nested", "_path", "_plain", "known", "run")

    def __init__(self, fields: Iterable[Field], known: Iterable[str] = (), *, path: str = "") -> None:
        plain: list[Leaf] = []
        nested: list[Leaf] = []
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
        #: Convert what a source holds into ``data``; what was never seen before goes to the scope.
        self.run: Run = self._first_run

    def _first_run(self, source: dict[str, Any], data: dict[str, Any], scope: Scope) -> None:
        self.compile()(source, data, scope)

    def compile(self) -> Run:
        """Write the walk out as a function, once, and keep it as :attr:`run`."""
        if self.run == self._first_run:
            names = {
                "known": self.known,
                "understood": self._understood,
                "first": _first,
                "from_others": self._from_others,
                "salvaged": self._salvaged,
                "as_object": self._as_object,
                "set_flags": _set_flags,
                "UNUSABLE": UNUSABLE,
            }
            self.run = compiled(
                self._plain, self._nested, [(key, plan.compile()) for key, plan in self._children], names
            )
        return self.run

    def _from_others(
        self, source: dict[str, Any], others: tuple[str, ...], convert: Convert, label: str, scope: Scope
    ) -> Any:
        """What the next names say, where the first one holds a value that says nothing."""
        for name in others:
            value = source.get(name)
            if value is None or value == "":
                continue
            try:
                made = convert(value, scope)
            except UNUSABLE as exc:
                made = self._salvaged(exc, name, label, scope)
            if made is not None:
                return made
        return None

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

    def _as_object(self, key: str, value: object, scope: Scope) -> dict[str, Any] | None:
        """The object in what came in its place, or None: a scalar is drift, unless a line of its own has read it."""
        inner = opened(value)
        if inner is None and not any(key == leaf[0] for leaf in (*self._plain, *self._nested)):
            scope.note("value", key, below=self._path)
        return inner

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
        around, scope.national = scope.national, None
        try:
            for one in listed:
                if type(one) is not dict:
                    raise ValueError("not a list of objects")
                data: dict[str, Any] = {}
                plan.run(one, data, scope)
                if data:
                    made.append(data)
        finally:
            scope.national = around
        return made or None

    return Converter("list of objects", convert, {"type": "array", "items": object_schema(table, is_item=True)})


def opened(value: object) -> dict[str, Any] | None:
    """The object in a one-element list or in a string of JSON; None where there is none."""
    if type(value) is list:
        value = next(iter(value), None)
    elif type(value) is str and value.lstrip()[:1] in ("{", "["):
        value = in_text(value)
        return value if type(value) is dict else opened(value)
    return value if type(value) is dict else None


def object_schema(table: Iterable[Field], *, is_item: bool = False) -> dict[str, Any]:
    """Return the JSON Schema of the object that a table makes.

    Nothing is required and more may come: vendors leave fields out.

    Args:
        table: its lines.
        is_item: the objects are items of a list.
    """
    properties: dict[str, Any] = {}
    for line in table:
        group, name = _target(line.name)
        if group is None:
            properties.setdefault(name, line.schema(is_item=is_item))
        else:
            nested = properties.setdefault(group, {"type": "object", "properties": {}})
            nested["properties"].setdefault(name, line.schema(is_item=is_item))
    return {"type": "object", "properties": properties}


def _set_flags(data: dict[str, Any], flags: list[Flag]) -> None:
    """Set the flags of numbers whose country is not certain, each next to its number."""
    for group, flag_name, number in flags:
        holder = data.get(group, {}) if group else data
        if holder.get(number, "+")[:1] != "+":  # not where another line gave a number that is certain
            holder[flag_name] = True


def _target(name: str) -> tuple[str | None, str]:
    group, _, member = name.rpartition(".")
    return group or None, member


def _scalars_only(leaf: Leaf) -> Leaf:
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
