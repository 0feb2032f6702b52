"""Processors and file descriptors that this machine gives a process, and the share of each use.

A container sees all processors of its machine: what it may use is in its cgroup (Linux, Documentation/admin-guide/
cgroup-v2.rst, "CPU Interface Files"; v1: scheduler/sched-bwc.rst) and in its affinity (sched_setaffinity(2)).

Every connection, file and socket takes a descriptor, and a process may open ``RLIMIT_NOFILE`` of them (getrlimit(2)).
Strangers who open connections must not take what the journal, the admin port and deliveries need, so each port has a
share:

==============  ============================================================================
ingest          what the others leave, at most :data:`_MOST_INGEST`
admin port      an eighth, at most :data:`_MOST_ADMIN`
deliveries      a quarter: connections to subscribers
everything else :data:`_OWN`: journal, search, Kafka, listening sockets, event loop, log
==============  ============================================================================
"""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import structlog

#: More would be idle: four take about 90,000 callbacks a second, and one process stores them.
_MOST_WORKERS: Final = 4
_CGROUP: Final = Path("/proc/self/cgroup")
_MOUNT: Final = Path("/sys/fs/cgroup")
#: A gateway without any connection has about 30 open, and with Kafka one more for each broker and client.
_OWN: Final = 48
#: People, probes and scrapers. Ten times more would be forgotten open pages.
_MOST_ADMIN: Final = 256
#: 16,384 idle connections take about 150 MB. Ten times more would take the memory of what they are for.
_MOST_INGEST: Final = 16_384
#: Where the limit is "none", or larger than this, nothing is raised: some systems refuse it, others scan all of them.
_MOST_RAISED: Final = 1_048_576

_log = structlog.get_logger("gateway.machine")


def ingest_workers() -> int:
    """Return how many processes take callbacks where the configuration says ``auto``.

    One processor is left to the processes that store and deliver.
    """
    return max(1, min(_MOST_WORKERS, processors() - 1))


def processors(*, cgroup: Path = _CGROUP, mount: Path = _MOUNT, allowed: int | None = None) -> int:
    """Return the processors that this process may use: whole ones, at least 1.

    Args:
        cgroup: names the group of this process (cgroups(7)).
        mount: where groups are mounted.
        allowed: processors of its affinity; None asks the kernel.
    """
    found = _affinity() if allowed is None else allowed
    return max(1, math.floor(min([float(found), *_quotas(cgroup, mount)])))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(cgroup: Path, mount: Path) -> Iterator[float]:
    """Yield the limits of the group and of those around it, in processors."""
    try:
        lines = cgroup.read_text().splitlines()
    except OSError:  # no Linux, or no /proc
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:  # v2, or the tree mounted in addition to v1, without processors
            for folder in _around(mount, path):
                yield from _v2(folder)
        elif "cpu" in controllers.split(","):
            for folder in _around(mount / controllers, path):
                yield from _v1(folder)


def _around(root: Path, path: str) -> Iterator[Path]:
    """Yield the group's folder and those above it; within a container only the root may exist."""
    folder = root / path.strip("/")
    yield folder
    while folder != root and root in folder.parents:
        folder = folder.parent
        yield folder


def _v2(folder: Path) -> Iterator[float]:
    """Yield the limit in ``cpu.max``: microseconds in a period, or ``max``; and the period."""
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    yield from _share(quota, period)


def _v1(folder: Path) -> Iterator[float]:
    yield from _share(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _share(quota: str, period: str) -> Iterator[float]:
    """Yield a limit in processors; no limit is ``max`` in v2 and -1 in v1."""
    if quota.isdigit() and period.isdigit() and int(period):
        yield int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def raise_descriptor_limit() -> None:
    """Raise the soft limit of this process to the hard one. What may not be raised stays as it is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_RAISED if hard == resource.RLIM_INFINITY else min(hard, _MOST_RAISED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def fill_standard() -> None:
    """Open what is closed of standard input, output and error, so that no socket gets one of their numbers.

    Children have their standard input replaced; a program that was started with ``<&-`` would lose a port with it.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)


def most_descriptors() -> int:
    """Return how many descriptors this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_RAISED if soft == resource.RLIM_INFINITY else soft


def admin_connections() -> int:
    """Return the admin port's share."""
    return max(8, min(_MOST_ADMIN, most_descriptors() // 8))


def check_deliveries(connections: int) -> None:
    """Warn when subscribers may have more connections at once than their share.

    They are not cut: a subscriber that answers slowly needs them, and few are in use at most times.
    """
    share = most_descriptors() // 4
    if connections > share:
        _log.warning(
            "subscribers.many_connections",
            configured=connections,
            share=share,
            descriptors=most_descriptors(),
            advice="raise the limit of open files (ulimit -n, LimitNOFILE), or lower the subscribers' concurrency; "
            "when none is left, deliveries fail and callbacks are not accepted",
        )


def ingest_connections(configured: int | Literal["auto"]) -> int:
    """Return the ingest port's share, or less where less is configured.

    If more is configured than exists, the share applies and a warning is logged.
    """
    share = max(8, min(most_descriptors() - _OWN - admin_connections() - most_descriptors() // 4, 1_048_576))
    if configured == "auto":
        return min(share, _MOST_INGEST)
    if configured > share:
        _log.warning(
            "ingest.max_connections_reduced",
            configured=configured,
            connections=share,
            descriptors=most_descriptors(),
            advice="raise the limit of open files (ulimit -n, LimitNOFILE), or lower ingest.max_connections",
        )
    return min(share, configured)
