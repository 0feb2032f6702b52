"""The processes of one machine, and what they share: the wiring between :mod:`gateway.supervisor` and the parts.

    run, serve     log ── deliver ── ingest-0, ingest-1, …
    fanout         deliver-0, deliver-1, …

Ports are opened here, before there is a process that accepts on them, so that they outlive each of these: while one is
started again, connections wait. Unix sockets are in the folder ``run`` of the journal's folder, which only the user of
the gateway can enter. ``fanout`` has no journal and uses a temporary folder; so does a journal on a file
system without sockets.

In each process, :func:`run_part` decides what a signal does at each moment, and how long a stop may take.
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import structlog

from gateway import __version__, machine, sockets
from gateway.app import App, Part, Role, Shared
from gateway.child import Child
from gateway.config.settings import Settings
from gateway.errors import Broken, ConfigError, GatewayError
from gateway.eventloop import loop_factory
from gateway.log.journal import files
from gateway.supervisor import Supervisor
from gateway.telemetry import logs

#: The folder of sockets, in the journal's.
_RUN: Final = "run"
#: For the ports: after SIGKILL of a supervisor its processes have them for the time that it takes to begin a stop.
_PORT_WAIT_S: Final = 3.0
#: Kubernetes kills after 30 s; the parts together stay below this, and this below that.
STOP_S: Final = 25.0
#: While processors are short, taking and storing callbacks go first: by Linux' weights a process of this niceness gets
#: a third of what one of 0 gets. Delivering later costs nothing but time; the log is the buffer.
DELIVER_NICENESS: Final = 5
#: Where Linux groups processes by session, niceness counts inside a session only, and the group's own counts between
#: them (``sched(7)``, "The autogroup feature").
_AUTOGROUP: Final = Path("/proc/self/autogroup")

_log = structlog.get_logger("gateway.app")


def run(settings: Settings, config_path: Path | None = None, *, role: Role = "run", workers: int = 1) -> int:
    """Run the processes of this machine until SIGTERM or SIGINT; the exit code.

    Args:
        settings: the whole configuration.
        config_path: watched for changes of subscribers.
        role: which parts the gateway has.
        workers: processes that take callbacks; with ``fanout``, that deliver.
    """
    logs.configure(settings.log.level, settings.log.format)
    machine.raise_descriptor_limit()
    machine.fill_standard()
    try:
        if role != "run" and settings.kafka is None:
            raise ConfigError([f"kafka: 'gateway {role}' needs topics; without Kafka use 'gateway run'"])
        with _run_folder(settings, role) as folder:
            return _Machine(settings, config_path, role, folder).run(workers)
    except GatewayError as exc:
        _log.error("gateway.failed", error=str(exc))
        return exc.exit_code


@contextmanager
def _run_folder(settings: Settings, role: Role) -> Iterator[Path]:
    folder = Path(settings.journal.dir) / _RUN
    if role != "fanout":
        try:
            files.make_folder(folder)
            os.chmod(folder, files.FOLDER_MODE)
        except OSError as exc:
            raise Broken(f"{folder}: cannot be made: {exc.strerror or exc}; journal.dir must be writable") from exc
        if _takes_sockets(folder):
            yield folder
            return
    with TemporaryDirectory(prefix="gateway-") as made:
        yield Path(made)


def _takes_sockets(folder: Path) -> bool:
    """Return whether a socket can be opened here: some file systems that containers mount have none."""
    probe = folder / f"probe-{secrets.token_hex(4)}"
    try:
        sockets.listen_locally(probe).close()
    except Broken as exc:
        _log.warning("sockets.elsewhere", reason=str(exc), advice="the processes use a temporary folder instead")
        return False
    probe.unlink(missing_ok=True)
    return True


def _listen(key: str, host: str, port: int) -> socket.socket:
    return sockets.listen(key, host, port, _PORT_WAIT_S)


class _Machine:
    """Opens what is shared, and makes the children.

    Args:
        folder: of the Unix sockets.
    """

    def __init__(self, settings: Settings, config_path: Path | None, role: Role, folder: Path) -> None:
        self._settings = settings
        self._config_path = config_path
        self._role: Role = role
        self._folder = folder
        # A name of its own: another gateway may be using the folder, which the log process finds out.
        self._link = folder / f"log-{secrets.token_hex(4)}.link"
        self._supervisor: Supervisor | None = None

    def run(self, workers: int) -> int:
        """Run them all; the exit code."""
        try:
            return self._run(workers)
        finally:
            self._link.unlink(missing_ok=True)

    def _run(self, workers: int) -> int:
        ingest, admin = self._settings.ingest, self._settings.admin
        taking = None if self._role == "fanout" else _listen("ingest.port", ingest.host, ingest.port)
        shared = Shared(ingest=taking, admin=_listen("admin.port", admin.host, admin.port), restarts=self._restarts)
        stages = self._deliverers if self._role == "fanout" else self._around_a_log
        self._supervisor = Supervisor(stages(shared, workers), on_started=self._started, reload="deliver")
        return self._supervisor.run()

    def _deliverers(self, shared: Shared, workers: int) -> list[list[Child]]:
        """Return the processes of ``fanout``; the first has the admin port."""
        names = [f"deliver-{number}" for number in range(workers)]
        shared = replace(shared, reports=self._reports(names))
        first, *others = (
            self._child("deliver", name, shared if number == 0 else replace(shared, admin=None))
            for number, name in enumerate(names)
        )
        return [[first, *others]]

    def _around_a_log(self, shared: Shared, workers: int) -> list[list[Child]]:
        """Return the processes of ``run`` and ``serve``; followers know the log's end before a callback is accepted."""
        names = [f"ingest-{number}" for number in range(workers)]
        listening = sockets.listen_locally(self._link)
        shared = replace(shared, log=self._link, reports=self._reports(["log", "deliver", *names]))
        inner = replace(shared, ingest=None, admin=None)
        return [
            [self._child("log", "log", replace(inner, log_listening=listening))],
            [self._child("deliver", "deliver", replace(inner, admin=shared.admin))],
            [self._child("ingest", name, replace(inner, ingest=shared.ingest)) for name in names],
        ]

    def _reports(self, names: Sequence[str]) -> Mapping[str, Path]:
        return {name: self._folder / f"{name}.report" for name in names}

    def _child(self, part: Part, name: str, shared: Shared) -> Child:
        def make() -> App:
            return App(self._settings, self._config_path, role=self._role, part=part, name=name, shared=shared)

        inherited = [one for one in (shared.log_listening, shared.ingest, shared.admin) if one is not None]
        is_beside_ingest = part == "deliver" and self._role != "fanout"
        niceness = DELIVER_NICENESS if is_beside_ingest else 0
        return Child(name, partial(run_part, make, niceness=niceness), inherited)

    def _restarts(self) -> Mapping[str, int]:
        return {} if self._supervisor is None else self._supervisor.restarts()

    def _started(self, facts: Mapping[str, object]) -> None:
        _log.info("gateway.started", version=__version__, role=self._role, **facts)


def run_part(app: Callable[[], App], ready: Callable[[Mapping[str, object]], None], *, niceness: int = 0) -> int:
    """Run one process of the gateway until SIGTERM or SIGINT; the exit code.

    A second signal changes nothing: the stop is bounded anyway.

    Args:
        app: makes it, on the event loop.
        ready: called once it serves.
        niceness: added to the process' own; more than 0 lets others go first.

    Raises:
        GatewayError: it cannot start, or cannot continue.
    """
    if niceness:
        _let_others_go_first(niceness)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_run(app, ready))


def _let_others_go_first(niceness: int) -> None:
    with suppress(OSError):  # a sandbox may forbid it; then all have the same share
        os.nice(niceness)
        _AUTOGROUP.write_text(str(niceness))


async def _run(make: Callable[[], App], ready: Callable[[Mapping[str, object]], None]) -> int:
    app = make()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    # In every part and from the first moment to the last: by default the signal would kill us.
    loop.add_signal_handler(signal.SIGHUP, app.reload.set)
    facts = await _started(app, stopping)
    if facts is not None:
        # What lives as long as the process need not be walked by every collection.
        gc.collect()
        gc.freeze()
        ready(facts)
        ends = [asyncio.create_task(event.wait()) for event in (stopping, app.failed)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    try:
        async with asyncio.timeout(STOP_S):
            await app.stop()
    except TimeoutError as exc:
        raise Broken(
            f"the stop took longer than {STOP_S:g} s; what was answered with success is in the journal"
        ) from exc
    if app.failed.is_set():
        raise Broken(app.failure)
    return 0


async def _started(app: App, stopping: asyncio.Event) -> dict[str, object] | None:
    """Start it, and break that off when it is to stop: a start may wait for a lock, the log process, or an old journal.

    Returns what the start does; None when it was broken off.
    """
    starting = asyncio.create_task(app.start(), name="start")
    asked = asyncio.create_task(stopping.wait())
    await asyncio.wait([starting, asked], return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if starting.done():
        return starting.result()
    starting.cancel()
    await asyncio.wait([starting], timeout=STOP_S)
    if starting.done() and not starting.cancelled() and (error := starting.exception()) is not None:
        _log.warning("gateway.start_broken_off", error=str(error))
    return None
