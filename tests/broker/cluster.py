"""One, three or more nodes with their configuration, in a folder of this run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.broker import assembly, formatted, security
from tests.broker.node import Node
from tests.ports import free_port

_LOG4J: Final = """status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=[%d] %p %m (%c)%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
"""

_COMMON: Final = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    # Fifty internal partitions are fifty folders to open at every start.
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    # A killed member must be noticed within a test's patience.
    "group.min.session.timeout.ms": "1000",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.enable": "false",
    # Twice a second a controller would write, and sync, that nothing happened: half of what an idle node costs.
    "metadata.max.idle.interval.ms": "0",
}
#: Within which a JVM writes what it loaded, on a machine that has much else to do.
_ARCHIVE_S: Final = 120.0


@dataclass(slots=True)
class Cluster:
    """Nodes that were started together.

    Args:
        folder: configuration, logs and data of this run; removed by :meth:`remove`.
        nodes: in the order of their numbers, from 1.
        secure_port: of the SASL_SSL listener of node 1; 0 without one.
    """

    folder: Path
    nodes: list[Node] = field(default_factory=list)
    secure_port: int = 0

    @property
    def bootstrap(self) -> str:
        """Addresses for clients, comma separated."""
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    @property
    def secure_bootstrap(self) -> str:
        """Address of the listener with TLS and SASL."""
        return f"127.0.0.1:{self.secure_port}"

    @property
    def ca_file(self) -> Path:
        """The certificate to trust on the secure listener."""
        return self.folder / security.CA_FILE

    def node(self, number: int) -> Node:
        """The node with this ``node.id``."""
        return self.nodes[number - 1]

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start all nodes at once and wait for each.

        Args:
            environment: of the processes; that of this one unless given.
        """
        for node in self.nodes:
            node.launch(environment=environment)
        for node in self.nodes:
            node.wait_ready()

    def stop(self) -> None:
        """Stop all nodes; SIGKILL is enough for data that nobody reads again."""
        for node in self.nodes:
            node.kill()

    def remove(self) -> None:
        """Stop and delete everything of this run."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def create(nodes: int = 1, *, secure: bool = False, extra: dict[str, str] | None = None) -> Cluster:
    """Lay out and format a cluster; :meth:`Cluster.start` starts it.

    Args:
        nodes: 1, or an odd number for a cluster that survives deaths (replication 3, ``min.insync.replicas`` 2).
        secure: add a listener with TLS and SASL (PLAIN, SCRAM-SHA-256, OAUTHBEARER) and an authorizer.
        extra: lines for every ``server.properties``.

    Raises:
        KafkaMissing: see :func:`tests.broker.assembly.libraries`.
    """
    jars = assembly.libraries()
    assembly.once(assembly.class_archive(), lambda path: _archive(jars, path))
    return _create(jars, nodes, secure=secure, extra=extra or {})


def _archive(jars: Path, path: Path) -> None:
    """Let a node start and end, and its JVM keep the classes: each start takes half the time from then on."""
    made = _create(jars, 1, secure=False, extra={})
    try:
        made.nodes[0].start(f"-XX:ArchiveClassesAtExit={made.folder / 'classes'}")
        made.nodes[0].stop(within_s=_ARCHIVE_S)
        archive = path.with_suffix(".part")
        archive.touch()  # a JVM that writes none ignores what is empty
        with suppress(FileNotFoundError):
            shutil.copyfile(made.folder / "classes", archive)
        archive.rename(path)
    finally:
        made.remove()


def _create(jars: Path, nodes: int, *, secure: bool, extra: dict[str, str]) -> Cluster:
    folder = Path(tempfile.mkdtemp(prefix="gateway-kafka-"))
    (folder / "log4j2.properties").write_text(_LOG4J)
    cluster = Cluster(folder, secure_port=free_port() if secure else 0)
    controllers = {number: free_port() for number in range(1, nodes + 1)}
    if secure:
        security.make_certificate(folder)
    cluster_id = formatted.new_id()
    for number in range(1, nodes + 1):
        node = Node(number, folder / f"node-{number}", jars, free_port())
        node.folder.mkdir()
        properties = _properties(node, controllers) | extra
        if secure:
            properties |= security.properties(folder, node.port, controllers[number], cluster.secure_port)
        (node.folder / "server.properties").write_text("".join(f"{k}={v}\n" for k, v in properties.items()))
        formatted.prepare(node, cluster_id, secure=secure)
        cluster.nodes.append(node)
    return cluster


def _properties(node: Node, controllers: dict[int, int]) -> dict[str, str]:
    nodes = len(controllers)
    replicas = str(min(3, nodes))
    in_sync = "2" if nodes >= 3 else "1"
    return {
        **_COMMON,
        "controller.quorum.voters": ",".join(f"{number}@127.0.0.1:{port}" for number, port in controllers.items()),
        "node.id": str(node.number),
        "listeners": f"PLAINTEXT://127.0.0.1:{node.port},CONTROLLER://127.0.0.1:{controllers[node.number]}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{node.port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": str(node.folder / "data"),
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        # A dead broker is fenced, and its leadership moves, after this; nine seconds by default.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
    }
