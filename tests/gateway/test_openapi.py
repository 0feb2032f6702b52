"""The running gateway against its own OpenAPI document: whatever fits the document, or nearly, gives no 5xx."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import orjson
import pytest

from gateway.config.settings import Settings
from gateway.schema.openapi import openapi
from gateway.traffic.simulator import examples
from tests.gateway.conftest import MakeGateway


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_generated_requests_never_give_a_server_error(gateway: MakeGateway, tmp_path: Path) -> None:
    """schemathesis: the documented examples and generated requests on every callback path."""
    command = Path(sys.executable).with_name("st")
    assert command.exists() or shutil.which("st"), "schemathesis is in the dev extras"
    running = await gateway()
    document = openapi(Settings(), examples)
    # Health and metrics stand at the admin port; here is the platform's.
    document["paths"] = {path: row for path, row in document["paths"].items() if path.startswith("/callbacks/")}
    assert len(document["paths"]) >= 21
    path = tmp_path / "openapi.json"
    path.write_bytes(orjson.dumps(document))
    process = await asyncio.create_subprocess_exec(
        str(command), "run", str(path), "--url", running.url, "--checks", "not_a_server_error",
        "--phases", "examples,fuzzing", "--max-examples", "10", "--seed", "1", "--no-color",
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()[-3000:]
    assert await running.terminate() == 0
