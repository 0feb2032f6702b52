"""Errors of pydantic as sentences that say what to do. None of them shows a value: it may be a secret."""

from __future__ import annotations

from typing import Any, Final

from pydantic_core import ErrorDetails

from gateway.config.document import KeyPath
from gateway.config.schema_tree import NodeKind, at
from gateway.config.values import suggestion

_MESSAGES: Final = {
    "missing": "is needed and not there",
    "int_parsing": "a whole number is needed",
    "int_type": "a whole number is needed",
    "int_from_float": "a whole number is needed",
    "float_parsing": "a number is needed",
    "float_type": "a number is needed",
    "bool_parsing": "true or false is needed",
    "bool_type": "true or false is needed",
    "string_type": "a text is needed; put it in quotes",
    "list_type": "a list is needed",
    "dict_type": "a section of keys and values is needed",
    "model_type": "a section of keys and values is needed",
    "byte_size": "a size looks like 512KiB, 1MiB or 10GiB",
    "byte_size_unit": "a size looks like 512KiB, 1MiB or 10GiB",
    "string_pattern_mismatch": "letters, digits, '.', '-' and '_' are allowed",
    "string_too_short": "must not be empty",
    "too_short": "at least one is needed",
    "ip_any_network": "an address or a network such as 203.0.113.0/24 is needed",
    "finite_number": "a finite number is needed",
}
_BOUNDS: Final = {
    "greater_than": ("gt", "must be more than {}"),
    "greater_than_equal": ("ge", "must be at least {}"),
    "less_than": ("lt", "must be less than {}"),
    "less_than_equal": ("le", "must be at most {}"),
}


def message(error: ErrorDetails) -> tuple[KeyPath, str]:
    """Return the key path and the problem there."""
    path: KeyPath = tuple(step for step in error["loc"] if step != "[key]")
    kind = error["type"]
    context: dict[str, Any] = error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(path)
    if kind in _BOUNDS:
        name, text = _BOUNDS[kind]
        return _trimmed(path), text.format(context[name])
    if kind == "literal_error":
        words = str(context["expected"]).replace("'", "").replace(" or ", ", ")
        return path, f"one of {words} is needed"
    if kind == "value_error":
        return _named(_trimmed(path), str(context["error"]))
    return _trimmed(path), _MESSAGES.get(kind, error["msg"][:1].lower() + error["msg"][1:])


def _unknown(path: KeyPath) -> tuple[KeyPath, str]:
    """Describe an unknown key. ``{token:abc}`` without a space puts a secret into a key: show it up to the colon."""
    *above, key = path
    name, colon, _ = str(key).partition(":")
    where = at(tuple(above))
    known = where.keys if where is not None and where.kind is NodeKind.SECTION else ()
    shown: KeyPath = (*above, f"{name}:…" if colon else name)
    if colon and name in known:
        return shown, f"a space is missing after '{name}:'"
    hint = suggestion(name, known)
    return shown, f"unknown key{hint or '; there are ' + ', '.join(known) if known else ''}"


def _named(path: KeyPath, text: str) -> tuple[KeyPath, str]:
    """Return the path and text of a check of a whole section, whose text begins with the key at fault."""
    key, colon, rest = text.partition(": ")
    where = at(path)
    return ((*path, key), rest) if colon and where is not None and key in where.keys else (path, text)


def _trimmed(path: KeyPath) -> KeyPath:
    """Return a path without the names that pydantic adds for members of a union."""
    while path and isinstance(path[-1], str) and ("[" in path[-1]):
        path = path[:-1]
    return path
