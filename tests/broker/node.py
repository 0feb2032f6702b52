"""One broker process: start, wait until it answers, kill, suspend, start again on the same port and data."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.broker import assembly
from tests.waiting import until_so

#: Starting on a busy machine of two cores; a healthy one is up in three seconds.
START_S: Final = 180.0
STOP_S: Final = 20.0
#: The C1 compiler and the serial collector: a test broker lives for a minute, so start-up is what counts.
_JVM: Final = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Xms96m", "-Xmx256m")


def java(jars: Path, *arguments: str) -> list[str]:
    """A command line that runs a class of Kafka's."""
    return ["java", *_JVM, "-cp", f"{jars}/*", *arguments]


@dataclass(slots=True)
class Node:
    """A broker and controller in one process.

    Args:
        number: ``node.id``, from 1.
        folder: holds ``server.properties``, ``out.log`` and the data.
        jars: Kafka's libraries.
        port: of the plain listener.
    """

    number: int
    folder: Path
    jars: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """The process is there (it may be suspended)."""
        return self.process is not None and self.process.poll() is None

    def launch(self, *flags: str, environment: Mapping[str, str] | None = None) -> None:
        """Start the process and return at once.

        Args:
            flags: of the JVM; without any it takes its classes from where they are kept.
            environment: of the process; that of this one unless given.
        """
        with (self.folder / "out.log").open("ab") as out:
            self.process = subprocess.Popen(
                java(
                    self.jars,
                    *(flags or (f"-XX:SharedArchiveFile={assembly.class_archive()}",)),
                    f"-Dlog4j2.configurationFile=file:{self.folder.parent / 'log4j2.properties'}",
                    "kafka.Kafka",
                    str(self.folder / "server.properties"),
                ),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Return when clients can connect: Kafka opens its client port as the last step of its start.

        Raises:
            RuntimeError: the process ended or was not ready in time; the message ends with its last lines.
        """
        with suppress(TimeoutError):
            until_so(lambda: self._answers() or not self.is_running, within_s=START_S)
        if not self._answers():
            raise RuntimeError(f"Kafka node {self.number} did not start:\n{self.last_lines()}")

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def start(self, *flags: str) -> None:
        """Start, or start again on the same port and data, and wait until it answers. See :meth:`launch`."""
        self.launch(*flags)
        self.wait_ready()

    def kill(self) -> None:
        """SIGKILL: as a crash of the process. What it acknowledged is still in the page cache."""
        self._signal(signal.SIGKILL)

    def stop(self, within_s: float = STOP_S) -> None:
        """An orderly stop: leadership is handed over first. Falls back to SIGKILL after some seconds."""
        self._signal(signal.SIGTERM, within_s)

    def suspend(self) -> None:
        """SIGSTOP: connections stay open and nothing answers, as on a hung machine."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after :meth:`suspend`."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def last_lines(self) -> str:
        """The end of its log."""
        return "\n".join((self.folder / "out.log").read_text(errors="replace").splitlines()[-15:])

    def _signal(self, number: signal.Signals, within_s: float = STOP_S) -> None:
        if self.process is None or not self.is_running:
            return
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(number)
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
