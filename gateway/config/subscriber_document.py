"""A subscriber that does not come from ``config.yaml``: the same types and the same rules, with key paths below it.

``${NAME}`` is text here, and means no variable: who may add a subscriber need not be the one who may read the
environment of the gateway. For the same reason it cannot write files (``kind: file``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import SecretStr, ValidationError

from gateway.config import rules
from gateway.config.document import MOST_LEVELS, KeyPath, dotted
from gateway.config.loading import canonical, message
from gateway.config.schema_tree import NodeKind, SchemaNode, schema_node
from gateway.config.settings import Settings, Subscriber
from gateway.errors import ConfigError
from gateway.fanout import subscriber_rules

Tree = dict[str, Any]
PLACE: Final = schema_node(Subscriber)
_ABOVE: Final[KeyPath] = ("subscribers", 0)


def read(tree: Mapping[str, Any], settings: Settings) -> Subscriber:
    """Return the subscriber that these keys and values describe. Reads the certificate files that it names.

    Args:
        tree: as an item of ``subscribers`` in ``config.yaml``.
        settings: the configuration of this process; other subscribers of it are not looked at.

    Raises:
        ConfigError: with a sentence for each problem, and its key path below the subscriber. No value is shown.
    """
    try:
        subscriber = Subscriber.model_validate(canonical(dict(tree), PLACE))
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False)
        # The messages are about places in the whole configuration.
        found = [message({**error, "loc": (*_ABOVE, *error["loc"])}) for error in errors]
        raise ConfigError([_text(path, text) for path, text in found]) from None
    alone = settings.model_copy(update={"subscribers": [subscriber]})
    problems = [_text(path, text) for path, text in rules.problems(alone) if path[:2] == _ABOVE]
    problems += [_text((*_ABOVE, *path), text) for path, text in subscriber_rules.file_problems(subscriber)]
    if subscriber.kind == "file":
        problems.append("kind: a file is written by a subscriber of the configuration file only; use webhook or stream")
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return subscriber


def is_too_deep(value: Any, left: int = MOST_LEVELS) -> bool:
    """Return whether a value has more levels than a configuration file may have."""
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return left == 0 or any(is_too_deep(one, left - 1) for one in below)


def written(subscriber: Subscriber) -> Tree:
    """Return the keys of a subscriber that differ from their defaults, as :func:`read` takes them. Has its secrets."""
    return {name: _plain(value) for name, value in subscriber.model_dump(exclude_defaults=True).items()}


def without_secrets(tree: Mapping[str, Any], at: SchemaNode = PLACE) -> Tree:
    """Return the same keys without those whose values are secrets."""
    kept = {}
    for key, value in tree.items():
        below = at.below(str(key))
        if below is None or any(True for _ in _secrets(value, below)):
            continue
        is_section = below.kind is NodeKind.SECTION and isinstance(value, dict)
        kept[key] = without_secrets(value, below) if is_section else value
    return kept


def secrets_of(tree: Mapping[str, Any]) -> list[str]:
    """Return all secrets: for signing, of streams, and in headers."""
    return list(_secrets(dict(tree), PLACE))


def changed_paths(before: Any, after: Any, path: str = "") -> list[str]:
    """Return the key paths at which two trees differ, without their values."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return [path] if before != after else []
    names = sorted({*before, *after})
    below = ((name, f"{path}.{name}" if path else name) for name in names)
    return [found for name, deeper in below for found in changed_paths(before.get(name), after.get(name), deeper)]


def patched(tree: Any, patch: Any) -> Any:
    """Return a tree with a JSON merge patch applied (RFC 7386, section 2)."""
    if not isinstance(patch, dict):
        return patch
    found = dict(tree) if isinstance(tree, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = patched(found.get(key), value)
    return found


def _secrets(value: Any, at: SchemaNode) -> Iterator[str]:
    if at.is_secret:
        if value not in (None, ""):
            yield str(value)
    elif isinstance(value, dict):
        for key, one in value.items():
            if (below := at.below(str(key))) is not None:
                yield from _secrets(one, below)
    elif at.kind is NodeKind.LIST and (item := at.below(0)) is not None:
        for one in value if isinstance(value, list) else [value]:
            yield from _secrets(one, item)


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _text(path: KeyPath, text: str) -> str:
    below = dotted(path[2:] if path[:2] == _ABOVE else path)
    return f"{below}: {text}" if below else text
