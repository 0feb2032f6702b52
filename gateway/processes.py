"""The processes of one machine, and what they share: the wiring between :mod:`gateway.supervisor` and the parts.

    run, serve     log ── deliver ── ingest-0, ingest-1, …
    fanout         deliver-0, deliver-1, …

Ports are opened here, before there is a process that accepts on them, so that they outlive each of these: while one is
started again, connections wait. Unix sockets are in the folder ``run`` of the journal's folder, which only the user of
the gateway can enter. ``fanout`` has no journal and uses a temporary folder; so does a journal on a file
system without sockets.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import structlog

from gateway import __version__, descriptors, sockets
from gateway.app import App, Part, Role, Shared
from gateway.child import Child
from gateway.config.settings import Settings
from gateway.errors import Broken, ConfigError, GatewayError
from gateway.log.journal import files
from gateway.process import DELIVER_NICENESS, run_part
from gateway.supervisor import Supervisor
from gateway.telemetry import logs

#: The folder of sockets, in the journal's.
_RUN: Final = "run"
#: For the ports: after SIGKILL of a supervisor its processes have them for the time that it takes to begin a stop.
_PORT_WAIT_S: Final = 3.0

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
    descriptors.raise_limit()
    descriptors.fill_standard()
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
