"""Compile a table to one Python function, as ``dataclasses`` does for ``__init__``.

Interpreting lists of lines costs a third of decoding: each line is unpacked, and tests whose results the table
determines are repeated. The generated function does the same work without these tests. It is generated for the first
callback of its kind, and not at import, so that commands that do not decode need not wait for it.

For a line ``Field("status", "smsStatus", words(…))`` the code is::

    v = get('smsStatus')
    if v or (v is not None and v != ''):
        try: m = c3(v, scope)
        except UNUSABLE as e: m = salvaged(e, 'smsStatus', 'status', scope)
        if m is not None: data['status'] = m

The code contains only names of the tables, quoted by ``repr``, and no value of a callback.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from gateway.callbacks.fields import NULL_WORDS, Convert, Scope, text

#: Vendor name, alternative names, object and member in ``data``, converter, and complete name for labels.
Leaf = tuple[str, tuple[str, ...], str, str, Convert, str]
Run = Callable[[dict[str, Any], dict[str, Any], Scope], None]

_HEAD: Final = """\
def run(source, data, scope):
 if not known.issuperset(source): source = understood(source, scope)
 get = source.get"""
_CHILD: Final = """\
 v = get({key!r})
 if v is not None and v != '':
  if type(v) is not dict: v = as_object({key!r}, v, scope)
  if v is not None: child{index}(v, data, scope)"""
_TAIL: Final = """\
 if scope.national is not None:
  set_flags(data, scope.national)
  scope.national = None"""


def compiled(
    plain: Sequence[Leaf], nested: Sequence[Leaf], children: Sequence[tuple[str, Run]], names: Mapping[str, Any]
) -> Run:
    """Return the function of one table.

    Args:
        plain: lines that set a member of ``data`` from one object.
        nested: lines that set a member of a nested object, or yield to a line before them.
        children: vendor names of objects, and the functions of their tables.
        names: the names in the code: ``known``, ``understood``, ``first``, ``from_others``, ``salvaged``,
            ``as_object``, ``set_flags`` and ``UNUSABLE``.
    """
    scope: dict[str, Any] = {**names, "NULL_WORDS": NULL_WORDS}
    lines = [_HEAD]
    before: Leaf | None = None
    for index, leaf in enumerate((*plain, *nested)):
        scope[f"c{index}"], scope[f"others{index}"] = leaf[4], leaf[1]
        if before is None or before[0] != leaf[0] or before[1] or leaf[1]:
            lines += _value(index, leaf)
        lines += _conversion(index, leaf, gives_way=index >= len(plain))
        before = leaf
    for index, (key, run) in enumerate(children):
        scope[f"child{index}"] = run
        lines.append(_CHILD.format(key=key, index=index))
    lines.append(_TAIL)
    exec("\n".join(lines), scope)  # noqa: S102 - made of the tables' own names; see the module's head
    made: Run = scope["run"]
    return made


def _value(index: int, leaf: Leaf) -> list[str]:
    key, others, *_ = leaf
    if not others:
        return [f" v = get({key!r})", " if v or (v is not None and v != ''):"]
    return [
        f" v = get({key!r})",
        f" if not v and (v is None or v == ''): v = first(source, others{index})",
        " if v is not None:",
    ]


def _conversion(index: int, leaf: Leaf, *, gives_way: bool) -> list[str]:
    key, others, group, name, convert, label = leaf
    lines = []
    indent = "  "
    if group:
        lines = [f"  t = data.get({group!r})", f"  if t is None or {name!r} not in t:"]
    elif gives_way:
        lines = [f"  if {name!r} not in data:"]
    if lines:
        indent = "   "
    call = f"c{index}(v, scope)"
    if convert is text.convert:  # the result of the usual value, without a call
        call = f"v if type(v) is str and v not in NULL_WORDS else {call}"
    lines += [
        f"{indent}try: m = {call}",
        f"{indent}except UNUSABLE as e: m = salvaged(e, {key!r}, {label!r}, scope)",
    ]
    if others:
        lines.append(f"{indent}if m is None: m = from_others(source, others{index}, c{index}, {label!r}, scope)")
    if not group:
        return [*lines, f"{indent}if m is not None: data[{name!r}] = m"]
    return [
        *lines,
        f"{indent}if m is not None:",
        f"{indent} if t is None: data[{group!r}] = {{{name!r}: m}}",
        f"{indent} else: t[{name!r}] = m",
    ]
