"""The patches for aiokafka in the documents: they apply to the version that is installed, and end what they describe.

When one no longer applies or is no longer needed, the version has changed: send the patch again, or delete it together
with the change in ``aiokafka_workarounds`` that it makes superfluous.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import aiokafka
import pytest

from tests.broker.fixtures import make

_PATCHES: Final = Path(__file__).parents[2] / "deploy/docs/upstream"

#: Describes a topic, waits until another one is listed, which it creates if it is another, and prints all that are.
_DESCRIBE: Final = """
import asyncio, sys
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

async def main():
    server, described, awaited = sys.argv[1:]
    admin = AIOKafkaAdminClient(bootstrap_servers=server)
    await admin.start()
    await admin.describe_topics([described])
    if awaited != described:
        await admin.create_topics([NewTopic(awaited, 1, 1)])
    while awaited not in (listed := await admin.list_topics()):
        pass
    print(*sorted(listed))
    await admin.close()

asyncio.run(main())
"""

#: Prints what becomes of the connection of a start that is cancelled, to a server that answers ApiVersions (18) only.
_CANCEL: Final = """
import asyncio, struct
from aiokafka.client import AIOKafkaClient

async def main():
    came, closed = asyncio.Event(), asyncio.Event()

    async def serve(reader, writer):
        while size := await reader.read(4):
            request = await reader.readexactly(struct.unpack(">i", size)[0])
            key, version, number = struct.unpack(">hhi", request[:8])
            if key == 18:
                body = struct.pack(">ihi", number, 0, 2) + struct.pack(">hhhhhh", 3, 0, 4, 18, 0, 0)
                writer.write(struct.pack(">i", len(body)) + body)
            else:
                came.set()
        writer.close()
        closed.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = AIOKafkaClient(bootstrap_servers="127.0.0.1:%d" % server.sockets[0].getsockname()[1])
    starting = asyncio.create_task(client.bootstrap())
    await came.wait()
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await client.close()
    try:
        await asyncio.wait_for(closed.wait(), 1)
        print("closed")
    except TimeoutError:
        print("open")

asyncio.run(main())
"""


def _said(script: str, *arguments: str, folder: Path | None = None) -> str:
    """Return what a script prints; with a folder, it imports from there first."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if folder is not None:
        environment["PYTHONPATH"] = str(folder)
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, timeout=60)
    return done.stdout.strip()


def _patched(folder: Path, patch: str) -> Path:
    """Return a folder that has the installed version with a patch."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(aiokafka.__file__).parent, folder / "aiokafka", ignore=ignored)
    subprocess.run(["git", "apply", _PATCHES / patch], check=True, cwd=folder, capture_output=True)
    return folder


@pytest.fixture
def creating() -> Iterator[str]:
    """Bootstrap address of a node that creates topics by itself."""
    made = make(extra={"auto.create.topics.enable": "true"})
    yield made.bootstrap
    made.remove()


@pytest.mark.kafka
def test_describing_a_topic_does_not_create_it(creating: str, tmp_path: Path) -> None:
    assert _said(_DESCRIBE, creating, "created", "created") == "created"
    folder = _patched(tmp_path, "allow-auto-create-topics.patch")
    assert _said(_DESCRIBE, creating, "absent", "awaited", folder=folder) == "awaited created"


def test_a_cancelled_start_leaves_no_connection(tmp_path: Path) -> None:
    assert _said(_CANCEL) == "open"
    assert _said(_CANCEL, folder=_patched(tmp_path, "close-cancelled-bootstrap.patch")) == "closed"


def test_every_patch_is_tested() -> None:
    text = Path(__file__).read_text()
    assert [] == [path.name for path in _PATCHES.iterdir() if f'"{path.name}"' not in text]
