"""Reports of each process, requested by the process with the admin port.

Every other process serves its report on a Unix socket in a folder of this gateway: a client that connects and names a
kind (one byte) gets one JSON document behind its length (four bytes, the most significant first), and the connection is
closed. There is no hub and no copy: a process that does not answer in a second is unknown, never 0 and never healthy.
The console asks continuously, for what it draws only; a scrape asks for all metrics.

Rejected: the multiprocess mode of prometheus_client, in which processes share files. It knows no gauge that goes away
(``gateway_kafka_up`` of a client that was closed), keeps files of the dead, and slows the counting in hot paths.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from gateway.sockets import connected, listen_locally
from gateway.telemetry.metrics import METRICS, Counts, is_counted_in

#: A probe has 3 s, a scrape 10; a process whose event loop is busy for longer than this is what they look for.
_PATIENCE_S: Final = 1.0
#: Some 300 bytes a series: ten times what 100 subscribers have. More is not ours.
_MOST_BYTES: Final = 16 * 1024 * 1024
_LENGTH: Final = struct.Struct(">I")
#: What is asked: with all metrics, or without.
_WITH_METRICS: Final = b"m"
_WITHOUT_METRICS: Final = b"-"

#: Name of the sample, labels, value.
Sample = tuple[str, dict[str, str], float]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric of one process.

    Args:
        name: as in the catalogue.
        kind: Prometheus' type.
    """

    name: str
    documentation: str
    kind: str
    samples: Sequence[Sample]


@dataclass(frozen=True, slots=True)
class Report:
    """One process.

    Args:
        process: its name, such as ``ingest-0``.
        started_at: Unix seconds; a counter began at 0 then.
        is_ready: everything that it needs holds.
        checks: what each of its checks says; empty where it is healthy.
        counts: what the console draws.
        families: all metrics; empty where they were not asked for.
        subscribers: status of each subscriber that it delivers to, as JSON has it.
    """

    process: str
    pid: int
    started_at: float
    is_ready: bool
    checks: Mapping[str, str]
    counts: Counts
    families: Sequence[Family] = ()
    subscribers: Sequence[Mapping[str, Any]] = ()

    def document(self) -> bytes:
        """Return it as JSON."""
        return orjson.dumps(
            {
                "process": self.process,
                "pid": self.pid,
                "started_at": self.started_at,
                "is_ready": self.is_ready,
                "checks": dict(self.checks),
                "counts": self.counts.document(),
                "families": self.families,
                "subscribers": self.subscribers,
            }
        )


def families(process: str, registry: CollectorRegistry = METRICS.registry) -> list[Family]:
    """Return what a process counts, as a registry has it now.

    Args:
        process: its name, such as ``ingest-0``.
    """
    return [family(metric) for metric in registry.collect() if is_counted_in(metric.name, process)]


def family(metric: Metric) -> Family:
    """Return a metric of the library as one that can be sent, without the unused creation times."""
    samples = [(one.name, one.labels, one.value) for one in metric.samples if not one.name.endswith("_created")]
    return Family(metric.name, metric.documentation, metric.type, samples)


class ReportServer:
    """Serves the report of this process.

    Args:
        path: of the socket; its folder is there.
        make_report: called for each that asks; with all metrics, or without.
    """

    def __init__(self, path: Path, make_report: Callable[[bool], Report]) -> None:
        self._path = path
        self._make_report = make_report
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            Broken: the socket cannot be opened.
        """
        self._server = await asyncio.start_unix_server(self._answer, sock=listen_locally(self._path))

    async def stop(self) -> None:
        """Close. May be called twice, or before :meth:`start`."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            self._path.unlink(missing_ok=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, TimeoutError, EOFError):
                async with asyncio.timeout(_PATIENCE_S):
                    document = self._make_report(await reader.readexactly(1) == _WITH_METRICS).document()
                    writer.write(_LENGTH.pack(len(document)) + document)
                    await writer.drain()
        finally:
            writer.close()


class Reports:
    """Asks the other processes of this gateway.

    Args:
        own: name of this process.
        sockets: where each of the others serves its report, by name.
        restarts: how many times each process was started again, this one included, as the supervisor has it.
    """

    def __init__(self, own: str, sockets: Mapping[str, Path], restarts: Callable[[], Mapping[str, int]] = dict) -> None:
        self.own = own
        self.restarts = restarts
        self._sockets = sockets
        self._asking: dict[bytes, asyncio.Task[dict[str, Report | None]]] = {}

    async def ask(self, *, with_metrics: bool = False) -> Mapping[str, Report | None]:
        """Return the report of each process by name, None where it does not answer in a second.

        Concurrent calls for the same kind share one answer.
        """
        what = _WITH_METRICS if with_metrics else _WITHOUT_METRICS
        if what not in self._asking:
            task = self._asking[what] = asyncio.create_task(self._ask_all(what), name="reports")
            task.add_done_callback(lambda _: self._asking.pop(what))
        return await asyncio.shield(self._asking[what])

    async def _ask_all(self, what: bytes) -> dict[str, Report | None]:
        found = await asyncio.gather(*(_ask(path, what) for path in self._sockets.values()))
        return dict(zip(self._sockets, found, strict=True))


async def _ask(path: Path, what: bytes) -> Report | None:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            reader, writer = await asyncio.open_unix_connection(sock=connected(path), limit=_MOST_BYTES)
            try:
                writer.write(what)
                (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                return _report(await reader.readexactly(length)) if length <= _MOST_BYTES else None
            finally:
                writer.close()
    except (OSError, TimeoutError, EOFError, ValueError, KeyError, TypeError):
        # It is gone, hangs, was killed in the middle, or is of another version.
        return None


def _report(document: bytes) -> Report:
    given: dict[str, Any] = orjson.loads(document)
    found = [
        Family(
            one["name"],
            one["documentation"],
            one["kind"],
            # JSON has no NaN: a value that is none comes as null.
            [(name, labels, value) for name, labels, value in one["samples"] if value is not None],
        )
        for one in given["families"]
    ]
    return Report(
        given["process"],
        given["pid"],
        given["started_at"],
        given["is_ready"],
        given["checks"],
        Counts.parse(given["counts"]),
        found,
        given["subscribers"],
    )


class Merged(Collector):
    """Families of several processes, each once; every sample has the label ``process``.

    A collector of the metrics library.

    Args:
        by_process: what each process counts, by its name.
    """

    def __init__(self, by_process: Mapping[str, Iterable[Family]]) -> None:
        self._families: dict[str, Metric] = {}
        for process, several in by_process.items():
            for one in several:
                self._add(process, one)

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        yield from self._families.values()

    def _add(self, process: str, one: Family) -> None:
        merged = self._families.setdefault(one.name, Metric(one.name, one.documentation, one.kind))
        for name, labels, value in one.samples:
            # One that has the label already is about that process, whichever process counts it.
            merged.add_sample(name, {"process": process, **labels}, value)
