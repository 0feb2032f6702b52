"""Nothing that tests started is left when their process ends by SIGKILL."""

from __future__ import annotations

import asyncio
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from tests.broker import assembly
from tests.components import missing
from tests.leash import VARIABLE, marked

#: A process that holds, starts a broker from a thread that ends, and a child in a session of its own with a child.
_PARENT = """
import subprocess, sys, threading
from tests import leash
from tests.broker import cluster

leash.hold()
broker = cluster.create()
starting = threading.Thread(target=broker.start)
starting.start()
starting.join()
subprocess.Popen([sys.executable, "-c", "import os, signal; os.fork(); signal.pause()"], start_new_session=True)
print(broker.folder, broker.nodes[0].process.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.kafka
async def test_a_broker_ends_when_the_process_that_started_it_is_killed() -> None:
    """And whatever else it started, also what has no living parent, or a session of its own."""
    try:
        assembly.libraries()
    except assembly.KafkaMissing as exc:
        missing("Kafka", install=str(exc))
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PARENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
    )
    assert parent.stdout is not None
    _, pid = (await parent.stdout.readline()).split()
    broker = os.pidfd_open(int(pid))
    mark = _mark(int(pid))
    before = set(marked(mark))
    assert {int(pid)} < before  # with the others, and the keeper itself
    parent.kill()
    await parent.wait()
    await asyncio.to_thread(_ended, broker)
    while left := next(marked(mark), 0):
        await asyncio.to_thread(_ended, os.pidfd_open(left))


def _mark(pid: int) -> str:
    environment = dict(pair.split("=", 1) for pair in Path(f"/proc/{pid}/environ").read_text().split("\0") if pair)
    return environment[VARIABLE]


def _ended(process: int) -> None:
    """Wait until a process, as a file descriptor, has ended."""
    ready, _, _ = select.select([process], [], [], 30.0)
    assert ready
    os.close(process)
