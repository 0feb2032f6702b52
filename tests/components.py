"""Programs and packages that a test needs and a machine may not have."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def missing(what: str, *, install: str) -> NoReturn:
    """Skip; on CI, which installs what it needs, fail: a promise that nobody checked must not look kept.

    Args:
        install: how to get it.
    """
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed, and CI must have it ({install})", pytrace=False)
    pytest.skip(f"{what} is not installed ({install})")


def needed(program: str, *, install: str) -> str:
    """Where a program is; without it see :func:`missing`."""
    found = shutil.which(program)
    if found is None:
        missing(program, install=install)
    return found
