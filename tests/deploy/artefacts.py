"""The files under ``deploy/``, read once for all tests, and the tools that look at them where they are installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from gateway.telemetry.metric_catalogue import CATALOGUE, Metric
from tests.components import missing

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
#: The gateway is gone so many seconds after SIGTERM: each process within 25 s, else it is killed (gateway.supervisor).
STOP_S: Final = 28
_SUFFIXES: Final = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def run(tool: str, *arguments: str, install: str, given: str | None = None, is_on_ci: bool = True) -> str:
    """Output of a tool; skips where it is not installed, fails when the tool finds something.

    Args:
        given: what it reads from its standard input.
        is_on_ci: False for one that Debian does not have: it may be missing on CI, too.
    """
    # Beside the interpreter too: a virtual environment that was not activated is not on the path.
    found = shutil.which(tool, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        if is_on_ci:
            missing(tool, install=install)
        pytest.skip(f"{tool} is not installed ({install})")
    done = subprocess.run([found, *arguments], check=False, capture_output=True, text=True, cwd=ROOT, input=given)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def documents(text: str) -> list[dict[str, Any]]:
    """Every YAML document with something in it."""
    return [document for document in yaml.safe_load_all(text) if document]


def series() -> dict[str, Metric]:
    """Names as Prometheus has them, with the row of the catalogue that each comes from."""
    return {metric.name + suffix: metric for metric in CATALOGUE for suffix in _SUFFIXES[metric.kind]}


def metrics_in(text: str) -> set[str]:
    """Names of our metrics that stand in an expression or a text."""
    return set(re.findall(r"\bgateway_[a-z][a-z0-9_]*\b", text))


def walk(value: Any) -> Iterator[Any]:
    """A value and everything in it."""
    yield value
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in below:
        yield from walk(one)
