"""Configuration from the environment: ``${NAME}`` in values, and ``GATEWAY__SECTION__KEY=value`` over keys.

* ``${NAME}`` and ``${NAME:-default}`` may occur anywhere in a value; the default counts when the variable is unset or
  empty. ``$${`` is a plain ``${``.
* ``GATEWAY__SUBSCRIBERS__0__URL=…`` sets one key. Letter case does not matter and ``_`` also means ``-``, as shells
  know no dashes in names. Numbers are places in a list; the one behind the last adds an item. A text or a number is
  used literally, without YAML's quotes and comments; a list or a section is YAML.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.config import document
from gateway.config.document import KeyPath, dotted, index_in
from gateway.config.schema_tree import ROOT, NodeKind, SchemaNode
from gateway.errors import ConfigError

PREFIX: Final = "GATEWAY__"
_REFERENCE: Final = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^${}]*))?\}|\$\{")
#: Limit of the characters that variables add to the file. One of 128 kB could be used in it a hundred thousand times.
MOST_FILLED: Final = 4 * 1024 * 1024
_NULLS: Final = ("null", "~", "")


@dataclass(slots=True)
class Overrides:
    """The tree with overrides put in.

    Args:
        tree: the one given.
        sources: name of the variable that set a path.
        problems: sentences.
    """

    tree: dict[str, Any]
    sources: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def override(tree: dict[str, Any], environ: Mapping[str, str], callbacks: Iterable[str]) -> Overrides:
    """Put every ``GATEWAY__…`` variable into the tree.

    Args:
        tree: what the file says, with lists where lists are meant; changed in place.
        environ: the process's environment.
        callbacks: names of the built-in callbacks, which need not be in the file.
    """
    found = Overrides(tree)
    names = [name for name in environ if name.upper().startswith(PREFIX)]
    for name in sorted(names, key=lambda one: (one.count("__"), [_order(part) for part in one.split("__")])):
        try:
            _set(found, name, environ[name], tuple(callbacks))
        except _Unusable as exc:
            found.problems.append(f"{name}: {exc}")
    return found


class _Unusable(Exception):
    """A variable that names no key, or a value that cannot be one."""


def _order(part: str) -> tuple[int, str]:
    index = index_in(part)
    return (-1, part) if index is None else (index, "")


def _set(found: Overrides, name: str, text: str, callbacks: tuple[str, ...]) -> None:
    node: Any = found.tree  # a mapping or a list at every step
    place = ROOT
    path: KeyPath = ()
    *above, last = name[len(PREFIX) :].split("__")
    if len(above) > document.MOST_LEVELS:
        raise _Unusable(f"it names a key more than {document.MOST_LEVELS} levels deep")
    for step in above:
        node, place, path = _only_item(node, place, path, step)
        key = _key(node, place, step, path, callbacks)
        path, place = (*path, key), _below(place, key)
        before: Any = node[int(key)] if isinstance(node, list) else node.get(key)
        node[key] = below = _container(before, place, path)
        node = below
    node, place, path = _only_item(node, place, path, last)
    key = _key(node, place, last, path, callbacks)
    node[key] = _value(text, _below(place, key))
    found.sources[*path, key] = name


def _below(place: SchemaNode, key: str | int) -> SchemaNode:
    below = place.below(key)
    assert below is not None
    return below


def _only_item(node: Any, place: SchemaNode, path: KeyPath, step: str) -> tuple[Any, SchemaNode, KeyPath]:
    """Return the only item of a list, as its number may be omitted: ``…__CALLBACKS__SMS_DR__AUTH__TOKEN``."""
    if place.kind is not NodeKind.LIST or index_in(step) is not None:
        return node, place, path
    if len(node) > 1:
        raise _Unusable(f"{dotted(path)} has {len(node)} items; say which by its number, from 0")
    if not node:
        node.append(None)
    place, path = _below(place, 0), (*path, 0)
    node[0] = item = _container(node[0], place, path)
    return item, place, path


def _container(node: Any, place: SchemaNode, path: KeyPath) -> Any:
    if place.kind is NodeKind.SCALAR:
        raise _Unusable(f"{dotted(path)} is a single value and has no keys")
    if place.kind is NodeKind.LIST:
        return node if isinstance(node, list) else []
    if place.kind is NodeKind.FREE and isinstance(node, list):
        return node
    return node if isinstance(node, dict) else {}


def _key(node: Any, place: SchemaNode, step: str, path: KeyPath, callbacks: tuple[str, ...]) -> str | int:
    if isinstance(node, list):
        index = index_in(step)
        if index is None or index > len(node):
            raise _Unusable(f"{dotted(path)} has {len(node)} items; say which by its number, from 0")
        if index == len(node):
            node.append(None)
        return index
    wanted = _fold(step)
    known = place.keys or (*node, *(callbacks if path == ("ingest", "callbacks") else ()))
    for candidate in known:
        if _fold(str(candidate)) == wanted:
            return str(candidate)
    if place.kind is NodeKind.SECTION:
        near = difflib.get_close_matches(wanted, known, 1)
        hint = f"; did you mean {near[0].upper()}?" if near else ""
        raise _Unusable(f"{dotted(path) or 'config.yaml'} has no key {step.lower()!r}{hint}")
    return step.lower()


def _fold(name: str) -> str:
    return name.lower().replace("-", "_")


def _value(text: str, place: SchemaNode) -> Any:
    if place.kind is NodeKind.SCALAR:
        return None if place.is_optional and text.strip().lower() in _NULLS else text
    try:
        value = document.value(text, "value")
    except ConfigError:
        if place.kind is NodeKind.LIST:
            return text
        raise _Unusable("the value is not YAML") from None
    return text if place.kind is NodeKind.LIST and not isinstance(value, list | dict) else value


def interpolate(
    tree: dict[str, Any], environ: Mapping[str, str], untouched: Iterable[KeyPath]
) -> tuple[dict[str, Any], list[tuple[KeyPath, str]]]:
    """Fill in every ``${NAME}``.

    Args:
        tree: mappings, lists and scalars.
        environ: the process's environment.
        untouched: paths set by the environment itself: their values are used literally.

    Returns:
        A new tree, and problems as (path, sentence).
    """
    problems: list[tuple[KeyPath, str]] = []
    skip = frozenset(untouched)
    left = MOST_FILLED

    def fill(value: Any, path: KeyPath) -> Any:
        if path in skip:
            return value
        if isinstance(value, dict):
            return {key: fill(one, (*path, str(key))) for key, one in value.items()}
        if isinstance(value, list):
            return [fill(one, (*path, index)) for index, one in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        return _REFERENCE.sub(lambda match: replaced(match, path), value)

    def replaced(match: re.Match[str], path: KeyPath) -> str:
        nonlocal left
        text = _replacement(match, environ, path, problems)
        left -= len(text)
        if left < 0:
            raise ConfigError([f"{dotted(path)}: variables put more than {MOST_FILLED} characters into the file"])
        return text

    return fill(tree, ()), problems


def _replacement(
    match: re.Match[str], environ: Mapping[str, str], path: KeyPath, problems: list[tuple[KeyPath, str]]
) -> str:
    if match[0] == "$${":
        return "${"
    name, default = match["name"], match["default"]
    if name is None:
        problems.append((path, "'${' must be followed by NAME} or NAME:-default}; write $${ for a plain '${'"))
        return ""
    if environ.get(name):
        return environ[name]
    if default is not None:
        return default
    if name in environ:
        return ""
    problems.append((path, f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}"))
    return ""
