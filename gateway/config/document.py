"""A YAML file as plain values, with the line of every key. Duplicate keys are refused, not overwritten.

The work is bounded: a few lines of YAML can expand to a billion values (aliases of aliases) or hold a number of a
million digits, and a file may never end. The bounds are far beyond any real configuration, and each is checked
before the work that it bounds.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NoReturn

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import Resolver
from yaml.scanner import Scanner

from gateway.errors import ConfigError


class _PythonParser(Reader, Scanner, Parser):
    """A substitute for ``yaml.CParser`` where libyaml is missing."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)


#: Keys and list indexes from the root of the file.
KeyPath = tuple[str | int, ...]

#: What YAML's own messages quote from the file. It may be half of a secret, so it does not go into errors.
_QUOTED: Final = re.compile(r"'[^'<]{2,}'")
#: A thousand subscribers take about 300 kB. PyYAML reads a megabyte in some seconds.
MOST_BYTES: Final = 1024 * 1024
#: Values and keys, including those that aliases expand to; a thousand subscribers have about 40,000.
MOST_NODES: Final = 100_000
#: Levels of nesting. A filter has two for each "all", "any" or "not".
MOST_LEVELS: Final = 100
_TOO_DEEP: Final = f"nested more than {MOST_LEVELS} levels deep"
#: libyaml's parser, which PyYAML's wheels contain, takes a tenth of the time of the one in Python.
_PARSER: Final = getattr(getattr(yaml, "cyaml", None), "CParser", _PythonParser)
_TEXT: Final = "tag:yaml.org,2002:str"
#: Of a value that is not text, such as a number: YAML knows numbers of base 60, whose cost grows with the square.
_MOST_IN_NUMBER: Final = 64
#: What PyYAML raises, apart from errors of its own, for a value that does not fit its tag, such as ``!!int ''``.
_UNFIT: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
#: No list has as many items; Python refuses to read thousands of digits.
_MOST_DIGITS: Final = 9


@dataclass(frozen=True, slots=True)
class Document:
    """The content of one file.

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
        """Return the line of a key, or of the nearest key around it."""
        return self.lines.get(self._nearest(path)[0])

    def shown(self, path: KeyPath) -> str:
        """Return a key path as written in the file, where a section may replace a list of one."""
        there, rest = self._nearest(path)
        return dotted((*there, *rest))

    def _nearest(self, path: KeyPath) -> tuple[KeyPath, KeyPath]:
        """Return the part of a path that is in the file, and the remaining part."""
        there: KeyPath = ()
        for index, step in enumerate(path):
            if (*there, step) in self.lines:
                there = (*there, step)
            elif step != 0 or not there or there in self.lists:
                return there, path[index:]
        return there, ()


def read(path: Path) -> Document:
    """Read one file. Raises: as :func:`content` and :func:`decoded`."""
    return decoded(content(path), path)


def content(path: Path) -> bytes:
    """Return the bytes of one file.

    Raises:
        ConfigError: missing, not readable, no regular file, or too large.
    """
    try:
        # Opened without waiting: a pipe would wait for a writer.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError([f"{path}: not a regular file; write the configuration to one"])
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError as exc:
        advice = "name yours with --config, start in its folder, or write one with gateway init"
        raise ConfigError([f"{path}: there is no such file; {advice}"]) from exc
    except OSError as exc:
        raise ConfigError([f"{path}: cannot be read: {exc.strerror}"]) from exc
    if len(data) > MOST_BYTES:
        raise ConfigError([f"{path}: larger than {MOST_BYTES} bytes, which no configuration needs"])
    return data


def decoded(data: bytes, path: Path) -> Document:
    """Read the bytes of one file.

    Raises:
        ConfigError: not UTF-8, not YAML, or not a mapping.
    """
    try:
        return parse(data.decode(), path.name)
    except UnicodeDecodeError as exc:
        raise ConfigError([f"{path}: not UTF-8 at byte {exc.start}"]) from exc


def parse(text: str, name: str) -> Document:
    """Read YAML text; ``name`` is the file's, for sentences. Errors as :func:`decoded`."""
    document = Document()
    tree = _constructed(text, name, document)
    if tree is None:
        return document
    if not isinstance(tree, dict):
        raise ConfigError([f"{name}: sections such as 'ingest:' are needed at the top, not a single value or a list"])
    return replace(document, tree=tree)


def value(text: str, name: str) -> Any:
    """Read one YAML value from elsewhere than the file; ``name`` says where from. Errors as :func:`decoded`."""
    return _constructed(text, name, Document())


def _constructed(text: str, name: str, document: Document) -> Any:
    """Return the values of a YAML text, and note in the document the line of each."""
    if len(text) > MOST_BYTES:
        raise ConfigError([f"{name}: longer than {MOST_BYTES} characters, which no configuration needs"])
    try:
        loader = _Loader(text, name)
        node = loader.get_single_node()
        if node is None:
            return None
        _Walk(name, document).visit(node)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        said = _QUOTED.sub("…", " ".join(part for part in (exc.context, exc.problem) if part))
        raise ConfigError([f"{where}: not valid YAML: {said}; look at indentation and quotes there"]) from None
    except yaml.YAMLError as exc:
        said = getattr(exc, "reason", "it cannot be parsed")
        raise ConfigError([f"{name}: not valid YAML: {said}"]) from None
    except RecursionError:
        raise ConfigError([f"{name}: {_TOO_DEEP}"]) from None
    except _UNFIT:
        # A date such as 2024-13-45 that only looks like one, or a tag such as !!int with something else behind it.
        raise ConfigError([f"{name}: a value cannot be read; put dates and the like in quotes"]) from None


class _Loader(Composer, _PARSER, SafeConstructor, Resolver):  # type: ignore[misc,valid-type]
    """PyYAML's safe loader, with libyaml's parser where there is one, that composes a bounded number of nodes.

    Composing is PyYAML's in Python: libyaml's own nests its calls as deep as the text, without a bound, and holds the
    interpreter for as long as it takes.
    """

    def __init__(self, text: str, name: str) -> None:
        _PARSER.__init__(self, text)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)
        self._name = name
        self._count = self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose one node and all below it.

        Raises:
            ConfigError: they are too many, or too deep.
        """
        self._count += 1
        self._depth += 1
        if self._count > MOST_NODES or self._depth > MOST_LEVELS:
            line = self.peek_event().start_mark.line + 1
            bound = f"more than {MOST_NODES} values" if self._depth <= MOST_LEVELS else _TOO_DEEP
            raise ConfigError([f"{self._name}:{line}: {bound}"])
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Walk:
    """Checks that a text describes a bounded tree, before any value is constructed, and notes the line of each value.

    Args:
        name: of the file, for sentences.
        found: gets lines, lists and keys given twice.
    """

    def __init__(self, name: str, found: Document) -> None:
        self._name = name
        self._found = found
        self._count = 0

    def visit(self, node: yaml.Node, path: KeyPath = (), above: tuple[yaml.Node, ...] = ()) -> None:
        """Visit a node and all nodes below it; the nodes behind an alias are visited at each use of the alias.

        Raises:
            ConfigError: it is past a bound.
        """
        self._count += 1
        if self._count > MOST_NODES:
            self._refuse(node, f"the file expands to more than {MOST_NODES} values; check its aliases")
        if any(node is one for one in above):
            self._refuse(node, "an alias refers to a node that contains it")
        if len(above) >= MOST_LEVELS:
            self._refuse(node, _TOO_DEEP)
        if isinstance(node, yaml.MappingNode):
            self._visit_mapping(node, path, (*above, node))
        elif isinstance(node, yaml.SequenceNode):
            self._found.lists.add(path)
            for index, item in enumerate(node.value):
                self._found.lines.setdefault((*path, index), item.start_mark.line + 1)
                self.visit(item, (*path, index), (*above, node))
        elif node.tag != _TEXT and len(node.value) > _MOST_IN_NUMBER:
            self._refuse(node, "a number or a date is not so long; put a text in quotes")

    def _visit_mapping(self, node: yaml.MappingNode, path: KeyPath, above: tuple[yaml.Node, ...]) -> None:
        seen: dict[str, int] = {}
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._refuse(key, "a key is a single word, not a list or a section")
            self.visit(key, path, above)
            label, line = str(key.value), key.start_mark.line + 1
            if label in seen:
                where = f"given twice, in {self._name} line {seen[label]} and line {line}; keep one"
                self._found.problems.append(f"{dotted((*path, label))}: {where}")
            seen.setdefault(label, line)
            self._found.lines.setdefault((*path, label), line)
            self.visit(item, (*path, label), above)

    def _refuse(self, node: yaml.Node, reason: str) -> NoReturn:
        raise ConfigError([f"{self._name}:{node.start_mark.line + 1}: {reason}"])


def index_in(step: str) -> int | None:
    """Return the index in a list that a step of a path means; None for a name."""
    return int(step) if step.isascii() and step.isdigit() and len(step) <= _MOST_DIGITS else None


def dotted(path: KeyPath) -> str:
    """Return a key path in its usual notation: ``subscribers[0].url``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
