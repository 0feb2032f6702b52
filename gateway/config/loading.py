"""``config.yaml`` and the environment, read into :class:`Settings`, or its problems in sentences that say what to do.

The order: the file's values; ``GATEWAY__…`` variables over them; ``${NAME}`` filled in; types; rules. Problems come in
two rounds: all that keep a value from being read, and once there are none, all that the rules find. None of them shows
a value: it may be a secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.callbacks import CALLBACKS
from gateway.config import document, environment, rules
from gateway.config.document import Document, KeyPath
from gateway.config.schema_tree import ROOT, NodeKind, SchemaNode, at
from gateway.config.settings import Settings
from gateway.config.values import suggestion
from gateway.errors import ConfigError

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
#: Sentences about types and keys. The search for what was meant by an unknown key takes a tenth of a millisecond.
_MOST_MESSAGES: Final = 200


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


def load(path: Path, environ: Mapping[str, str]) -> Settings:
    """Read one configuration.

    Args:
        path: the YAML file.
        environ: where ``${NAME}`` and ``GATEWAY__…`` are looked up, usually ``os.environ``.

    Raises:
        ConfigError: ``problems`` has a sentence for each problem, with its key path and line. No value is shown.
    """
    return load_content(document.content(path), path, environ)


def load_content(content: bytes, path: Path, environ: Mapping[str, str]) -> Settings:
    """Return the settings in the bytes of a file that was read already, as :func:`load` does."""
    return _settings(document.decoded(content, path), path.name, environ)


def loads(text: str, environ: Mapping[str, str], name: str = "config.yaml") -> Settings:
    """Return the settings in a text, as :func:`load` does; ``name`` identifies the text in error messages."""
    return _settings(document.parse(text, name), name, environ)


def _settings(read: Document, name: str, environ: Mapping[str, str]) -> Settings:
    overridden = environment.override(canonical(read.tree, ROOT), environ, CALLBACKS)
    tree, unset = environment.interpolate(overridden.tree, environ, overridden.sources)

    def texts(found: Iterable[tuple[KeyPath, str]]) -> list[str]:
        return list(dict.fromkeys(_text(path, text, read, name, overridden.sources) for path, text in found))

    settings, mistyped = _typed(canonical(tree, ROOT))
    unfilled = {path for path, _ in unset}
    wrong = [*unset, *(one for one in mistyped if one[0] not in unfilled)]
    problems = [*read.problems, *overridden.problems, *texts(wrong)]
    if problems or settings is None:
        raise ConfigError(problems)
    if problems := texts(rules.problems(settings)):
        raise ConfigError(problems)
    return settings


def _typed(tree: dict[str, Any]) -> tuple[Settings | None, list[tuple[KeyPath, str]]]:
    try:
        return Settings.model_validate(tree), []
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False)
    found = [message(error) for error in errors[:_MOST_MESSAGES]]
    if len(errors) > _MOST_MESSAGES:
        found.append(((), f"{len(errors) - _MOST_MESSAGES} more problems of this kind"))
    return None, found


def canonical(value: Any, place: SchemaNode) -> Any:
    """Return lists where lists of sections are meant, and leave out keys without a value: they have their defaults."""
    if place.kind is NodeKind.SECTION and isinstance(value, dict):
        known = {key: one for key, one in value.items() if place.below(str(key)) is not None}
        unknown = {key: one for key, one in value.items() if key not in known}
        return unknown | {
            key: canonical(one, below)
            for key, one in known.items()
            if one is not None and (below := place.below(str(key))) is not None
        }
    if place.kind is NodeKind.MAP and isinstance(value, dict):
        below = place.below("")
        assert below is not None
        return {key: canonical(one, below) for key, one in value.items()}
    if place.kind is NodeKind.LIST:
        item = place.below(0)
        assert item is not None
        if item.kind is NodeKind.SECTION:
            value = [{}] if value is None else [value] if isinstance(value, dict) else value
        if isinstance(value, list):
            return [canonical(one, item) for one in value]
    return value


def _text(path: KeyPath, text: str, read: Document, name: str, sources: Mapping[KeyPath, str]) -> str:
    """Return one sentence: key path, problem, and where the value was set."""
    line = read.line(path)
    where = f" ({name} line {line})" if line is not None else ""
    for length in range(len(path), 0, -1):
        if path[:length] in sources:
            where = f" (from {sources[path[:length]]})"
            break
    return f"{read.shown(path) or name}: {text}{where}"
