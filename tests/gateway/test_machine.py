"""Processors of a container, from files as the kernel writes them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway import machine
from gateway.config.settings import Ingest

V1 = "12:pids:/docker/4f\n4:cpu,cpuacct:/docker/4f\n3:cpuset:/docker/4f\n0::/system.slice/docker.service\n"


@pytest.mark.parametrize(
    ("cgroup", "files", "allowed", "wanted"),
    [
        # v2, in a container: its own group is the root that it sees.
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 8, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8, 8),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 8, 1),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 8, 1),
        ("0::/\n", {"cpu.max": "1600000 100000\n"}, 3, 3),
        # v2, a service: the group, and the slice around it that is narrower.
        (
            "0::/system.slice/gateway.service\n",
            {"system.slice/gateway.service/cpu.max": "400000 100000\n", "system.slice/cpu.max": "300000 100000\n"},
            8,
            3,
        ),
        # v1, with its path as the machine has it, or as the container sees it.
        (
            V1,
            {
                "cpu,cpuacct/docker/4f/cpu.cfs_quota_us": "300000\n",
                "cpu,cpuacct/docker/4f/cpu.cfs_period_us": "100000\n",
            },
            8,
            3,
        ),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/cpu.cfs_period_us": "50000\n"}, 8, 5),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 8, 8),
        # Nothing there, or nothing that is understood.
        ("0::/\n", {}, 8, 8),
        ("0::/\n", {"cpu.max": "\n"}, 8, 8),
        ("0::/\n", {"cpu.max": "100000 0\n"}, 8, 8),
        ("", {}, 2, 2),
        (None, {"cpu.max": "100000 100000\n"}, 8, 8),
    ],
)
def test_limits_of_the_group_and_of_those_around_it_count(
    tmp_path: Path, cgroup: str | None, files: Mapping[str, str], allowed: int, wanted: int
) -> None:
    """The least of them and of the affinity, in whole processors, and never none."""
    for name, text in files.items():
        (tmp_path / "mount" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mount" / name).write_text(text)
    if cgroup is not None:
        (tmp_path / "cgroup").write_text(cgroup)
    found = machine.processors(cgroup=tmp_path / "cgroup", mount=tmp_path / "mount", allowed=allowed)
    assert found == wanted


def test_this_machine_has_a_processor() -> None:
    """Never more than there are; the workers leave one to the others where there are two."""
    assert 1 <= machine.processors() <= (os.cpu_count() or 1)
    assert machine.ingest_workers() == min(4, max(1, machine.processors() - 1)) == Ingest().processes


def test_a_number_is_taken_as_it_is() -> None:
    assert Ingest(workers=7).processes == 7
