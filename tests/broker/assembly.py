"""Kafka's libraries, resolved by Maven into the user's cache folder, once.

Maven is called as it is set up on the machine: mirrors and proxies of ``settings.xml`` apply.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

KAFKA_VERSION: Final = "4.4.0"
#: Kafka 4 binds slf4j 1.7, so log4j's binding for 1.x is the right one.
LOG4J_VERSION: Final = "2.24.3"
MISSING: Final = (
    "The Kafka tests need Java 17 and Maven (Debian: apt-get install openjdk-17-jre-headless maven), "
    "or KAFKA_BOOTSTRAP_SERVERS naming a running Kafka."
)
#: A first fetch over a slow line; past this something is wrong with the line, not with Kafka.
_FETCH_S: Final = 600.0

_POM: Final = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>{LOG4J_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>
      <version>{LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""


class KafkaMissing(Exception):
    """There is no Kafka here and none can be made; the message says what to install."""


def cache_folder() -> Path:
    """Where the libraries and the state of brokers started by hand are kept (XDG base directories)."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "nxcloud-gateway"


def libraries() -> Path:
    """The folder of Kafka's jars; fetched on the first call, by one process at a time.

    Raises:
        KafkaMissing: Java or Maven is not there, or Maven could not resolve the libraries.
    """
    if not shutil.which("java"):
        raise KafkaMissing(MISSING)
    return once(cache_folder() / f"kafka-{KAFKA_VERSION}", _fetch)


def class_archive() -> Path:
    """Where Kafka's classes are kept as this JVM has them when they are loaded; another one has others (JEP 350)."""
    java = Path(shutil.which("java") or "java").resolve()
    return cache_folder() / f"kafka-{KAFKA_VERSION}-{java.stat().st_mtime_ns}.jsa"


def once(wanted: Path, make: Callable[[Path], None]) -> Path:
    """Return a file or folder of the cache; the first who asks makes it, and others wait for that.

    Args:
        wanted: what is asked for.
        make: is given it, and makes it appear in a single step: what is cut short leaves nothing behind.
    """
    if not wanted.exists():
        wanted.parent.mkdir(parents=True, exist_ok=True)
        with wanted.with_name(f"{wanted.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not wanted.exists():
                make(wanted)
    return wanted


def _fetch(jars: Path) -> None:
    maven = shutil.which("mvn")
    if not maven:
        raise KafkaMissing(MISSING)
    with tempfile.TemporaryDirectory(dir=jars.parent) as scratch:
        (Path(scratch) / "pom.xml").write_text(_POM)
        found = subprocess.run(
            [maven, "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=jars"],
            cwd=scratch,
            capture_output=True,
            text=True,
            timeout=_FETCH_S,
            check=False,
        )
        if found.returncode != 0:
            raise KafkaMissing(f"Maven could not resolve Kafka {KAFKA_VERSION}: {found.stdout[-600:].strip()}")
        (Path(scratch) / "jars").rename(jars)
