"""PostgreSQL and ClickHouse for tests: the real ones, started for a session of tests, empty."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg

from tests.components import missing

_POSTGRES_INSTALL: Final = "apt-get install postgresql"


@contextmanager
def postgres() -> Iterator[psycopg.Connection[Any]]:
    """Run a PostgreSQL server that listens on a socket only, and connect to it."""
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        yield from _postgres(Path(name))


def _postgres(folder: Path) -> Iterator[psycopg.Connection[Any]]:
    bin_folder = _postgres_programs()
    data = folder / "data"
    if os.getuid() == 0:
        shutil.chown(folder, *_account())
    _run(bin_folder / "initdb", "-D", data, "-U", "tests", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
    _run(bin_folder / "pg_ctl", "-D", data, "-w", "-o", options, "-l", folder / "log", "start")
    try:
        with psycopg.connect(host=str(folder), user="tests", dbname="postgres", autocommit=True) as connection:
            yield connection
    finally:
        _run(bin_folder / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")


def _postgres_programs() -> Path:
    """Debian keeps the server's programs off the path, in a folder for each version."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not folders:
        missing("PostgreSQL", install=_POSTGRES_INSTALL)
    return folders[-1].parent


def _account() -> tuple[int, int]:
    """The server refuses to run as root; Debian's package makes a user for it."""
    try:
        entry = pwd.getpwnam("postgres")
    except KeyError:
        missing("the user postgres", install=_POSTGRES_INSTALL)
    return entry.pw_uid, entry.pw_gid


def _run(*command: object) -> None:
    user, group = _account() if os.getuid() == 0 else (None, None)
    # pg_ctl leaves the server behind, which keeps what it inherits: a pipe would never end.
    done = subprocess.run(
        list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        cwd="/", user=user, group=group, extra_groups=[] if user is not None else None, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, command


@contextmanager
def clickhouse(folder: Path) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """Run ClickHouse in this process; yields a function that runs a statement and returns rows."""
    import orjson
    from chdb.session import Session

    session = Session(str(folder))

    def run(statement: str) -> list[dict[str, Any]]:
        found = session.query(statement, "JSONEachRow")
        text = found.bytes() if found is not None else b""
        return [orjson.loads(line) for line in (text or b"").splitlines()]

    try:
        yield run
    finally:
        session.close()
