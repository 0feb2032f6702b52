"""A YAML file as plain values, with the line of every key. Keys that stand twice are refused, not overwritten."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import yaml

from gateway.errors import ConfigError

#: Keys and list indexes from the root of the file.
KeyPath = tuple[str | int, ...]

#: What YAML's own messages quote from the file. It may be half of a secret, so it does not go into errors.
_QUOTED: Final = re.compile(r"'[^'<]{2,}'")
#: No list has as many items; Python refuses to read thousands of digits.
_MOST_DIGITS: Final = 9


@dataclass(frozen=True, slots=True)
class Document:
    """What one file says.

    Args:
        tree: mappings, lists and scalars.
        lines: line of each key and list item, counted from 1.
        lists: where lists are.
        problems: sentences; keys given twice.
    """

    tree: dict[str, Any] = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)
    lists: set[KeyPath] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def line(self, path: KeyPath) -> int | None:
        """Line of a key, or of the nearest key around it."""
        return self.lines.get(self._nearest(path)[0])

    def shown(self, path: KeyPath) -> str:
        """A key path as it stands in the file, where a section may stand for a list of one."""
        there, rest = self._nearest(path)
        return dotted((*there, *rest))

    def _nearest(self, path: KeyPath) -> tuple[KeyPath, KeyPath]:
        """The part of a path that is in the file, and the rest."""
        there: KeyPath = ()
        for index, step in enumerate(path):
            if (*there, step) in self.lines:
                there = (*there, step)
            elif step != 0 or not there or there in self.lists:
                return there, path[index:]
        return there, ()


def read(path: Path) -> Document:
    """Read one file.

    Raises:
        ConfigError: missing, not readable, not YAML, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as exc:
        advice = "name yours with --config, start in its folder, or write one with gateway init"
        raise ConfigError([f"{path}: there is no such file; {advice}"]) from exc
    except OSError as exc:
        raise ConfigError([f"{path}: cannot be read: {exc.strerror}"]) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError([f"{path}: not UTF-8 at byte {exc.start}"]) from exc
    return parse(text, path.name)


def parse(text: str, name: str) -> Document:
    """Read YAML text; ``name`` is the file's, for sentences. Errors as :func:`read`."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return Document()
        document = Document()
        _walk(node, (), document, name, ())
        tree = loader.construct_document(node)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        said = _QUOTED.sub("…", " ".join(part for part in (exc.context, exc.problem) if part))
        raise ConfigError([f"{where}: not valid YAML: {said}; look at indentation and quotes there"]) from None
    except yaml.YAMLError as exc:
        said = getattr(exc, "reason", "it cannot be parsed")
        raise ConfigError([f"{name}: not valid YAML: {said}"]) from None
    except (ValueError, RecursionError):
        # A date such as 2024-13-45 that only looks like one, or nesting without end.
        raise ConfigError([f"{name}: a value cannot be read; put dates and the like in quotes"]) from None
    if not isinstance(tree, dict):
        raise ConfigError([f"{name}: sections such as 'ingest:' are needed at the top, not a single value or a list"])
    return replace(document, tree=tree)


def _walk(node: yaml.Node, path: KeyPath, found: Document, name: str, above: tuple[yaml.Node, ...]) -> None:
    if any(node is one for one in above):
        raise ConfigError([f"{name}:{node.start_mark.line + 1}: an alias stands inside what it stands for"])
    above = (*above, node)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            label = str(key.value)
            if label in seen:
                found.problems.append(
                    f"{dotted((*path, label))}: given twice, in {name} line {seen[label]} and line {line}; keep one"
                )
            seen.setdefault(label, line)
            found.lines.setdefault((*path, label), line)
            _walk(value, (*path, label), found, name, above)
    elif isinstance(node, yaml.SequenceNode):
        found.lists.add(path)
        for index, item in enumerate(node.value):
            found.lines.setdefault((*path, index), item.start_mark.line + 1)
            _walk(item, (*path, index), found, name, above)


def index_in(step: str) -> int | None:
    """The place in a list that a step of a path means; None for a name."""
    return int(step) if step.isascii() and step.isdigit() and len(step) <= _MOST_DIGITS else None


def dotted(path: KeyPath) -> str:
    """A key path as people write it: ``subscribers[0].url``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
