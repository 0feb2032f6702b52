"""``config.yaml`` and the environment, read into :class:`Settings`, or every problem at once.

The order: the file's values; ``GATEWAY__…`` variables over them; ``${NAME}`` filled in; types; rules. A file with
problems of one kind is still looked at for the others, so that one run shows all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from gateway.callbacks import CALLBACKS
from gateway.config import document, environment, rules
from gateway.config.document import Document, KeyPath
from gateway.config.kafka_settings import Kafka
from gateway.config.messages import message
from gateway.config.schema_tree import ROOT, Kind, SchemaNode
from gateway.config.settings import Admin, CallbackPath, Ingest, Settings, Subscriber
from gateway.config.values import NAME
from gateway.errors import ConfigError

#: Sentences about types and keys. The search for what was meant by an unknown key takes a tenth of a millisecond.
_MOST_MESSAGES: Final = 200
_Model = TypeVar("_Model", bound=BaseModel)


def load(path: Path, environ: Mapping[str, str]) -> Settings:
    """Read one configuration.

    Args:
        path: the YAML file.
        environ: where ``${NAME}`` and ``GATEWAY__…`` are looked up, usually ``os.environ``.

    Raises:
        ConfigError: ``problems`` has a sentence for each problem, with its key path and line. No value is shown.
    """
    return _settings(document.read(path), path.name, environ)


def loads(text: str, environ: Mapping[str, str], name: str = "config.yaml") -> Settings:
    """As :func:`load`, from text; ``name`` stands in the sentences."""
    return _settings(document.parse(text, name), name, environ)


def _settings(read: Document, name: str, environ: Mapping[str, str]) -> Settings:
    overridden = environment.override(_canonical(read.tree, ROOT), environ, CALLBACKS)
    tree, unset = environment.interpolate(overridden.tree, environ, overridden.sources)
    tree = _canonical(tree, ROOT)
    found: list[tuple[KeyPath, str]] = list(unset)
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False)
        found += [message(error) for error in errors[:_MOST_MESSAGES]]
        if len(errors) > _MOST_MESSAGES:
            found.append(((), f"{len(errors) - _MOST_MESSAGES} more problems of this kind"))
    found += rules.problems(rules.parts_of(settings) if settings is not None else _readable_parts(tree))
    told = dict.fromkeys(path for path, _ in unset)
    texts = [
        _text(path, text, read, name, overridden.sources)
        for position, (path, text) in enumerate(found)
        if position < len(unset) or path not in told
    ]
    problems = [*read.problems, *overridden.problems, *dict.fromkeys(texts)]
    if problems or settings is None:
        raise ConfigError(problems)
    return settings


def _canonical(value: Any, place: SchemaNode) -> Any:
    """Lists where lists of sections are meant, and keys without a value left out: they have their defaults."""
    if place.kind is Kind.SECTION and isinstance(value, dict):
        known = {key: one for key, one in value.items() if place.below(str(key)) is not None}
        unknown = {key: one for key, one in value.items() if key not in known}
        return unknown | {
            key: _canonical(one, below)
            for key, one in known.items()
            if one is not None and (below := place.below(str(key))) is not None
        }
    if place.kind is Kind.MAP and isinstance(value, dict):
        below = place.below("")
        assert below is not None
        return {key: _canonical(one, below) for key, one in value.items()}
    if place.kind is Kind.LIST:
        item = place.below(0)
        assert item is not None
        if item.kind is Kind.SECTION:
            value = [{}] if value is None else [value] if isinstance(value, dict) else value
        if isinstance(value, list):
            return [_canonical(one, item) for one in value]
    return value


def _readable_parts(tree: dict[str, Any]) -> rules.Parts:
    """Every part whose types are right, of a tree that is not right as a whole."""
    ingest = _mapping(tree.get("ingest", {}))
    callbacks = [
        (str(name), position, row)
        for name, rows in _mapping(ingest.get("callbacks", {})).items()
        if NAME.match(str(name))
        for position, section in enumerate(rows if isinstance(rows, list) else [])
        if (row := _maybe(CallbackPath, section)) is not None
    ]
    count = sum(len(rows) if isinstance(rows, list) else 1 for rows in _mapping(ingest.get("callbacks", {})).values())
    subscribers = tree.get("subscribers", [])
    return rules.Parts(
        _maybe(Ingest, {key: value for key, value in ingest.items() if key != "callbacks"}),
        callbacks,
        [
            (position, subscriber)
            for position, section in enumerate(subscribers if isinstance(subscribers, list) else [])
            if (subscriber := _maybe(Subscriber, section)) is not None
        ],
        _maybe(Kafka, tree["kafka"]) if "kafka" in tree else None,
        _maybe(Admin, tree.get("admin", {})),
        has_kafka="kafka" in tree,
        has_all_callbacks=len(callbacks) == count,
    )


def _mapping(value: object) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _maybe(model: type[_Model], value: object) -> _Model | None:
    try:
        return model.model_validate(value)
    except ValidationError:
        return None


def _text(path: KeyPath, text: str, read: Document, name: str, sources: Mapping[KeyPath, str]) -> str:
    """One sentence: key path, what is wrong, and where that was set."""
    line = read.line(path)
    where = f" ({name} line {line})" if line is not None else ""
    for length in range(len(path), 0, -1):
        if path[:length] in sources:
            where = f" (from {sources[path[:length]]})"
            break
    return f"{read.shown(path) or name}: {text}{where}"
