"""Size an installation from the processor time of one event.

A process uses at most one processor, and a machine all of its processors. Both are planned to be busy for a share of
the time (``headroom``), at the peak rate and without the spare. The remaining share is for bursts and for the backlog
after an outage. Everything else is a product of rate, bytes and time. Pure: no clock, disk or network.

At low rates fewer events share a commit, a write and a wake-up, so an event costs more processor time than at full
load. So it is measured at some rates, and a plan interpolates between these rates.

Not in the model: an event that is much larger than the measured one (it costs more processor time), traffic between
zones and to subscribers, compression in Kafka (less disk), a topic that gets most of the events (only the processes
that read its partitions work).

List prices are of two clouds, quoted by the named pages and not read from the vendors' price lists;
``gateway plan --price`` replaces them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from math import ceil, log
from typing import Any, Final

_US: Final = 1e6
_GB: Final = 1e9
_MOST: Final = 10**15


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


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one machine; times are processor time of one event, in microseconds, at each of the rates.

    Args:
        rates_per_s: events a second of each process, from low to full load.
        accept_us: in the ingest worker: authenticate, decode, answer.
        commit_us: in the log process: store, index.
        deliver_us: in the delivering process: read, filter, sign, deliver to one subscriber.
        event_bytes: average size of the events.
        machine: system, architecture, number of processors.
        measured: day of the measurement.
        version: of the gateway.
        load_average: of the machine before the measurement; other work makes the times longer.
    """

    rates_per_s: tuple[float, ...]
    accept_us: tuple[float, ...]
    commit_us: tuple[float, ...]
    deliver_us: tuple[float, ...]
    event_bytes: float
    machine: str
    measured: str
    version: str
    load_average: float


@dataclass(frozen=True, slots=True)
class Load:
    """The load of the installation.

    Args:
        rate_per_s: events a second at the peak, more than 0.
        subscribers: average number of subscribers that receive an event, 0 or more.
        event_bytes: average size of an event.
        average_per_s: events a second over a day, at most the peak.
    """

    rate_per_s: float
    subscribers: float
    event_bytes: float
    average_per_s: float


def _assumed(value: Any, meaning: str) -> Any:
    return field(default=value, metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True)
class Assumptions:
    """All numbers that are not measured. ``table()`` has them with their meaning."""

    headroom: float = _assumed(0.6, "largest planned share of a processor or a broker's disk; the remainder is reserve")
    spares: int = _assumed(1, "machines of ingest and processes of fan-out beyond what the rate needs")
    processors: int = _assumed(4, "processors of a machine: one is left to `log` and `deliver`, the others are ingest")
    publish_us: float = _assumed(10.2, "µs an event to publish to Kafka, from the recorded benchmark `publish`")
    dedup_window: int = _assumed(100_000, "events that a journal keeps for deduplication (`ingest.dedup_window`)")
    outage_s: int = _assumed(28_800, "longest outage of Kafka that the journals hold, seconds")
    journal_factor: float = _assumed(1.56, "journal: 1.3 for SQLite, and 1.2 for write-ahead log and search index")
    replication: int = _assumed(3, "replicas of a partition, and the least number of brokers")
    retention_s: int = _assumed(172_800, "retention of the Kafka topics, seconds")
    kafka_factor: float = _assumed(1.2, "free space of a broker's disk")
    broker_bytes_per_s: float = _assumed(125e6, "bytes a second that a broker can write: the base rate of a gp3 volume")
    broker_partitions: int = _assumed(4_000, "replicas of partitions on one broker, a rule of thumb of Kafka")
    topics: int = _assumed(11, "topics with that number of partitions: one for each family of events")
    least_partitions: int = _assumed(6, "the default of `kafka.partitions`")
    month_hours: int = _assumed(730, "hours of a month")

    @classmethod
    def table(cls) -> list[tuple[str, float, str]]:
        """Return name, value and meaning of each assumption."""
        return [(one.name, one.default, one.metadata["meaning"]) for one in fields(cls)]  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of a month in US dollars.

    Args:
        price: the prices.
        machines: of all machines.
        disks: of all disks.
        total: of both.
    """

    price: Price
    machines: float
    disks: float
    total: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Size of an installation. Utilisations are planned at the peak rate, without the spare.

    Args:
        ingest_machines: machines of ``gateway serve``, with the spare.
        ingest_workers: ingest workers of each machine.
        ingest_utilisation: of the busiest process, or of the machine if that is higher.
        fanout_processes: processes of ``gateway fanout``, with the spare.
        fanout_machines: machines that they need.
        fanout_utilisation: of a process.
        partitions: of each topic.
        brokers: machines of Kafka.
        broker_utilisation: of the disk of a broker.
        journal_bytes: disk of each ingest machine.
        kafka_bytes: disk of each broker.
        delivered_bytes_per_s: bodies to all subscribers, at the average rate.
        fits_one_machine: whether one machine of ``gateway run`` without Kafka can process the load.
        costs: for each price.
    """

    ingest_machines: int
    ingest_workers: int
    ingest_utilisation: float
    fanout_processes: int
    fanout_machines: int
    fanout_utilisation: float
    partitions: int
    brokers: int
    broker_utilisation: float
    journal_bytes: float
    kafka_bytes: float
    delivered_bytes_per_s: float
    fits_one_machine: bool
    costs: tuple[Cost, ...]


def busy(rates_per_s: Sequence[float], times_us: Sequence[float], rate_per_s: float) -> float:
    """Return the share of the time in which a process is busy at a rate.

    Between measured rates the share is linear in the logarithm of the rate: it grows fast at first, until events share
    much, and then slowly. Below and above them an event costs as at the nearest.

    Args:
        rates_per_s: events a second at which it was measured, ascending.
        times_us: processor time of an event at each of them, in microseconds.
        rate_per_s: events a second of the process.
    """
    shares = [rate * time / _US for rate, time in zip(rates_per_s, times_us, strict=True)]
    above = bisect_left(rates_per_s, rate_per_s)
    if above in (0, len(shares)):
        nearest = max(0, above - 1)
        return shares[nearest] * (rate_per_s / rates_per_s[nearest])
    (low, high), (first, last) = rates_per_s[above - 1 : above + 1], shares[above - 1 : above + 1]
    return first + (last - first) * (log(rate_per_s / low) / log(high / low))


def planned(rates_per_s: Sequence[float], times_us: Sequence[float], rate_per_s: float) -> float:
    """Return the largest share of :func:`busy` at a rate or below it, so that more load never needs less.

    A process may be less busy at a higher rate: where the processors have no time, more events wait for it and share.
    """
    return max(busy(rates_per_s, times_us, one) for one in (rate_per_s, *rates_per_s) if one <= rate_per_s)


def size(load: Load, figures: Figures, prices: Sequence[Price] = PRICES, assumed: Assumptions | None = None) -> Plan:
    """Return the installation that a load needs.

    Args:
        load: what it receives and delivers.
        figures: of the user's machine.
        prices: of the clouds.
        assumed: numbers that are not measured; None: the defaults.
    """
    fixed = assumed or Assumptions()

    def ingest(machines: int) -> float:
        rate = load.rate_per_s / machines
        return _busiest(figures, fixed, rate, after=rate * fixed.publish_us / _US)

    def deliver(processes: int) -> float:
        return planned(figures.rates_per_s, figures.deliver_us, load.rate_per_s * load.subscribers / processes)

    needed, needed_fanout = (_least(share, fixed.headroom) for share in (ingest, deliver))
    machines = needed + fixed.spares
    processes = needed_fanout + fixed.spares if load.subscribers else 0
    fanout_machines = max(2, ceil(processes / fixed.processors)) if processes else 0
    partitions = max(fixed.least_partitions, 2 * processes)
    written = load.rate_per_s * load.event_bytes * fixed.replication / fixed.broker_bytes_per_s
    replicas = partitions * fixed.topics * fixed.replication
    brokers = max(fixed.replication, ceil(written / fixed.headroom), ceil(replicas / fixed.broker_partitions))
    stored = load.average_per_s * load.event_bytes
    journals = (stored * fixed.outage_s + load.event_bytes * fixed.dedup_window * machines) * fixed.journal_factor
    kafka = stored * fixed.retention_s * fixed.replication * fixed.kafka_factor
    return Plan(
        ingest_machines=machines,
        ingest_workers=fixed.processors - 1,
        ingest_utilisation=ingest(needed),
        fanout_processes=processes,
        fanout_machines=fanout_machines,
        fanout_utilisation=deliver(needed_fanout),
        partitions=partitions,
        brokers=brokers,
        broker_utilisation=written / brokers,
        journal_bytes=journals / machines,
        kafka_bytes=kafka / brokers,
        delivered_bytes_per_s=stored * load.subscribers,
        fits_one_machine=_fits_one(load, figures, fixed),
        costs=tuple(
            _cost(price, (machines + fanout_machines + brokers) * fixed.month_hours, (journals + kafka) / _GB)
            for price in prices
        ),
    )


def _cost(price: Price, hours: float, disk_gb: float) -> Cost:
    machines, disks = hours * price.machine_hour, disk_gb * price.disk_gb_month
    return Cost(price, machines, disks, machines + disks)


def _least(share: Callable[[int], float], headroom: float) -> int:
    """Return the least number, at least 1, with which each is busy for at most ``headroom``."""
    return 1 + bisect_left(range(1, _MOST), True, key=lambda count: share(count) <= headroom)


def _busiest(figures: Figures, fixed: Assumptions, rate_per_s: float, *, after: float) -> float:
    """Return the share of the time of the busiest part of a machine: a kind of process, or all processors together.

    Args:
        figures: of a machine.
        fixed: the assumptions.
        rate_per_s: events a second of the machine.
        after: share of the process ``deliver``.
    """
    workers = fixed.processors - 1
    accept = planned(figures.rates_per_s, figures.accept_us, rate_per_s / workers)
    commit = planned(figures.rates_per_s, figures.commit_us, rate_per_s)
    return max(accept, commit, after, (workers * accept + commit + after) / fixed.processors)


def _fits_one(load: Load, figures: Figures, fixed: Assumptions) -> bool:
    after = planned(figures.rates_per_s, figures.deliver_us, load.rate_per_s * load.subscribers)
    return _busiest(figures, fixed, load.rate_per_s, after=after) <= fixed.headroom
