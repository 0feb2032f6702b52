"""The processes of a gateway as one: the supervisor, their lines, metrics, priorities and memory."""

from __future__ import annotations

import errno
import os
import signal
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from gateway import processes
from gateway.config.settings import Settings
from gateway.errors import JournalInUse
from gateway.processes import DELIVER_NICENESS
from gateway.telemetry.metric_catalogue import CATALOGUE
from tests.gateway.conftest import MakeGateway, MakeSubscriber, to
from tests.gateway.process import GatewayProcess, memory_bytes
from tests.gateway.test_processes import post, readiness, ready, samples, sending, stored

pytestmark = pytest.mark.timeout(180)


def is_there(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody has collected yet does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


async def test_a_new_gateway_comes_up_at_once_after_the_supervisor_was_killed(
    gateway: MakeGateway, subscriber: MakeSubscriber
) -> None:
    """Its processes end by themselves; the new one waits for its ports and for the journal's folder."""
    receiver = await subscriber()
    running = await gateway(subscribers=[to(receiver, "all")])
    old = running.pids()
    async with sending(running) as senders:
        await senders.until_more(100)
        os.kill(running.pid, signal.SIGKILL)
        new = GatewayProcess(running.folder, running.config)
        try:
            await new.start()
            await senders.until_more(100)
        finally:
            senders.stop()
    await running.ended()  # the last process that has its standard error
    assert not any(is_there(pid) for pid in old)
    await receiver.until(lambda: senders.accepted <= receiver.subjects.keys())
    assert await new.terminate() == 0
    assert senders.accepted == (await stored(new)).keys()


async def test_a_second_gateway_on_the_folder_is_refused_and_harms_nothing(
    gateway: MakeGateway, tmp_path: Path
) -> None:
    """Exit code and sentence of a journal in use; the first one's sockets are as they were."""
    running = await gateway()
    folder = tmp_path / "second"
    folder.mkdir()
    second = GatewayProcess(folder, {"journal": running.config["journal"]})
    with pytest.raises(AssertionError, match="the process ended"):
        await second.start()
    assert await second.ended() == JournalInUse.exit_code
    (failed,) = [line for line in second.lines if line["event"] == "gateway.failed"]
    assert f"in use by another gateway (process {running.pid_of('log')})" in failed["error"]
    assert not any("Traceback" in str(line) for line in second.lines)
    url = f"{running.url}/callbacks/sms-dr"
    async with aiohttp.ClientSession() as session:
        assert (await post(session, url, "m-1")).status == 200
        os.kill(running.pid_of("log"), signal.SIGKILL)
        await ready(running, "log", 2)
        assert (await post(session, url, "m-2")).status == 200
    await readiness(running, 200)
    assert await running.terminate() == 0
    assert {"m-1", "m-2"} == (await stored(running)).keys()
    assert list((running.folder / "data/run").iterdir()) == []


async def test_start_and_stop_are_one_line_each(gateway: MakeGateway) -> None:
    """Of the supervisor: which names no process."""
    running = await gateway(ingest={"port": 0, "workers": 2})
    assert await running.terminate() == 0
    for event in ("gateway.started", "gateway.stopped"):
        (line,) = [line for line in running.lines if line["event"] == event]
        assert "process" not in line
    (line,) = [line for line in running.lines if line["event"] == "gateway.started"]
    assert {"version", "role", "ingest", "admin", "journal", "known_ids", "subscribers"} <= line.keys()
    assert line["ingest"] == running.url
    assert line["admin"] == running.admin_url


async def test_metrics_come_from_the_processes_that_count_them(
    gateway: MakeGateway, subscriber: MakeSubscriber
) -> None:
    """Over the whole catalogue: no 0 of a process that does not know."""
    receiver = await subscriber()
    running = await gateway(subscribers=[to(receiver, "all")], ingest={"port": 0, "workers": 2})
    async with sending(running) as senders:
        await senders.until_more(20)
    await receiver.until(lambda: senders.accepted <= receiver.subjects.keys())
    found: dict[str, set[str]] = {}
    for one in await samples(running):
        found.setdefault(one.name, set()).add(one.labels["process"])
    everyone = {"log", "deliver", "ingest-0", "ingest-1"}
    assert found["process_start_time_seconds"] == found["gateway_process_up"] == everyone
    assert found["gateway_process_restarts_total"] == everyone
    for metric in CATALOGUE:
        name = metric.name + {"counter": "_total", "gauge": "", "histogram": "_count"}[metric.kind]
        of_kind = {one for one in everyone if one.partition("-")[0] in metric.processes}
        if not metric.labels:
            assert found[name] == of_kind, name
        elif not name.startswith("gateway_process_"):
            assert found.get(name, set()) <= of_kind, name
    assert await running.terminate() == 0


async def test_while_processors_are_short_the_platform_goes_before_the_subscribers(gateway: MakeGateway) -> None:
    """The kernel gives the process that delivers a smaller share, also where it counts sessions before processes."""
    running = await gateway(ingest={"port": 0, "workers": 1})
    niceness = {name: os.getpriority(os.PRIO_PROCESS, running.pid_of(name)) for name in ("ingest-0", "log", "deliver")}
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert niceness == {"ingest-0": ours, "log": ours, "deliver": min(19, ours + DELIVER_NICENESS)}
    assert autogroup_niceness(running.pid_of("deliver")) in {DELIVER_NICENESS, None}


def autogroup_niceness(pid: int) -> int | None:
    """Niceness of the process' session; None where the kernel does not group by session."""
    try:
        return int(Path(f"/proc/{pid}/autogroup").read_text().split()[-1])
    except FileNotFoundError:
        return None


async def test_one_ingest_process_needs_less_than_150_mib_in_all(
    gateway: MakeGateway, subscriber: MakeSubscriber
) -> None:
    """Supervisor, log, deliver and ingest, each page once where they share it."""
    receiver = await subscriber()
    config = {"subscribers": [to(receiver, "all")], "ingest": {"port": 0, "workers": 1}}
    running = await gateway(is_fresh=True, **config)  # a forked one shares pages with its parent
    async with sending(running) as senders:
        await senders.until_more(1000)
    await receiver.until(lambda: senders.accepted <= receiver.subjects.keys())
    each = {pid: memory_bytes(pid) / 2**20 for pid in running.pids()}
    print("MiB:", {pid: round(size, 1) for pid, size in each.items()})
    assert len(each) == 4
    assert sum(each.values()) < 150
    assert await running.terminate() == 0


@pytest.mark.parametrize("takes_sockets", [True, False])
def test_a_folder_without_sockets_is_replaced_by_a_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes_sockets: bool
) -> None:
    """Some file systems that containers mount refuse them; the journal is well there all the same."""

    class Refusing(socket.socket):
        def bind(self, address: Any) -> None:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported", address)

    if not takes_sockets:
        monkeypatch.setattr(socket, "socket", Refusing)
    settings = Settings.model_validate({"journal": {"dir": str(tmp_path)}})
    with capture_logs() as lines, processes._run_folder(settings, "run") as folder:
        assert folder.is_dir()
        assert (folder == tmp_path / "run") == takes_sockets
        assert list(folder.iterdir()) == []
    assert [line["event"] for line in lines] == ([] if takes_sockets else ["sockets.elsewhere"])
    assert folder.exists() == takes_sockets
