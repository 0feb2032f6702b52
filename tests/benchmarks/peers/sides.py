"""The sides of the comparison: what each promises with its answer, what it needs, how it is started."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.benchmarks import ingest
from tests.benchmarks.machine import Service
from tests.benchmarks.peers import (
    AIOHTTP,
    BARE,
    BENTO,
    FASTAPI,
    GO,
    GRANIAN_AIOKAFKA,
    GRANIAN_CONFLUENT,
    RUN,
    RUST,
    SERVE,
    VECTOR,
    VECTOR_DISK,
)  # fmt: skip
from tests.broker import assembly
from tests.ports import free_port

#: Programs that are built are kept here: Rust's takes minutes.
CACHE: Final = assembly.cache_folder()
FOLDER: Final = Path(__file__).parent
ROOT: Final = FOLDER.parents[2]
OURS: Final = "synced to the disk of the gateway, in its journal"
#: What ``acks=all`` promises, with Kafka's defaults and with a broker that syncs.
ACKS: Final = {False: "in the page cache of Kafka (`acks=all`)", True: "synced to the disk of Kafka (`acks=all`)"}
#: For Vector, in YAML. 256 MiB is the least that Vector takes, and more than a round sends.
_BUFFERS: Final = {
    VECTOR: "{type: memory, max_events: 10000, when_full: block}",
    VECTOR_DISK: "{type: disk, max_size: 1073741824, when_full: block}",
}


class NotHere(Exception):
    """This side cannot run here; the message is the sentence that says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the sides run.

    Args:
        folder: for what they write.
        bootstrap: address of Kafka.
        processors: to run on.
    """

    folder: Path
    bootstrap: str
    processors: set[int]

    def topic(self, side: str) -> str:
        """Return the topic of one side; a gateway's has the name that its events have, behind a prefix of ours."""
        if side.startswith(SERVE):
            return "sms.dr" if side == SERVE else "before.sms.dr"
        return "peers." + "".join(filter(str.isalnum, side)).lower()


@dataclass(frozen=True, slots=True)
class Running:
    """A side that was started.

    Args:
        service: its processes.
        admin_port: of a gateway, 0 for others.
        topic: in Kafka, empty for those that do not publish.
    """

    service: Service
    admin_port: int = 0
    topic: str = ""


Start = Callable[[str, Place], Running]


@dataclass(frozen=True, slots=True)
class Side:
    """One side.

    Args:
        start: how.
        has_kafka: it publishes to Kafka.
        promise: where the event is when it has answered; empty for what ``acks=all`` promises.
        note: a sentence beside the promise.
        is_crowded: it is measured with the most connections too.
    """

    start: Start
    has_kafka: bool = True
    promise: str = ""
    note: str = ""
    is_crowded: bool = False

    def says(self, *, broker_syncs: bool) -> str:
        """Return the promise as the tables state it, one or two sentences."""
        where = self.promise or ACKS[broker_syncs]
        return f"when it has answered, the event is {where}. {self.note}".strip()


def _bare(_: str, place: Place) -> Running:
    return Running(ingest.bare(place.folder, place.processors))


def gateway(command: str, source: Path | None = None) -> Start:
    """Return what starts a gateway.

    Args:
        command: ``run`` or ``serve``.
        source: folder of its code; this repository by default.
    """

    def start(side: str, place: Place) -> Running:
        topic, admin_port = place.topic(side) if command == "serve" else "", free_port()
        sections: dict[str, Any] = {}
        if topic:
            sections["kafka"] = {"bootstrap_servers": place.bootstrap}
            sections["topics"] = {"prefix": topic.removesuffix("sms.dr")}
        name = f"{command}{'-before' if source else ''}"
        service = ingest.gateway(
            place.folder, name, command=command, processors=place.processors, source=source,
            admin={"port": admin_port}, **sections,
        )  # fmt: skip
        return Running(service, admin_port, topic)

    return start


def _python(module: str, *packages: str) -> Start:
    def start(side: str, place: Place) -> Running:
        _need(packages)
        port, topic = free_port(), place.topic(side)
        arguments = ["-m", f"{__package__}.{module}", str(port), place.bootstrap, topic]
        return Running(
            Service(arguments, port, log=place.folder / f"{module}.log", processors=place.processors), 0, topic
        )

    return start


def _need(packages: Sequence[str]) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise NotHere(f"{package} is not installed (the extra 'bench').")


def _granian(module: str, *packages: str) -> Start:
    def start(side: str, place: Place) -> Running:
        _need(("granian", *packages))
        port, topic = free_port(), place.topic(side)
        service = Service(
            ["-m", "granian", "--interface", "rsgi", "--loop", "uvloop", "--no-ws", "--backlog", "4096",
             "--log-level", "warning", "--port", str(port), f"{__package__}.{module}:app"],
            port, log=place.folder / f"{module}.log", processors=place.processors,
            env={"BOOTSTRAP": place.bootstrap, "TOPIC": topic},
        )  # fmt: skip
        return Running(service, 0, topic)

    return start


def _built(folder: str, tool: str, build: Sequence[str], program: Path) -> Start:
    """Return what builds a program by hand and starts it.

    Args:
        folder: of its code, beside this file.
        tool: that builds it, on the path.
        build: arguments of the tool.
        program: what comes of it; kept for the next time.
    """

    def start(side: str, place: Place) -> Running:
        if shutil.which(tool) is None:
            raise NotHere(f"`{tool}` is not on the path.")
        program.parent.mkdir(parents=True, exist_ok=True)
        if not program.exists():
            print(f"{side}: `{tool}` builds it; the first time takes minutes", flush=True)
        built = subprocess.run([tool, *build], cwd=FOLDER / folder, capture_output=True, text=True, check=False)
        if built.returncode:
            raise NotHere(f"`{tool} build` failed: {built.stderr.strip().splitlines()[-1]}")
        port, topic = free_port(), place.topic(side)
        service = Service(
            [f"127.0.0.1:{port}", place.bootstrap, topic], port, program=str(program),
            log=place.folder / f"{tool}.log", processors=place.processors,
        )  # fmt: skip
        return Running(service, 0, topic)

    return start


def configuration(program: str, side: str, **values: Any) -> str:
    """Return the configuration beside this file with its marks (``@port@``) replaced."""
    text = (FOLDER / f"{program}.yaml").read_text()
    for name, value in {**values, "buffer": _BUFFERS.get(side, "")}.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def _configured(program: str, *options: str) -> Start:
    """Return what starts a program on the path with the configuration of its name beside this file."""

    def start(side: str, place: Place) -> Running:
        found = shutil.which(program)
        if found is None:
            raise NotHere(f"`{program}` is not on the path.")
        port, topic = free_port(), place.topic(side)
        folder = place.folder / topic
        folder.mkdir()
        text = configuration(program, side, port=port, bootstrap=place.bootstrap, topic=topic, folder=folder)
        (folder / "configuration.yaml").write_text(text)
        service = Service(
            [*options, str(folder / "configuration.yaml")], port, program=found,
            log=folder / "output.log", processors=place.processors,
        )  # fmt: skip
        return Running(service, 0, topic)

    return start


SIDES: Final[dict[str, Side]] = {
    BARE: Side(_bare, False, "nowhere: nothing is kept", is_crowded=True),
    RUN: Side(gateway("run"), False, OURS, "It also decodes, types and indexes.", is_crowded=True),
    SERVE: Side(gateway("serve"), True, OURS, "It also decodes, types, indexes and publishes to Kafka."),
    AIOHTTP: Side(_python("aiohttp_aiokafka"), note="It is one process."),
    FASTAPI: Side(_python("fastapi_aiokafka", "fastapi", "uvicorn"), note="It is one process."),
    GRANIAN_AIOKAFKA: Side(_granian("granian_aiokafka"), note="It has one worker."),
    GRANIAN_CONFLUENT: Side(_granian("granian_confluent", "confluent_kafka"), note="It has one worker."),
    GO: Side(
        _built("go", "go", ("build", "-o", str(CACHE / "go-peer"), "."), CACHE / "go-peer"),
        note="It uses all processors.",
    ),
    RUST: Side(
        _built(
            "rust",
            "cargo",
            ("build", "--release", "--locked", "--target-dir", str(CACHE / "rust-peer")),
            CACHE / "rust-peer/release/peer",
        ),
        note="It uses all processors.",
    ),
    BENTO: Side(_configured("bento", "-c"), note="Its mapping decodes the form."),
    VECTOR: Side(_configured("vector", "--config"), note="Its `remap` transform decodes the form."),
    VECTOR_DISK: Side(
        _configured("vector", "--config"),
        promise="in the disk buffer of Vector, which is synced each 500 ms and not before the answer",
        note="It publishes to Kafka behind the answer.",
    ),
}


def before(commit: str, folder: Path) -> dict[str, Side]:
    """Return the gateway of another commit as two more sides.

    Args:
        commit: of this repository.
        folder: its code is written below.

    Raises:
        NotHere: the commit is not in this repository.
    """
    source = folder / f"source-{commit}"
    source.mkdir()
    packed = subprocess.run(["git", "archive", commit, "gateway"], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode:
        raise NotHere(f"{commit} is not here: {packed.stderr.decode().strip()}")
    subprocess.run(["tar", "-x"], cwd=source, input=packed.stdout, check=True)
    return {
        f"{RUN}, at {commit}": Side(gateway("run", source), False, OURS),
        f"{SERVE}, at {commit}": Side(gateway("serve", source), True, OURS),
    }
