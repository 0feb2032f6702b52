"""A journal with an index beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.log.journal import Journal, Retention
from gateway.search import Search


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    opened = Journal(tmp_path, Retention(1 << 30, 86400.0))
    await opened.start()
    yield opened
    await opened.stop()


@pytest.fixture
async def search(journal: Journal, tmp_path: Path) -> AsyncIterator[Search]:
    started = Search(journal, tmp_path, with_attempts=True)
    await started.start()
    yield started
    await started.stop()
