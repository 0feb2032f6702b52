"""A table of fields: the vendor's names, the names in ``data``, and a converter between them.

Dots descend on the vendor's side (``callInfoDetail.callID``) and create one nested object in ``data``
(``hangup.cause``). Of several vendor names the first with a value is used.

Accepted variants of vendors (protocol.md, E1 and E6): absent, null and ``""`` are equivalent; an object may be a list
with this object, or a string with its JSON; a known name in another case or with other separators is accepted and
counted as drift.

A table is compiled to one Python function, as ``dataclasses`` does for ``__init__``: interpreting it costs a third of
decoding, as each line is unpacked, and tests whose results the table determines are repeated. It is compiled for the
first callback of its kind, and not at import, so that commands that do not decode need not wait for it.

For a line ``Field("status", "smsStatus", words(…))`` the code is::

    v = get('smsStatus')
    if v or (v is not None and v != ''):
        try: m = c3(v, scope)
        except UNUSABLE as e: m = salvaged(e, 'smsStatus', 'status', scope)
        if m is not None: data['status'] = m

The code contains only names of the tables, quoted by ``repr``, and no value of a callback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

from gateway.callbacks.fields import NULL_WORDS, Convert, Converter, Flag, Scope, UnknownValue, flag, phone
from gateway.callbacks.fields import code as code_text
from gateway.callbacks.fields import text as plain_text
from gateway.callbacks.jsontext import in_text
from gateway.callbacks.phones import Read, certain
from gateway.callbacks.vocabulary import MEANINGS

#: Errors of a converter for an unusable value.
UNUSABLE: Final = (ValueError, TypeError, LookupError, ArithmeticError)

Run = Callable[[dict[str, Any], dict[str, Any], Scope], None]

_HEAD: Final = """\
def run(source, data, scope):
 if not known.issuperset(source): source = understood(source, scope)
 get = source.get"""
_IF_VALUE: Final = "if v or (v is not None and v != ''):"
_CHILD: Final = """\
 v = get({key!r})
 if v is not None and v != '':
  if type(v) is not dict: v = as_object({key!r}, v, scope)
  if v is not None: child{index}(v, data, scope)"""
_TAIL: Final = """\
 if scope.national is not None:
  set_flags(data, scope.national)
  scope.national = None"""


@dataclass(frozen=True, slots=True)
class Field:
    """One line of a table.

    Args:
        name: name in ``data``; ``a.b`` is member ``b`` of object ``a``.
        source: the vendor's name, or several in order of preference; dots descend. Empty for a field that the schema's
            ``post_process`` sets; the line then only defines its schema.
        convert: converts the value.
        note: documentation of this type. :mod:`gateway.callbacks.vocabulary` has the meaning in all types.
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


class Leaf(NamedTuple):
    """The part of a line that one vendor object gives.

    Args:
        key: the vendor's name.
        others: further names, used in this order if the first has no value.
        group: object in ``data`` with the member; empty: ``data`` itself.
        name: the member.
        convert: converts the value.
        label: complete name, for drift.
        gives_way: whether a line or an object before it may have set the member.
    """

    key: str
    others: tuple[str, ...]
    group: str
    name: str
    convert: Convert
    label: str
    gives_way: bool


class FieldMapping:
    """A table, compiled when it converts its first callback.

    Args:
        fields: the table.
        known: documented vendor names, with dots, without a line: they are no drift, and ``raw`` has them.
        path: vendor names above the table's object, each with a dot.
    """

    def __init__(self, fields: Iterable[Field], known: Iterable[str] = (), *, path: str = "") -> None:
        leaves: list[Leaf] = []
        below: dict[str, list[Field]] = {}
        for line in fields:
            here = [source for source in line.sources if source and "." not in source]
            deeper = [source.split(".", 1) for source in line.sources if "." in source]
            group, _, name = line.name.rpartition(".")
            if here:
                gives_way = bool(group or deeper or path)
                leaves.append(Leaf(here[0], tuple(here[1:]), group, name, line.convert.convert, line.name, gives_way))
            for head, rest in deeper:
                below.setdefault(head, []).append(Field(line.name, rest, line.convert))
        known_below: dict[str, list[str]] = {}
        for name in known:
            head, _, rest = name.partition(".")
            known_below.setdefault(head, []).extend([rest] if rest else [])
        self._path = path
        # First those that need no test of an existing member: nearly all.
        self._leaves = sorted(
            (_scalars_only(leaf) if leaf.key in below else leaf for leaf in leaves), key=lambda leaf: leaf.gives_way
        )
        self._children = {
            key: FieldMapping(lines, known_below.get(key, ()), path=f"{path}{key}.") for key, lines in below.items()
        }
        self.known = (
            frozenset([name for leaf in leaves for name in (leaf.key, *leaf.others)])
            | below.keys()
            | known_below.keys()
        )
        self._folded = {_fold(name): name for name in sorted(self.known)}

    @cached_property
    def run(self) -> Run:
        """A function that converts a source to ``data``, and counts undocumented data in the scope."""
        names: dict[str, Any] = {
            "known": self.known,
            "understood": self._understood,
            "from_others": self._from_others,
            "salvaged": self._salvaged,
            "as_object": self._as_object,
            "set_flags": _set_flags,
            "UNUSABLE": UNUSABLE,
            "NULL_WORDS": NULL_WORDS,
        }
        lines = [_HEAD]
        before: Leaf | None = None
        for index, leaf in enumerate(self._leaves):
            names[f"c{index}"], names[f"others{index}"] = leaf.convert, leaf.others
            if before is None or before.key != leaf.key:
                lines.append(f" v = get({leaf.key!r})")
            lines += _indented(_code(index, leaf))
            before = leaf
        for index, (key, mapping) in enumerate(self._children.items()):
            names[f"child{index}"] = mapping.run
            lines.append(_CHILD.format(key=key, index=index))
        exec("\n".join([*lines, _TAIL]), names)  # noqa: S102 - made of the tables' own names; see the module's head
        made: Run = names["run"]
        return made

    def _from_others(
        self, source: dict[str, Any], others: tuple[str, ...], convert: Convert, label: str, scope: Scope
    ) -> Any:
        """Return the first usable value of the next names: the first one has none."""
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
        for key, mapping in self._children.items():
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
        if inner is None and all(key != leaf.key for leaf in self._leaves):
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
        group, _, name = line.name.rpartition(".")
        nested = (
            properties.setdefault(group, {"type": "object", "properties": {}})["properties"] if group else properties
        )
        nested.setdefault(name, line.schema(is_item=is_item))
    return {"type": "object", "properties": properties}


def _set_flags(data: dict[str, Any], flags: list[Flag]) -> None:
    """Set the flag of each number whose country is not certain, in the object that has the number."""
    for group, flag_name, number in flags:
        holder = data.get(group, {}) if group else data
        if holder.get(number, "+")[:1] != "+":  # not where another line gave a number that is certain
            holder[flag_name] = True


def _scalars_only(leaf: Leaf) -> Leaf:
    """Return a leaf for a name that is an object on some pages: the lines of the object convert the object."""
    convert = leaf.convert

    def scalar(value: Any, scope: Scope) -> Any:
        return None if as_object(value) is not None else convert(value, scope)

    return leaf._replace(convert=scalar)


def _fold(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _code(index: int, leaf: Leaf) -> list[str]:
    """Return the code that converts the value ``v`` of a leaf, and stores the result."""
    key, others, group, name, convert, label, gives_way = leaf
    call = f"c{index}(v, scope)"
    if convert is plain_text.convert:  # the result of the usual value, without a call
        call = f"v if type(v) is str and v not in NULL_WORDS else {call}"
    code = [f"try: m = {call}", f"except UNUSABLE as e: m = salvaged(e, {key!r}, {label!r}, scope)"]
    if others:
        code = ["m = None", _IF_VALUE, *_indented(code)]
        code.append(f"if m is None: m = from_others(source, others{index}, c{index}, {label!r}, scope)")
    if not group:
        code.append(f"if m is not None: data[{name!r}] = m")
        if gives_way:
            code = [f"if {name!r} not in data:", *_indented(code)]
    else:
        code += [
            "if m is not None:",
            f" if t is None: data[{group!r}] = {{{name!r}: m}}",
            f" else: t[{name!r}] = m",
        ]
        code = [f"t = data.get({group!r})", f"if t is None or {name!r} not in t:", *_indented(code)]
    return code if others else [_IF_VALUE, *_indented(code)]


def _indented(code: Iterable[str]) -> list[str]:
    return [f" {line}" for line in code]
