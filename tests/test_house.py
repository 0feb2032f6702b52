"""The shape of the code: no circle of imports, a name for each class, short functions, and a glossary that is true."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Set
from graphlib import CycleError, TopologicalSorter
from typing import Final

import gateway
from tests.syntax import module_name, trees

_MOST_LINES: Final = 60


def _modules() -> Mapping[str, ast.Module]:
    """Return each module of the gateway with its syntax tree."""
    return {module_name(path): tree for path, tree in trees("gateway").items()}


def _imported(tree: ast.Module, modules: Collection[str]) -> Iterator[str]:
    """Yield the modules of the gateway that a file imports, for the type checker only and inside of functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in modules:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)


def circle(imports: Mapping[str, Set[str]]) -> list[str]:
    """Return the modules of a circle of imports; nothing where there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as exc:
        return list(exc.args[1])
    return []


def test_no_circle_of_imports() -> None:
    """File by file: what two files need of each other is in a third, or handed over."""
    modules = _modules()
    assert [] == circle({name: {*_imported(tree, modules)} - {name} for name, tree in modules.items()})


def test_a_circle_is_found() -> None:
    """The check can fail."""
    assert {"a", "b", "c"} == {*circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})}


def test_no_public_class_name_means_two_things() -> None:
    """What a reader finds under a name is what was meant."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for module, tree in _modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module)
    assert {} == {name: modules for name, modules in places.items() if len(modules) > 1}


def test_functions_are_short() -> None:
    """At most 60 lines beside the docstring."""
    long = [
        f"{path}:{node.lineno} {node.name}: {length}"
        for folder in ("gateway", "tests", "deploy")
        for path, tree in trees(folder).items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (length := _length(node)) > _MOST_LINES
    ]
    assert [] == long


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return its lines, without decorators and docstring."""
    first = function.body[0]
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if is_text else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def test_the_glossary_is_of_this_code() -> None:
    """About thirty nouns, each with a sentence and the module that has its class or its subject."""
    assert 25 <= len(gateway.GLOSSARY) <= 40
    for noun, sentence in gateway.GLOSSARY.items():
        assert re.fullmatch(r"[a-z][a-z -]+", noun), noun
        found = re.fullmatch(r"[A-Z].+\. ``(gateway\.[\w.]+)``", sentence)
        assert found, noun
        assert found[1] in _modules(), noun
