"""Apicurio Registry from Maven Central, with Confluent's interface, in memory, for a session of tests."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tarfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.broker.assembly import cache_folder
from tests.components import missing
from tests.ports import free_port
from tests.waiting import until_so

#: The newest that runs on Java 17.
VERSION: Final = "3.0.9"
_ARTIFACT: Final = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
_START_S: Final = 100.0


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Run one; yields the address of Confluent's interface."""
    program = _program()
    port = free_port()
    environment = {**os.environ, "QUARKUS_HTTP_HOST": "127.0.0.1", "QUARKUS_HTTP_PORT": str(port)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["java", "-Xmx400m", "-jar", str(program)], cwd=folder, env=environment, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
    try:
        _wait(process, f"{url}/subjects", folder / "log")
        yield url
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Until it answers. It has no other sign that a stranger's process could see."""

    def answers() -> bool:
        assert process.poll() is None, log.read_text()[-2000:]
        with suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return True
        return False

    try:
        until_so(answers, within_s=_START_S, look_s=0.2)
    except TimeoutError as exc:
        raise AssertionError(log.read_text()[-2000:]) from exc


def _program() -> Path:
    """The runnable jar; fetched and unpacked on the first call, by one process at a time."""
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            missing(program, install="apt-get install openjdk-17-jre-headless maven")
    home = cache_folder() / f"apicurio-{VERSION}"
    home.parent.mkdir(parents=True, exist_ok=True)
    with (home.parent / "apicurio.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            _fetch(home)
    (found,) = home.glob("apicurio-registry-app-*-runner.jar")
    return found


def _fetch(home: Path) -> None:
    partly = home.with_suffix(".part")
    shutil.rmtree(partly, ignore_errors=True)
    command = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={_ARTIFACT}", f"-DoutputDirectory={partly}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        missing("Apicurio Registry", install=f"mvn could not fetch it: {done.stdout[-300:]}")
    (archive,) = partly.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(partly, filter="data")
    archive.unlink()
    partly.rename(home)
