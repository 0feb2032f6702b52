"""Reports of other processes: asked, merged, summed, and shown; with real processes that answer, hang, or are gone."""

from __future__ import annotations

import asyncio
import signal
import socket
import stat
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.admin.parts import UNKNOWN, Check, Parts, own_report, report
from gateway.admin.rates import Rates
from gateway.admin.server import AdminServer
from gateway.config.settings import Settings
from gateway.errors import Broken
from gateway.sockets import connected, listen, listen_locally
from gateway.telemetry.metric_catalogue import CATALOGUE, Kind
from gateway.telemetry.metrics import Counts, Metrics, bucket
from gateway.telemetry.reports import Merged, Report, Reports, ReportServer, families
from tests.waiting import turn, until

Start = Callable[..., Any]


class Reporting:
    """A process that reports."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def counted(self) -> None:
        """Wait until it has counted."""
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            assert await self.process.stdout.readline()

    async def count(self) -> None:
        """Have it count one callback more."""
        self.process.send_signal(signal.SIGUSR1)
        await self.counted()

    async def kill(self) -> None:
        """SIGKILL."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def reporting(path: Path, name: str, callbacks: int = 0, problem: str = "") -> AsyncIterator[Reporting]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.admin.reporting", str(path), name, str(callbacks), problem,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    one = Reporting(process)
    try:
        await one.counted()
        yield one
    finally:
        await one.kill()


async def test_a_process_that_answers_one_that_hangs_and_one_that_is_gone(tmp_path: Path) -> None:
    """What does not answer is unknown, after a second at most, and known again as soon as it answers."""
    paths = {name: tmp_path / f"{name}.sock" for name in ("ingest-0", "ingest-1", "ingest-2", "never")}
    reports = Reports("deliver", paths)
    async with (
        reporting(paths["ingest-0"], "ingest-0", 3) as one,
        reporting(paths["ingest-1"], "ingest-1") as hanging,
        reporting(paths["ingest-2"], "ingest-2") as gone,
    ):
        found = await reports.ask()
        assert {"ingest-0", "ingest-1", "ingest-2"} == {name for name, report in found.items() if report is not None}
        first = found["ingest-0"]
        assert first is not None
        assert (first.process, first.pid, first.is_ready) == ("ingest-0", one.process.pid, True)
        assert time.time() - 60 < first.started_at <= time.time()
        assert first.checks == {"link": "", "kafka": "away"}
        hanging.process.send_signal(signal.SIGSTOP)
        await gone.kill()
        before = time.monotonic()
        found = await reports.ask()
        assert 0.9 < time.monotonic() - before < 5
        assert {"ingest-0"} == {name for name, report in found.items() if report is not None}
        hanging.process.send_signal(signal.SIGCONT)
        assert (await reports.ask())["ingest-1"] is not None
    assert set((await reports.ask()).values()) == {None}


async def test_those_who_ask_at_the_same_time_share_one_answer(tmp_path: Path) -> None:
    """A probe, a scrape and the console cost one question; one who gives up does not take it from the others."""
    asked = []

    def make(with_metrics: bool) -> Report:
        asked.append(with_metrics)
        return Report("log", 1, 0.0, True, {}, Counts())

    server = ReportServer(tmp_path / "log.sock", make)
    await server.start()
    reports = Reports("deliver", {"log": tmp_path / "log.sock"})
    impatient = asyncio.create_task(reports.ask())
    others = [asyncio.create_task(reports.ask()) for _ in range(5)]
    await turn()
    impatient.cancel()
    found = await asyncio.gather(*others)
    assert (len(asked), {one["log"].pid for one in found if one["log"] is not None}) == (1, {1})
    assert (await reports.ask(with_metrics=True))["log"] is not None
    assert asked == [False, True]
    await server.stop()
    await server.stop()
    assert not (tmp_path / "log.sock").exists()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0\0",
        struct.pack(">I", 100) + b"{}",
        struct.pack(">I", 2) + b"{}",
        struct.pack(">I", 4) + b"null",
        struct.pack(">I", 5) + b"[1,2",
        struct.pack(">I", 2**31) + b"x",
    ],
)
async def test_half_an_answer_is_none(tmp_path: Path, answer: bytes) -> None:
    """A process that is killed in the middle, or is of another version."""

    async def write(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(write, sock=listen_locally(tmp_path / "log.sock"))
    async with server:
        assert {"log": None} == await Reports("deliver", {"log": tmp_path / "log.sock"}).ask()


async def test_a_socket_may_have_a_long_path_and_is_ours_alone(tmp_path: Path) -> None:
    """Longer than an address has room for; one that a process left behind is replaced."""
    folder = tmp_path.joinpath(*["a-folder-of-forty-characters-or-some-more"] * 4)
    folder.mkdir(parents=True)
    path = folder / "ingest-0.sock"
    assert len(str(path)) > 107
    listen_locally(path).close()
    with pytest.raises(ConnectionRefusedError):
        connected(path)
    async with reporting(path, "ingest-0"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert (await Reports("deliver", {"ingest-0": path}).ask())["ingest-0"] is not None


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(Broken, match=r"/no/log\.sock: no socket can be opened here: No such file"):
        listen_locally(tmp_path / "no/log.sock")


def test_metrics_of_several_processes_are_one_text() -> None:
    """Each family once, each sample under its process; one about a process keeps the name of that."""
    registries = {}
    for number, name in enumerate(("deliver", "ingest-0", "ingest-1")):
        metrics = Metrics(CollectorRegistry())
        metrics.counter("gateway_connections_closed").labels("any", "full").inc(number)
        metrics.histogram("gateway_callback_answer_seconds").labels("sms-dr").observe(0.001)
        metrics.gauge("gateway_process_up").labels("ingest-0").set(1)
        registries[name] = metrics.registry
    registry = CollectorRegistry()
    registry.register(Merged({name: families(name, own) for name, own in registries.items()}))
    text = generate_latest(registry).decode()
    assert text.count("# TYPE gateway_connections_closed_total counter") == 1
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    found = {one.labels["process"]: one.value for one in samples if one.name == "gateway_connections_closed_total"}
    assert {"deliver": 0.0, "ingest-0": 1.0, "ingest-1": 2.0} == found
    assert [{"process": "ingest-0"}] == [one.labels for one in samples if one.name == "gateway_process_up"]
    buckets = [
        one for one in samples if one.name == "gateway_callback_answer_seconds_bucket" and one.labels["le"] == "+Inf"
    ]
    assert {"ingest-0", "ingest-1"} == {one.labels["process"] for one in buckets}


@pytest.mark.parametrize("process", ["log", "deliver", "deliver-1", "ingest-0", "ingest-12"])
def test_a_process_reports_what_its_kind_counts_and_nothing_else(process: str) -> None:
    """Over the whole catalogue: what another kind counts is missing, not 0; what is every process's own is there."""
    kind = process.partition("-")[0]
    found = {one.name for one in own_report(process, 0.0, {}, with_metrics=True).families}
    assert {metric.name for metric in CATALOGUE if kind in metric.processes} == found & {one.name for one in CATALOGUE}
    assert {"process_start_time_seconds", "python_info"} <= found


def test_every_metric_belongs_to_a_kind_of_process() -> None:
    kinds = set(get_args(Kind))
    assert all(metric.processes and kinds.issuperset(metric.processes) for metric in CATALOGUE)
    assert kinds == {process for metric in CATALOGUE for process in metric.processes}


# -- readiness -----------------------------------------------------------------------------------------------------


def well(name: str, *, is_ready: bool = True) -> Report:
    return Report(name, 1, 0.0, is_ready, {"link": "" if is_ready else "the log does not answer"}, Counts())


OWN = {"journal": lambda: Check("journal", "")}
ILL = {"journal": lambda: Check("journal", "the disk is full")}


@pytest.mark.parametrize(
    ("checks", "others", "is_ready"),
    [
        (OWN, None, True),
        (ILL, None, False),
        (OWN, {"log": well("log"), "ingest-0": well("ingest-0")}, True),
        (ILL, {"log": well("log"), "ingest-0": well("ingest-0")}, False),
        (OWN, {"log": None, "ingest-0": well("ingest-0")}, True),
        (OWN, {"log": well("log"), "ingest-0": None, "ingest-1": well("ingest-1")}, True),
        (OWN, {"log": well("log"), "ingest-0": None, "ingest-1": None}, False),
        (OWN, {"ingest-0": well("ingest-0", is_ready=False), "ingest-1": well("ingest-1")}, False),
        (OWN, {"deliver-1": None}, True),
        (OWN, {"deliver-1": well("deliver-1", is_ready=False)}, False),
    ],
)
def test_ready_is_what_can_take_callbacks(checks: Any, others: Any, is_ready: bool) -> None:
    """All that is needed here, no process that says it is not ready, and one that takes callbacks."""
    found, texts = report(checks, others)
    assert found == is_ready
    for name, one in (others or {}).items():
        assert texts[name if one is None else f"{name}.link"] == (
            UNKNOWN if one is None else "ok" if one.is_ready else "the log does not answer"
        )
    assert texts["journal"] == ("ok" if checks is OWN else "the disk is full")


# -- rates ---------------------------------------------------------------------------------------------------------


def counted(name: str, started_at: float, callbacks: int) -> Report:
    found = Counts(
        {("gateway_callbacks", ("sms-dr", "accepted")): callbacks},
        durations={("gateway_callback_answer_seconds", ("sms-dr",)): {bucket(0.0015): callbacks}},
    )
    return Report(name, int(started_at), started_at, True, {}, found)


def test_rates_are_of_all_processes_and_never_negative() -> None:
    """A process that is started again counts from 0; one that did not answer has its share later."""
    rates = Rates(Metrics(CollectorRegistry()))

    def take(now: float, **others: Report | None) -> float:
        values = rates.take(now, {}, {name.replace("_", "-"): one for name, one in others.items()}).values
        assert all(value >= 0 for value in values.values())
        return values.get("callback:sms-dr:rate", 0.0)

    # Both have counted since long before the console looked.
    assert 0 == take(100.0, ingest_0=counted("ingest-0", 10.0, 1000), ingest_1=counted("ingest-1", 10.0, 500))
    assert rates.total("gateway_callbacks", "sms-dr", "accepted") == 1500
    assert 30 == take(102.0, ingest_0=counted("ingest-0", 10.0, 1040), ingest_1=counted("ingest-1", 10.0, 520))
    assert rates.quantile("gateway_callback_answer_seconds", 0.5, "sms-dr") == pytest.approx(0.0015, rel=0.01)
    # One does not answer, was started again, and has counted since.
    assert 20 == take(104.0, ingest_0=counted("ingest-0", 10.0, 1080), ingest_1=None)
    assert 25 == take(106.0, ingest_0=counted("ingest-0", 10.0, 1120), ingest_1=counted("ingest-1", 105.0, 10))
    assert rates.total("gateway_callbacks", "sms-dr", "accepted") == 1120 + 520 + 10
    # A process that is new, and one that was only not seen so far.
    assert 4 == take(108.0, ingest_2=counted("ingest-2", 107.0, 8), ingest_3=counted("ingest-3", 20.0, 9000))
    assert rates.total("gateway_callbacks") == 1120 + 520 + 10 + 8 + 9000
    assert 0 == take(110.0)


# -- the admin port ------------------------------------------------------------------------------------------------


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as one:
        yield one


async def test_the_admin_port_speaks_for_all_processes(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    """Metrics, readiness and the console's first page, on a socket that was opened before."""
    paths = {name: tmp_path / f"{name}.sock" for name in ("ingest-0", "ingest-1")}
    settings = Settings.model_validate({"admin": {"port": 0}})
    lives = {"deliver": 0, "ingest-0": 2, "ingest-1": 0}
    metrics = Metrics(CollectorRegistry())
    parts = Parts(settings, "run", OWN, metrics.registry, reports=Reports("deliver", paths, lambda: dict(lives)))
    listener = listen("admin.port", "127.0.0.1", 0)
    port = listener.getsockname()[1]
    async with reporting(paths["ingest-0"], "ingest-0", 5) as one, reporting(paths["ingest-1"], "ingest-1", 2) as two:
        server = AdminServer(parts, listener)
        await server.start()
        try:
            assert server.port == port
            url = f"http://127.0.0.1:{port}"

            async def metric(name: str) -> dict[str, float]:
                async with session.get(f"{url}/metrics") as response:
                    found = text_string_to_metric_families(await response.text())
                    samples = [sample for family in found for sample in family.samples if sample.name == name]
                    return {sample.labels["process"]: sample.value for sample in samples}

            async def get(path: str) -> tuple[int, Any]:
                async with session.get(url + path) as response:
                    return response.status, await response.json()

            assert {"ingest-0": 5.0, "ingest-1": 2.0} == await metric("gateway_callbacks_total")
            status, ready = await get("/readyz")
            assert (200, True) == (status, ready["ready"])
            known = {"journal": "ok", "ingest-0.link": "ok", "ingest-0.kafka": "away"}
            assert known.items() <= ready["checks"].items()

            two.process.send_signal(signal.SIGSTOP)
            lives["ingest-0"] += 1
            assert {"deliver": 1.0, "ingest-0": 1.0, "ingest-1": 0.0} == await metric("gateway_process_up")
            assert {"deliver": 0.0, "ingest-0": 3.0, "ingest-1": 0.0} == await metric("gateway_process_restarts_total")
            assert {"ingest-0": 5.0} == await metric("gateway_callbacks_total")
            status, ready = await get("/readyz")
            assert (200, UNKNOWN) == (status, ready["checks"]["ingest-1"])

            await one.kill()
            status, ready = await get("/readyz")
            assert (503, False) == (status, ready["ready"])

            async def both_unknown() -> Any:
                _, overview = await get("/api/overview")
                unknown = {row["name"] for row in overview["processes"] if row["pid"] is None}
                return overview if unknown == {"ingest-0", "ingest-1"} else None

            overview = await until(both_unknown, within_s=20)
            own, first, _ = overview["processes"]
            assert (own["name"], own["is_ready"], own["restarts"], own["problems"]) == ("deliver", True, 0, [])
            seen = [first[part] for part in ("name", "is_ready", "started_at", "restarts")]
            assert seen == ["ingest-0", None, None, 3]
            assert first["problems"] == [UNKNOWN]
            assert overview["ready"] is False
        finally:
            two.process.send_signal(signal.SIGCONT)
            await server.stop()


def test_a_report_of_this_process_has_what_is_needed_and_what_is_not() -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.counter("gateway_callbacks").labels("sms-dr", "accepted").inc(2)
    checks = {"kafka": lambda: Check("kafka", "away", is_needed=False), **ILL}
    found = own_report("ingest-0", 5.0, checks, metrics, with_metrics=True)
    assert (found.is_ready, found.checks) == (False, {"kafka": "away", "journal": "the disk is full"})
    (callbacks,) = [one for one in found.families if one.name == "gateway_callbacks"]
    assert callbacks.samples[0] == ("gateway_callbacks_total", {"callback": "sms-dr", "outcome": "accepted"}, 2.0)
    assert found.counts.counters == {("gateway_callbacks", ("sms-dr", "accepted")): 2.0}
    assert own_report("ingest-0", 5.0, checks, metrics).families == ()


async def test_an_admin_port_without_other_processes_has_no_label(session: aiohttp.ClientSession) -> None:
    """Everything in one process, as in tests: metrics are as they are."""
    metrics = Metrics(CollectorRegistry())
    metrics.counter("gateway_http_refused").labels("method").inc()
    parts = Parts(Settings.model_validate({"admin": {"port": 0}}), "run", OWN, metrics.registry)
    server = AdminServer(parts)
    await server.start()
    try:
        async with session.get(f"http://127.0.0.1:{server.port}/metrics") as response:
            assert 'gateway_http_refused_total{reason="method"} 1.0' in await response.text()
        async with session.get(f"http://127.0.0.1:{server.port}/api/overview") as response:
            assert (await response.json())["processes"] == []
    finally:
        await server.stop()


def test_sockets_are_unix_sockets(tmp_path: Path) -> None:
    with listen_locally(tmp_path / "one.sock") as listener:
        assert (listener.family, listener.gettimeout()) == (socket.AF_UNIX, 0.0)
