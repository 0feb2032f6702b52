"""``python -m tests.broker start|stop|status``: a Kafka to try things on."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from contextlib import suppress

from tests.broker import assembly, cluster


def main() -> int:
    """Start, stop or show the broker of this user. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.broker", description=__doc__)
    parser.add_argument("command", choices=["start", "stop", "status"])
    parser.add_argument("--nodes", type=int, default=1, help="nodes of the cluster (default: 1)")
    parser.add_argument("--secure", action="store_true", help="add a listener with TLS, SASL and an authorizer")
    arguments = parser.parse_args()
    try:
        return {"start": _start, "stop": _stop, "status": _status}[arguments.command](arguments)
    except assembly.KafkaMissing as exc:
        print(exc, file=sys.stderr)
        return 1


def _start(arguments: argparse.Namespace) -> int:
    if _STATE.exists():
        print(f"A broker is there already; 'stop' ends it.\n{_STATE.read_text()}", file=sys.stderr)
        return 1
    made = cluster.create(arguments.nodes, secure=arguments.secure)
    made.start()
    state = {
        "bootstrap": made.bootstrap,
        "secure": made.secure_bootstrap if arguments.secure else "",
        "ca_file": str(made.ca_file) if arguments.secure else "",
        "folder": str(made.folder),
        "pids": [node.process.pid for node in made.nodes if node.process],
    }
    _STATE.write_text(json.dumps(state, indent=2))
    print(f"KAFKA_BOOTSTRAP_SERVERS={made.bootstrap}")
    return 0


def _stop(_: argparse.Namespace) -> int:
    if not _STATE.exists():
        print("No broker was started here.", file=sys.stderr)
        return 1
    state = json.loads(_STATE.read_text())
    for pid in state["pids"]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(state["folder"], ignore_errors=True)
    _STATE.unlink()
    return 0


def _status(_: argparse.Namespace) -> int:
    print(_STATE.read_text() if _STATE.exists() else "No broker was started here.")
    return 0


_STATE = assembly.cache_folder() / "broker.json"

if __name__ == "__main__":
    sys.exit(main())
