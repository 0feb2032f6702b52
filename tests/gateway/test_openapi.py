"""The running gateway against its own OpenAPI documents: whatever fits a document, or nearly, gives no 5xx."""

from __future__ import annotations

import asyncio
import base64
import shutil
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.admin.openapi import openapi_admin
from gateway.config.settings import Settings
from gateway.schema.openapi import openapi
from gateway.traffic.simulator import examples
from tests.gateway.conftest import MakeGateway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


async def fuzz(document: dict[str, Any], url: str, folder: Path, checks: str) -> None:
    """Send what schemathesis makes of a document."""
    command = shutil.which(Path(sys.executable).with_name("st")) or shutil.which("st")
    assert command, "schemathesis is in the dev extras"
    path = folder / "openapi.json"
    path.write_bytes(orjson.dumps(document))
    process = await asyncio.create_subprocess_exec(
        command, "run", str(path), "--url", url, "--checks", checks,
        "--phases", "examples,fuzzing", "--max-examples", "10", "--seed", "1", "--no-color",
        cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()[-3000:]


async def test_generated_requests_never_give_a_server_error(gateway: MakeGateway, tmp_path: Path) -> None:
    """schemathesis: the documented examples and generated requests on every callback path."""
    running = await gateway()
    document = openapi(Settings(), examples)
    # Health and metrics stand at the admin port; here is the platform's.
    document["paths"] = {path: row for path, row in document["paths"].items() if path.startswith("/callbacks/")}
    assert len(document["paths"]) >= 21
    await fuzz(document, running.url, tmp_path, "not_a_server_error")
    assert await running.terminate() == 0


async def test_the_admin_port_answers_as_it_is_documented(gateway: MakeGateway, tmp_path: Path) -> None:
    """schemathesis: every answer has a documented status and content type, and none is a fault of the gateway."""
    running = await gateway(admin={"port": 0, "secrets_key": base64.b64encode(bytes(32)).decode()})
    document = openapi_admin(Settings())
    # What never ends is read elsewhere.
    endless = {"/api/events", "/api/streams/{name}"}
    document["paths"] = {path: row for path, row in document["paths"].items() if path not in endless}
    checks = "not_a_server_error,status_code_conformance,content_type_conformance"
    await fuzz(document, running.admin_url, tmp_path, checks)
    assert await running.terminate() == 0
