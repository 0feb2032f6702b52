"""One plain node for all processes of a run of the tests: the first test that asks for it starts it.

An idle node costs as much processor time in twenty minutes as ten starts, so a run has one and not one for each worker.
It ends with the run: the process that began it (without workers, the only one) keeps a folder, which the others know by
a variable of the environment, and its mark (:mod:`tests.leash`), which the node gets instead of the worker's.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests import leash
from tests.broker import assembly, cluster

_VARIABLE = "TESTS_SHARED"
_MARK = "mark"
_NODE = "node.json"


def offer() -> Callable[[], None]:
    """Let this process, and those that it starts, share a node. Returns what ends it, if anyone asked for it.

    In a process of a run that has begun it changes nothing.
    """
    if _VARIABLE in os.environ:
        return lambda: None
    os.environ[_VARIABLE] = tempfile.mkdtemp(prefix="gateway-tests-")
    (folder() / _MARK).write_text(os.environ.get(leash.VARIABLE, ""))
    return _end


def folder() -> Path:
    """Return the folder that the processes of this run share."""
    return Path(os.environ[_VARIABLE])


def bootstrap() -> str:
    """Return the address of the run's node, which is started when it is not there yet.

    Raises:
        KafkaMissing: see :func:`tests.broker.assembly.libraries`.
    """
    state = assembly.once(folder() / _NODE, _start)
    return str(json.loads(state.read_text())["bootstrap"])


def _start(state: Path) -> None:
    made = cluster.create()
    mark = state.with_name(_MARK).read_text()
    made.start({**os.environ, leash.VARIABLE: mark} if mark else None)
    (process,) = [node.process for node in made.nodes]
    assert process is not None
    part = state.with_suffix(".part")
    part.write_text(json.dumps({"bootstrap": made.bootstrap, "pid": process.pid, "folder": str(made.folder)}))
    part.rename(state)


def _end() -> None:
    with suppress(FileNotFoundError):
        made = json.loads((folder() / _NODE).read_text())
        with suppress(ProcessLookupError):
            os.kill(made["pid"], signal.SIGKILL)
        shutil.rmtree(made["folder"], ignore_errors=True)
    shutil.rmtree(folder(), ignore_errors=True)
    del os.environ[_VARIABLE]
