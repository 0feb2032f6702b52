"""What tests start ends with them, however they end: a broker or a gateway that nobody stops any more is killed.

A fixture stops what it started, unless its process gets SIGKILL, as a run that takes too long does. So each process of
tests has a keeper beside it, which waits for its end and then kills every process that came from it. They are known by
a variable of the environment that all inherit: whoever started them, in whichever thread, session or working folder. A
signal at the parent's death (``PR_SET_PDEATHSIG``) would come when the thread ends that started them.

Linux only (pidfd_open(2), proc(5)). Standalone: as a script it is the keeper.
"""

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

VARIABLE = "TESTS_LEASH"


def hold() -> None:
    """Let everything that this process starts from now on end with it. What it left behind ends, too."""
    if sys.platform != "linux":
        return
    mark = os.environ[VARIABLE] = f"{os.getpid()}-{os.urandom(8).hex()}"
    null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    # Without subprocess, which complains of what is not waited for. Of a session of its own: a Ctrl-C is for the tests.
    os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", __file__, str(os.getpid()), mark],
        os.environ,
        file_actions=null,
        setsid=True,
    )


def keep(pid: int, mark: str) -> None:
    """Wait until a process has ended, and kill all that came from it.

    Args:
        pid: of the parent of this process.
        mark: the value of the variable by which they are known.
    """
    with suppress(ProcessLookupError):
        parent = os.pidfd_open(pid)
        if os.getppid() == pid:  # otherwise it has ended, and the number may be a stranger's
            select.select([parent], [], [])
    while found := list(marked(mark)):
        # Stopped before any is killed: a supervisor would start again what ends.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for one in found:
                with suppress(ProcessLookupError):
                    os.kill(one, number)


def marked(mark: str) -> Iterator[int]:
    """Process ids of those that were started with this value of the variable, but for this process."""
    wanted = f"{VARIABLE}={mark}".encode()
    for folder in Path("/proc").iterdir():
        # Others' processes may not be read, and one that has ended has no environment.
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name)


if __name__ == "__main__":
    keep(int(sys.argv[1]), sys.argv[2])
