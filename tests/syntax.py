"""Syntax trees of this repository, for tests that hold code to rules: parsed once for a process, and only if asked."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]


@cache
def trees(folder: str) -> Mapping[str, ast.Module]:
    """Return the tree of each Python file below a folder of the repository, by its path in the repository."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in paths}


def module_name(path: str) -> str:
    """Return how a file is imported."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
