"""Formatted data folders: Kafka's own tool makes one of each kind once, and each node gets a copy of it.

The tool is a JVM of its own, which takes as long as half a start of a broker. What it writes is the same for all
clusters of a Kafka version, but for the ids; voters that stand in the configuration are not in it.
"""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

from tests.broker import assembly, security
from tests.broker.node import Node, java

_META = "meta.properties"


def new_id() -> str:
    """Return a new id as Kafka writes them: of a cluster, of a folder."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def prepare(node: Node, cluster_id: str, *, secure: bool = False) -> None:
    """Make a node's data folder.

    Args:
        node: whose ``server.properties`` is written already.
        cluster_id: of all nodes of the cluster.
        secure: with the user for SCRAM.
    """
    data = node.folder / "data"
    kind = f"kafka-{assembly.KAFKA_VERSION}-data-{node.number}{'-secure' if secure else ''}"
    made = assembly.once(assembly.cache_folder() / kind, lambda folder: _format(node, folder, secure=secure))
    shutil.copytree(made, data)
    meta = (data / _META).read_text()
    for name, value in (("cluster.id", cluster_id), ("directory.id", new_id())):
        meta = re.sub(rf"(?m)^{re.escape(name)}=.*$", f"{name}={value}", meta)
    (data / _META).write_text(meta)


def _format(node: Node, folder: Path, *, secure: bool) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        settings = (node.folder / "server.properties").read_text()
        properties, data = Path(scratch) / "server.properties", Path(scratch) / "data"
        properties.write_text(re.sub(r"(?m)^log\.dirs=.*$", f"log.dirs={data}", settings))
        more = ["--add-scram", security.SCRAM_USER] if secure else []
        found = subprocess.run(
            java(node.jars, "kafka.tools.StorageTool", "format", "-t", new_id(), "-c", str(properties), *more),
            capture_output=True,
            text=True,
            check=False,
        )
        if found.returncode:
            raise RuntimeError(f"StorageTool ended with {found.returncode}:\n{found.stdout}{found.stderr}")
        data.rename(folder)
