"""Imports point one way, from what is near the user down to what everything stands on."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway

ROOT = Path(gateway.__file__).parent

#: From the ground up. A module belongs to the longest prefix that fits; it may import its own prefix and lower rows.
LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "gateway",
        "gateway.errors",
        "gateway.config.webhook_url",
        "gateway.connectivity",
        "gateway.machine",
    ),
    ("gateway.sockets",),
    (
        "gateway.event",
        "gateway.telemetry",
        "gateway.config.values",
    ),
    (
        "gateway.child",
        "gateway.config.sections",
        "gateway.connections",
        "gateway.signing",
    ),
    ("gateway.config.settings",),
    ("gateway.callbacks", "gateway.log"),
    ("gateway.config.callbacks",),
    ("gateway.publisher", "gateway.fanout", "gateway.ingest", "gateway.link"),
    ("gateway.config",),
    (
        "gateway.alerts",
        "gateway.backfill",
        "gateway.schema",
        "gateway.search",
        "gateway.supervisor",
        "gateway.traffic",
    ),
    ("gateway.admin", "gateway.capacity"),
    ("gateway.exchange",),
    ("gateway.app",),
    ("gateway.processes",),
    ("gateway.cli",),
    ("gateway.__main__",),
)
RANKS = {prefix: rank for rank, row in enumerate(LAYERS) for prefix in row}


def module_name(path: Path) -> str:
    parts = ["gateway", *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def owner(module: str) -> str:
    return max((prefix for prefix in RANKS if module == prefix or module.startswith(prefix + ".")), key=len)


def imported(path: Path) -> Iterator[str]:
    """What a file imports of ours; imports for the type checker only do not count."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "gateway":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if (ROOT.parent / Path(*inner.split("."))).with_suffix(".py").exists() else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "gateway")


def test_imports_point_one_way() -> None:
    """No module imports from a row above it, nor from a neighbour in its row."""
    wrong = [
        f"{module_name(path)} imports {target}"
        for path in sorted(ROOT.rglob("*.py"))
        for mine in [owner(module_name(path))]
        for target in imported(path)
        if owner(target) != mine and RANKS[owner(target)] >= RANKS[mine] and owner(target) != "gateway"
    ]
    assert [] == wrong


@pytest.mark.parametrize("package", ["callbacks", "event.py"])
def test_decoders_know_no_server_clock_or_disk(package: str) -> None:
    """Decoders are pure: no aiohttp, asyncio, sqlite or log behind them."""
    base = ROOT / package
    for path in [base] if base.is_file() else base.rglob("*.py"):
        names = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert names.isdisjoint({"aiohttp", "aiokafka", "asyncio", "sqlite3", "structlog", "time", "os"}), path


@pytest.mark.parametrize("folder", ["gateway", "tests", "deploy"])
def test_files_are_short_enough_to_be_read_at_once(folder: str) -> None:
    """At most 400 lines; a longer one is two that somebody else asks."""
    files = sorted((ROOT.parent / folder).rglob("*.py"))
    assert files
    assert [] == [str(path) for path in files if len(path.read_text().splitlines()) > 400]
