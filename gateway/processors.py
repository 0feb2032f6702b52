"""How many processors this process may use, and how many processes take callbacks on them.

A container sees all processors of its machine: what it may use is in its cgroup (Linux, Documentation/admin-guide/
cgroup-v2.rst, "CPU Interface Files"; v1: scheduler/sched-bwc.rst) and in its affinity (sched_setaffinity(2)).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

#: More would be idle: four take about 90,000 callbacks a second, and one process stores them.
_MOST_WORKERS: Final = 4
_CGROUP: Final = Path("/proc/self/cgroup")
_MOUNT: Final = Path("/sys/fs/cgroup")


def ingest_workers() -> int:
    """Return how many processes take callbacks where the configuration says ``auto``.

    One processor is left to the processes that store and deliver.
    """
    return max(1, min(_MOST_WORKERS, available() - 1))


def available(*, cgroup: Path = _CGROUP, mount: Path = _MOUNT, allowed: int | None = None) -> int:
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
