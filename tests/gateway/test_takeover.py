"""The gateway started on a folder in which an older version kept a journal for each worker."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from gateway.errors import JournalInUse
from tests.gateway.process import GatewayProcess
from tests.log.journal.test_journal import entry
from tests.log.journal.test_takeover import ids, make

#: Nobody is there: what is taken over stays in the journal.
CONFIG = {"kafka": {"bootstrap_servers": "127.0.0.1:1"}, "ingest": {"port": 0, "workers": 1}}


async def test_serve_takes_old_folders_over_before_it_is_started(tmp_path: Path) -> None:
    """Also with its journal in place, and with a number of workers that has nothing to do with theirs."""
    serve = GatewayProcess(tmp_path, CONFIG, "serve")
    folder = tmp_path / serve.config["journal"]["dir"]
    await make(folder, [[entry(1)]], published=0)
    for number in range(3):
        await make(folder / f"worker-{number}", [[entry(10 * number + at) for at in (2, 3)]], published=1)
    await serve.start()
    names = [line["event"] for line in serve.lines if line.get("event") in ("journal.taken_over", "gateway.started")]
    assert ["journal.taken_over"] * 3 + ["gateway.started"] == names
    assert await serve.terminate() == 0
    assert [1, 3, 13, 23] == ids(folder)


async def test_an_old_worker_that_still_runs_ends_the_start_with_the_exit_code_of_a_journal_in_use(
    tmp_path: Path,
) -> None:
    serve = GatewayProcess(tmp_path, CONFIG, "serve")
    folder = tmp_path / serve.config["journal"]["dir"] / "worker-0"
    await make(folder, [[entry(1)]], published=0)
    lock = os.open(folder / "lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with pytest.raises(AssertionError, match=r"in use by process .* stop it, then start this one"):
            await serve.start()
    finally:
        os.close(lock)
    assert serve.process is not None
    assert JournalInUse.exit_code == await serve.process.wait()
