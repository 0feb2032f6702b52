"""A table of fields, compiled once into a function (:mod:`gateway.callbacks.plan_code`).

A line of a table maps one or several vendor names to a name in ``data``, with a converter. Dots descend on the vendor's
side (``callInfoDetail.callID``) and create one nested object in ``data`` (``hangup.cause``). Of several vendor names
the first with a value is used.

Accepted variants of vendors (protocol.md, E1 and E6): absent, null and ``""`` are equivalent; an object may be a list
with this object, or a string with its JSON; a known name in another case or with other separators is accepted and
counted as drift.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from gateway.callbacks.fields import Convert, Converter, Flag, Scope, UnknownValue, flag, phone
from gateway.callbacks.fields import code as code_text
from gateway.callbacks.jsontext import in_text
from gateway.callbacks.meanings import MEANINGS
from gateway.callbacks.phones import Read, certain
from gateway.callbacks.plan_code import Leaf, Run, compiled

#: Errors of a converter for an unusable value.
UNUSABLE: Final = (ValueError, TypeError, LookupError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class Field:
    """One line of a table.

    Args:
        name: name in ``data``; ``a.b`` is member ``b`` of object ``a``.
        source: the vendor's name, or several in order of preference; dots descend. Empty for a field that the schema's
            ``post_process`` sets; the line then only defines its schema.
        convert: converts the value.
        note: documentation of this type. :mod:`gateway.callbacks.meanings` has the meaning in all types.
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
        """Return the JSON Schema of this field, with its meaning, and its source in ``x-source``.

        Args:
            is_item: whether it is a member of the objects of a list; its note is then its meaning.
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
    """Return two fields for one enumeration: the word, and the vendor's code."""
    return Field(name, source, word), Field(code_name, source, code)


def phone_number(
    name: str,
    source: str | tuple[str, ...],
    note: str = "",
    read: Read = certain,
) -> tuple[Field, Field]:
    """Return two lines for one phone number: the number, and the flag of a number whose country is not certain.

    Args:
        name: name in ``data``.
        source: the vendor's name, or several.
        note: see :class:`Field`.
        read: :func:`~gateway.callbacks.phones.certain` if the page states that these numbers have their country code,
            otherwise :func:`~gateway.callbacks.phones.uncertain`.
    """
    flag_name = f"{name}_national"
    return Field(name, source, phone(flag_name, read), note), Field(flag_name, "", flag)


class FieldMapping:
    """A table, compiled when it converts its first callback.

    Lines are in two lists: those that set a member of ``data`` from one vendor field, nearly all, and those that set a
    member of a nested object or use several vendor fields. The former need no test of existing values.

    Args:
        fields: the table.
        known: documented vendor names, with dots, without a line: they are no drift, and ``raw`` has them.
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
            (key, FieldMapping(lines, known_below.get(key, ()), path=f"{path}{key}.")) for key, lines in below.items()
        )
        self.known = frozenset(named | known_below.keys())
        self._folded = {_fold(name): name for name in sorted(self.known)}
        #: Converts a source to ``data``; undocumented data is counted in the scope.
        self.run: Run = self._first_run

    def _first_run(self, source: dict[str, Any], data: dict[str, Any], scope: Scope) -> None:
        self.compile()(source, data, scope)

    def compile(self) -> Run:
        """Compile the table to a function, once, and store it as :attr:`run`."""
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
                self._plain, self._nested, [(key, mapping.compile()) for key, mapping in self._children], names
            )
        return self.run

    def _from_others(
        self, source: dict[str, Any], others: tuple[str, ...], convert: Convert, label: str, scope: Scope
    ) -> Any:
        """Return the value of the next names, if that of the first one is unusable."""
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
        """Return only the documented fields of ``source``, at every level; the others are counted as drift.

        It is for fields that several items have in common: each item converts all of them again.

        Args:
            source: the vendor's fields.
            scope: of the callback.
        """
        if not self.known.issuperset(source):
            source = {name: value for name, value in self._understood(source, scope).items() if name in self.known}
        found = dict(source)
        for key, mapping in self._children:
            inner = as_object(found.get(key))
            if inner is not None:
                found[key] = mapping.documented(inner, scope)
        return found

    def _salvaged(self, failure: Exception, key: str, label: str, scope: Scope) -> Any:
        """Return the usable value after a converter's error: that of :class:`UnknownValue`, or None."""
        if isinstance(failure, UnknownValue):
            if failure.code is not None:
                scope.note(label, failure.code)
            else:
                scope.note("value", key, below=self._path)
            return failure.value
        scope.note("value", key, below=self._path)
        return None

    def _as_object(self, key: str, value: object, scope: Scope) -> dict[str, Any] | None:
        """Return the object in a value of another kind, or None; a scalar is drift, unless a line converts it."""
        inner = as_object(value)
        if inner is None and not any(key == leaf[0] for leaf in (*self._plain, *self._nested)):
            scope.note("value", key, below=self._path)
        return inner

    def _understood(self, source: dict[str, Any], scope: Scope) -> dict[str, Any]:
        """Return the fields with known names in place of their other spellings; other names are unknown."""
        found = dict(source)
        for name, value in source.items():
            if name not in self.known:
                scope.note("field", name, below=self._path)
                meant = self._folded.get(_fold(name))
                if meant is not None and found.get(meant) in (None, ""):
                    found[meant] = value
        return found


def objects(*fields: Field, known: Iterable[str] = ()) -> Converter:
    """Return a converter of a list of objects, or a single object, also in a JSON string, by a table.

    Args:
        fields: the table of an object.
        known: documented vendor names without a line.
    """
    mapping = FieldMapping(fields, known)

    def convert(value: Any, scope: Scope) -> list[dict[str, Any]] | None:
        made = []
        listed = [one for one in as_list(value) if one is not None]
        if not listed and value != []:
            raise ValueError("not a list of objects")
        scope.count_members(len(listed))
        around, scope.national = scope.national, None
        try:
            for one in listed:
                if type(one) is not dict:
                    raise ValueError("not a list of objects")
                data: dict[str, Any] = {}
                mapping.run(one, data, scope)
                if data:
                    made.append(data)
        finally:
            scope.national = around
        return made or None

    return Converter("list of objects", convert, {"type": "array", "items": object_schema(fields, is_item=True)})


def as_object(value: object) -> dict[str, Any] | None:
    """Return the object in a list of one element or in a JSON string; None if there is none."""
    if type(value) is list:
        value = next(iter(value), None)
    elif type(value) is str and value.lstrip()[:1] in ("{", "["):
        value = in_text(value)
        return value if type(value) is dict else as_object(value)
    return value if type(value) is dict else None


def as_list(value: object) -> list[Any]:
    """Return a list unchanged; a single object, or one in a JSON string, as a list; otherwise nothing."""
    if type(value) is str and value[:1] in ("[", "{"):
        value = in_text(value)
    if type(value) is list:
        return value
    return [value] if type(value) is dict else []


def object_schema(table: Iterable[Field], *, is_item: bool = False) -> dict[str, Any]:
    """Return the JSON Schema of the object that a table creates.

    No member is required, because vendors omit fields, and further members are allowed.

    Args:
        table: the lines.
        is_item: whether the objects are items of a list.
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
    """Set the flag of each number whose country is not certain, in the object that has the number."""
    for group, flag_name, number in flags:
        holder = data.get(group, {}) if group else data
        if holder.get(number, "+")[:1] != "+":  # not where another line gave a number that is certain
            holder[flag_name] = True


def _target(name: str) -> tuple[str | None, str]:
    group, _, member = name.rpartition(".")
    return group or None, member


def _scalars_only(leaf: Leaf) -> Leaf:
    """Return a leaf for a name that is an object on some pages: the lines of the object convert the object."""
    key, others, group, name, convert, label = leaf

    def scalar(value: Any, scope: Scope) -> Any:
        return None if as_object(value) is not None else convert(value, scope)

    return key, others, group, name, scalar, label


def _first(source: dict[str, Any], names: tuple[str, ...]) -> Any:
    """Return the value of the first name that has one."""
    for name in names:
        value = source.get(name)
        if value is not None and value != "":
            return value
    return None


def _fold(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()
