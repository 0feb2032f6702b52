"""List prices of two clouds, quoted by the named pages and not read from the vendors' price lists.

``gateway plan --price`` replaces them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Price:
    """Prices of one cloud, on demand, in US dollars.

    Args:
        name: cloud and region.
        machine: type of a machine with four processors, and of its disk.
        machine_hour: of the machine, for an hour.
        disk_gb_month: of network block storage, for 10^9 bytes and a month.
        source: where the prices are quoted.
        read: day on which the source was read; empty for the user's own prices.
    """

    name: str
    machine: str
    machine_hour: float
    disk_gb_month: float
    source: str
    read: str


#: Both machines have 4 processors and 16 GiB. The price of N2 is 4 · $0.031611 + 16 · $0.004237.
PRICES: Final = (
    Price(
        name="AWS us-east-1",
        machine="m7i.xlarge, gp3",
        machine_hour=0.2016,
        disk_gb_month=0.08,
        source="second-hand: c3x.dev/blog/m5-vs-m6i-vs-m7i-cost-performance, c3x.dev/resources/aws/aws_ebs_volume",
        read="2026-11-27",
    ),
    Price(
        name="Google Cloud us-central1",
        machine="n2-standard-4, pd-balanced",
        machine_hour=0.194236,
        disk_gb_month=0.10,
        source="second-hand: N2 prices quoted in public repositories, c3x.dev/blog/gcp-persistent-disk-types-cost",
        read="2026-11-27",
    ),
)
