"""The supervisor with real processes: small children that become ready, die, hang, and are stopped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigError
from gateway.sockets import listen
from tests.gateway.process import GatewayProcess
from tests.waiting import until

Stages = list[list[tuple[str, str]]]
QUICK = {"first_pause_s": 0.05}
ALL: Stages = [[("log", "well")], [("deliver", "well")], [("ingest-0", "well"), ("ingest-1", "well")]]
linux = pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc are Linux's")


class Supervised(GatewayProcess):
    """A supervisor of small children, watched by its log."""

    async def begin(self, stages: Stages, policy: dict[str, Any]) -> None:
        """Start it."""
        await self._spawn_program("-m", "tests.gateway.supervised", json.dumps(stages), json.dumps(policy))

    async def child(self, name: str) -> int:
        """Process id of the present life of a child."""
        lines = [line for line in self.lines if line["event"] == "process.started" and line["process"] == name]
        return int(lines[-1]["pid"])

    def told(self, *events: str) -> list[str]:
        """Names of processes in the lines of these names, in order."""
        return [f"{line['event']} {line['process']}" for line in self.lines if line["event"] in events]

    async def code(self) -> int:
        """Wait for its end; the exit code."""
        async with asyncio.timeout(60):
            return await self._ended()


@asynccontextmanager
async def supervised(folder: Path, stages: Stages = ALL, **policy: Any) -> AsyncIterator[Supervised]:
    one = Supervised(folder, {})
    await one.begin(stages, {**QUICK, **policy})
    try:
        yield one
    finally:
        await one.terminate()


async def test_stages_start_one_after_the_other_and_their_facts_are_merged(tmp_path: Path) -> None:
    """A stage starts when all before it are ready; one line says so, with what each reported."""
    async with supervised(tmp_path) as one:
        started = await one.logged("gateway.started")
        order = one.told("process.started", "process.ready")
        assert ["process.started log", "process.ready log", "process.started deliver", "process.ready deliver"] == (
            order[:4]
        )
        assert ["process.started ingest-0", "process.started ingest-1"] == order[4:6]
        pids = {name: await one.child(name) for name in ("log", "deliver", "ingest-0", "ingest-1")}
        assert pids == {name: started[name] for name in pids}
        assert (started["from"], started["many"]) == ("ingest-1", 200)
        assert 4 == len(set(pids.values()))


async def test_callbacks_do_not_wait_for_a_stage_that_takes_long(tmp_path: Path) -> None:
    """After ``stage_s`` the last stage starts; that all have started is said when it is so, and once."""
    stages: Stages = [[("log", "well")], [("deliver", "late")], [("ingest-0", "well")]]
    async with supervised(tmp_path, stages, stage_s=0.2) as one:
        await one.logged("process.ready", where=lambda line: line["process"] == "ingest-0")
        assert "gateway.started" not in [line["event"] for line in one.lines]
        os.kill(await one.child("deliver"), signal.SIGUSR1)
        assert (await one.logged("gateway.started"))["deliver"] == await one.child("deliver")


async def test_the_first_stage_is_waited_for(tmp_path: Path) -> None:
    """Without the log nothing else can do anything: it may need longer than ``stage_s``."""
    stages: Stages = [[("log", "late"), ("other", "well")], [("deliver", "well")]]
    async with supervised(tmp_path, stages, stage_s=0.01) as one:
        await one.logged("process.ready", where=lambda line: line["process"] == "other")
        os.kill(await one.child("log"), signal.SIGUSR1)
        await one.logged("gateway.started")
        order = one.told("process.started", "process.ready")
        assert order.index("process.ready log") < order.index("process.started deliver")


@pytest.mark.parametrize(
    ("behaviour", "code", "line"),
    [
        ("exit:3", 3, None),
        ("exit:2", 2, None),
        ("broken", 1, {"event": "gateway.failed", "error": "the disk is gone", "process": "deliver"}),
        ("crash", 70, {"event": "process.crashed", "process": "deliver"}),
    ],
)
async def test_a_failure_before_the_start_ends_everything(
    tmp_path: Path, behaviour: str, code: int, line: dict[str, str] | None
) -> None:
    """With the code of the child; those that had started are stopped, and nothing else is started."""
    async with supervised(tmp_path, [[("log", "well")], [("deliver", behaviour)], [("ingest-0", "well")]]) as one:
        assert await one.code() == code
        assert ["process.started log", "process.started deliver", "process.gave_up deliver", "process.ended log"] == (
            one.told("process.started", "process.gave_up", "process.ended")
        )
        if line is not None:
            (found,) = [one for one in one.lines if one["event"] == line["event"]]
            assert line == {key: found[key] for key in line}
        assert not any("6281234567890" in json.dumps(one) for one in one.lines)


async def test_a_child_that_was_ready_or_did_not_fail_is_started_again_before_the_start(tmp_path: Path) -> None:
    """One that somebody stopped by SIGTERM; and one that takes callbacks does not wait for the others to be useful."""
    stages: Stages = [[("log", "ends_with_7")], [("deliver", "late"), ("other", f"once:{tmp_path}/once")]]
    async with supervised(tmp_path, stages) as one:
        await one.logged("process.ready", where=lambda line: line["process"] == "other")
        os.kill(await one.child("log"), signal.SIGTERM)
        await one.logged("process.ready", where=lambda line: line["process"] == "log", count=2)
        os.kill(await one.child("deliver"), signal.SIGUSR1)
        await one.logged("gateway.started")
        died = {line["process"]: line["code"] for line in one.lines if line["event"] == "process.died"}
        assert {"other": 0, "log": 7} == died


async def test_a_final_code_ends_everything_at_any_time(tmp_path: Path) -> None:
    """A configuration that cannot be used does not become better by another start."""
    stages: Stages = [[("log", "well")], [("deliver", "ends_with_2"), ("ingest-0", "well")]]
    async with supervised(tmp_path, stages) as one:
        await one.logged("gateway.started")
        os.kill(await one.child("deliver"), signal.SIGTERM)
        assert await one.code() == 2
        assert ["process.gave_up deliver"] == one.told("process.gave_up", "process.died")


async def test_each_child_that_dies_is_started_again(tmp_path: Path) -> None:
    """By SIGKILL, or by an exit code of its own after the start; the others stay, and all know the count."""
    stages: Stages = [[("log", "well")], [("deliver", "ends_with_7")], [("ingest-0", "well"), ("ingest-1", "well")]]
    async with supervised(tmp_path, stages) as one:
        await one.logged("gateway.started")
        for dead, number, code in (
            ("log", signal.SIGKILL, -9),
            ("deliver", signal.SIGTERM, 7),
            ("ingest-1", signal.SIGKILL, -9),
        ):
            before = {name: await one.child(name) for name in ("log", "deliver", "ingest-0", "ingest-1")}
            os.kill(before[dead], number)
            await one.logged("process.ready", where=lambda line, dead=dead: line["process"] == dead, count=2)  # type: ignore[misc]
            after = {name: await one.child(name) for name in before}
            assert {name for name in before if before[name] != after[name]} == {dead}
            (died,) = [line for line in one.lines if line["event"] == "process.died" and line["process"] == dead]
            assert (died["code"], died["pid"]) == (code, before[dead])
        os.kill(await one.child("ingest-0"), signal.SIGUSR1)
        looked = await one.logged("child.looked")
        assert looked["restarts"] == {"log": 1, "deliver": 1, "ingest-0": 0, "ingest-1": 1}
        assert 1 == sum(line["event"] == "gateway.started" for line in one.lines)
        assert await one.terminate() == 7


@pytest.mark.parametrize(("healthy_s", "pauses"), [(600.0, [0.05, 0.1, 0.1]), (0.0, [0.05, 0.05, 0.05])])
async def test_a_child_that_keeps_dying_is_started_ever_more_slowly(
    tmp_path: Path, healthy_s: float, pauses: list[float]
) -> None:
    """The pause doubles up to its bound, and is forgotten after a life of ``healthy_s``."""
    async with supervised(tmp_path, [[("log", "well")]], last_pause_s=0.1, healthy_s=healthy_s) as one:
        for count in range(1, 4):
            await one.logged("process.ready", count=count)
            os.kill(await one.child("log"), signal.SIGKILL)
        await one.logged("process.died", count=3)
        assert pauses == [line["restart_in_s"] for line in one.lines if line["event"] == "process.died"]


async def test_sigterm_ends_all(tmp_path: Path) -> None:
    """Twice does no harm: every child ends by itself, and the exit code is 0."""
    async with supervised(tmp_path) as one:
        await one.logged("gateway.started")
        deliver = await one.child("deliver")
        os.kill(deliver, signal.SIGSTOP)  # so that it has not ended before the second comes
        os.kill(one.pid, signal.SIGTERM)
        os.kill(one.pid, signal.SIGTERM)
        os.kill(deliver, signal.SIGCONT)
        assert await one.code() == 0
        ended = {line["process"]: line["code"] for line in one.lines if line["event"] == "process.ended"}
        assert {"log": 0, "deliver": 0, "ingest-0": 0, "ingest-1": 0} == ended
        assert one.lines[-1]["event"] == "gateway.stopped"


async def test_ctrl_c_before_the_start_ends_all(tmp_path: Path) -> None:
    """Also while a stage is waited for; the exit code is that of every command that Ctrl-C stops."""
    async with supervised(tmp_path, [[("log", "late")], [("deliver", "well")]]) as one:
        await one.logged("process.started")
        os.kill(one.pid, signal.SIGINT)
        os.kill(await one.child("log"), signal.SIGUSR1)
        assert await one.code() == 130
        assert ["process.started log"] == one.told("process.started")


@linux
async def test_a_child_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    """After ``stop_s``, and the exit code tells; one that is suspended too."""
    async with supervised(tmp_path, [[("log", "stubborn"), ("deliver", "well"), ("other", "well")]], stop_s=0.3) as one:
        await one.logged("gateway.started")
        os.kill(await one.child("deliver"), signal.SIGSTOP)
        stopped = await one.child("deliver")
        await until(lambda: _state(stopped) == "T")  # otherwise SIGTERM may be first, and it ends by itself
        os.kill(one.pid, signal.SIGTERM)
        assert await one.code() == 1
        assert ["process.killed log", "process.killed deliver"] == one.told("process.killed")


async def test_hangup_reaches_those_that_read_the_configuration(tmp_path: Path) -> None:
    """And ends none, not even one that has no handler yet."""
    async with supervised(tmp_path, [[("deliver-0", "well"), ("ingest-0", "well"), ("deliver-1", "late")]]) as one:
        for name in ("deliver-0", "ingest-0"):
            await one.logged("process.ready", where=lambda line, name=name: line["process"] == name)  # type: ignore[misc]
        os.kill(one.pid, signal.SIGHUP)
        assert (await one.logged("child.reloaded"))["process"] == "deliver-0"
        await one.logged("child.waits")  # before it blocks it, a signal would end it
        os.kill(await one.child("deliver-1"), signal.SIGUSR1)
        await one.logged("gateway.started")
        os.kill(await one.child("ingest-0"), signal.SIGUSR1)
        await one.logged("child.looked")
        assert "child.reloaded ingest-0" not in one.told("child.reloaded")
        assert [] == one.told("process.died")


@linux
async def test_children_do_not_outlive_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    """The kernel ends them, so that the next supervisor finds the journal free."""
    async with supervised(tmp_path) as one:
        await one.logged("gateway.started")
        pids = [await one.child(name) for name in ("log", "deliver", "ingest-0", "ingest-1")]
        async with asyncio.timeout(10):
            await one.kill()  # its standard error ends when the last child has closed it
            for pid in pids:
                await _ended(pid)


@linux
async def test_children_inherit_nothing_but_what_is_theirs(tmp_path: Path) -> None:
    """Of files: its socket, output and no input. A session and a name of its own."""
    async with supervised(tmp_path) as one:
        await one.logged("gateway.started")
        os.kill(await one.child("ingest-0"), signal.SIGKILL)
        await one.logged("process.ready", where=lambda line: line["process"] == "ingest-0", count=2)
        for count, name in enumerate(("log", "deliver", "ingest-0", "ingest-1"), start=1):
            pid = await one.child(name)
            os.kill(pid, signal.SIGUSR1)
            looked = await one.logged("child.looked", count=count)
            assert looked["process"] == name
            assert looked["session"] == pid
            files = looked["fds"]
            assert (files.pop("0"), files.pop("1"), files.pop("2")) == ("/dev/null", "/dev/null", "pipe")
            assert ["socket"] == [what for what in files.values() if what != f"/proc/{pid}/fd"]
            assert _name(pid) == f"gw:{name}"


@linux
async def test_a_child_that_cannot_be_forked_is_tried_again(tmp_path: Path) -> None:
    """The machine has no process left, for a while."""
    async with supervised(tmp_path, [[("log", "well")], [("deliver", "well")]], no_processes=True) as one:
        failed = await one.logged("process.not_started", count=2)
        assert "temporarily unavailable" in failed["error"]
        os.kill(one.pid, signal.SIGUSR2)
        await one.logged("gateway.started")
        assert await one.terminate() == 0


@linux
async def test_connections_wait_while_a_process_is_started_again(tmp_path: Path) -> None:
    """The port stays: the supervisor holds it, until all is to stop."""
    async with supervised(tmp_path, [[("log", "serve")]], first_pause_s=0.5) as one:
        await one.logged("gateway.started")
        before = await one.child("log")
        port = _port(before)
        os.kill(before, signal.SIGKILL)
        await one.logged("process.died")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answered = int(await reader.read())
        await one.logged("process.started", where=lambda line: line["pid"] == answered)
        assert answered == await one.child("log") != before
        writer.close()
        assert await one.terminate() == 0
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _port(pid: int) -> int:
    """Of the only socket of a process."""
    (link,) = [link for link in map(os.readlink, Path(f"/proc/{pid}/fd").iterdir()) if "socket" in link]
    inode = link.removeprefix("socket:[").removesuffix("]")
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()]
    return next(int(row[1].rpartition(":")[2], 16) for row in rows if row[9] == inode)


async def _ended(pid: int) -> None:
    """Return when a process has ended, whoever its parent is (pidfd_open(2))."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(fd, ended.set)
    try:
        await ended.wait()
    finally:
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)


def _state(pid: int) -> str:
    """``T`` is suspended, ``Z`` a zombie (proc(5)); ``X`` where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def test_a_port_in_use_is_a_clear_error() -> None:
    """Noticed before any process starts."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"^ingest\.port: 127\.0\.0\.1:{port} cannot be used: "):
            listen("ingest.port", "127.0.0.1", port)


def test_a_name_that_does_not_exist_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match=r"^admin\.port: no\.such\.invalid:0 cannot be used: "):
        listen("admin.port", "no.such.invalid", 0)


@pytest.mark.parametrize(
    ("host", "family"), [("127.0.0.1", socket.AF_INET), ("localhost", socket.AF_INET), ("::1", socket.AF_INET6)]
)
def test_a_port_of_either_family_listens(host: str, family: int) -> None:
    """Connections are taken before anybody accepts them, and the port can be had again at once."""
    if host == "::1" and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with listen("ingest.port", host, 0) as first:
        assert first.family == family
        port = first.getsockname()[1]
        socket.create_connection((first.getsockname()[0], port), timeout=5).close()
    with listen("ingest.port", host, port) as again:
        assert again.getsockname()[1] == port
