"""One real gateway for the whole folder, short of patience so that slow cases are quick."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.process import GatewayProcess

#: Instead of 15 s: what waits for it is over soon.
READ_TIMEOUT_S = 2.0


@pytest.fixture(params=[True, False], ids=["fast", "ordinary"])
def fast_path(request: pytest.FixtureRequest) -> bool:
    """Both ways through the edge."""
    return bool(request.param)


@pytest.fixture
async def gateway(tmp_path: Path, fast_path: bool) -> AsyncIterator[GatewayProcess]:
    """Started, and killed at the end if it still runs."""
    config: dict[str, Any] = {"ingest": {"port": 0, "read_timeout": READ_TIMEOUT_S, "fast_path": fast_path}}
    running = GatewayProcess(tmp_path, config, is_fresh=True)  # its memory is measured
    await running.start()
    yield running
    if running.process is not None and running.process.returncode is None:
        await running.kill()
