"""Every number the gateway exports, in one table: kind, unit, meaning, and what to do when it is high.

Names follow the Prometheus conventions: ``gateway_<what>_<unit>_total`` for counters, base units. A module
that counts asks for its metric by name: ``METRICS.counter("gateway_callbacks")``. On hot paths bind the
child once and count per batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from gateway.telemetry.sketch import bucket

#: Kinds of process, as their names begin.
Kind = Literal["log", "ingest", "deliver"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the catalogue.

    Args:
        name: without Prometheus' ``_total``.
        processes: kinds of process that count it. No other reports it: its 0 would say what it does not know.
        kind: counter, gauge or histogram.
        labels: label names; each has few values (names of callbacks, topics, subscribers; never ids).
        meaning: one sentence.
        advice: what to do when it is high, or moves at all.
        buckets: of a histogram, in its unit.
    """

    name: str
    processes: tuple[Kind, ...]
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    advice: str
    buckets: tuple[float, ...] = ()


#: Answers take a disk sync, so half a millisecond is the least; the platform's patience is not known: 10 s.
_ANSWER_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0)
_DELIVERY_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCH: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

_LOG: Final[tuple[Kind, ...]] = ("log",)
_INGEST: Final[tuple[Kind, ...]] = ("ingest",)
_DELIVER: Final[tuple[Kind, ...]] = ("deliver",)

CATALOGUE: Final[tuple[Metric, ...]] = (
    Metric(
        "gateway_callbacks",
        _INGEST,
        "counter",
        ("callback", "outcome"),
        "Callbacks answered: accepted, repeated, rejected, unauthenticated, forbidden, refused, unavailable.",
        "rejected: read callbacks.rejected; unauthenticated: check credentials; unavailable: see the journal.",
    ),
    Metric(
        "gateway_callback_answer_seconds",
        _INGEST,
        "histogram",
        ("callback",),
        "Time from a request read whole to its answer, the commit included.",
        "High with few requests: a slow disk. High with many: more workers (ingest.workers).",
        _ANSWER_S,
    ),
    Metric(
        "gateway_callback_drift",
        _INGEST,
        "counter",
        ("callback",),
        "What the vendor's documents do not have: fields, codes, character sets, layouts, names given twice.",
        "The vendor changed something; the log names each once. Nothing is lost: raw holds them.",
    ),
    Metric(
        "gateway_http_refused",
        _INGEST,
        "counter",
        ("reason",),
        "Requests refused before any callback was known: not_found, method, too_large, malformed, timeout.",
        "not_found: a wrong address is set at the sender; the log names the nearest path, and callbacks.rejected keeps "
        "the first of a day. The rest: someone probes, or limits are too tight.",
    ),
    Metric(
        "gateway_connections_closed",
        ("ingest", "deliver"),
        "counter",
        ("port", "reason"),
        "Connections of a port (ingest, admin) closed by us: full (one more than it may have), silent (sent nothing).",
        "full: see who opens so many, or raise the limit of open files (ulimit -n). silent: port scans, health checks.",
    ),
    Metric(
        "gateway_admin_unauthenticated",
        _DELIVER,
        "counter",
        (),
        "Requests at the admin port with a wrong token, or with none where one is needed.",
        "A few: a page or a script has an old token. Many: someone guesses; see admin.unauthenticated in the log.",
    ),
    Metric(
        "gateway_journal_events",
        _LOG,
        "counter",
        ("stream",),
        "Records made durable in the journal.",
        "This is the rate of intake.",
    ),
    Metric(
        "gateway_journal_commit_seconds",
        _LOG,
        "histogram",
        (),
        "Time of one group commit, its sync included.",
        "A slow or busy disk; every answer waits for one.",
        _ANSWER_S,
    ),
    Metric(
        "gateway_journal_batch_events",
        _LOG,
        "histogram",
        (),
        "Records sharing one commit.",
        "Large batches are good: the disk is the pace, the processor is not.",
        _BATCH,
    ),
    Metric(
        "gateway_journal_used_bytes",
        _LOG,
        "gauge",
        (),
        "Bytes of the journal's file in use.",
        "Near journal.max_bytes the oldest events go; with Kafka away, callbacks are answered 503.",
    ),
    Metric(
        "gateway_journal_oldest_age_seconds",
        _DELIVER,
        "gauge",
        (),
        "Age of the oldest record kept.",
        "How far back a replay can reach.",
    ),
    Metric(
        "gateway_journal_failures",
        _LOG,
        "counter",
        ("reason",),
        "Commits that failed: full, disk, moved (the files were deleted or changed under the gateway).",
        "Any is bad: callbacks were answered 503. See the advice in the lines journal.commit_failed and journal.moved.",
    ),
    Metric(
        "gateway_journal_expired_events",
        _DELIVER,
        "counter",
        ("group",),
        "Records that retention took before this reader had read them.",
        "The subscriber was away for longer than the journal keeps; raise retention or fix it.",
    ),
    Metric(
        "gateway_journal_damaged_segments",
        ("log", "deliver"),
        "counter",
        (),
        "Stored batches that were not what was written.",
        "A disk or memory fault. Run gateway journal check; replace the disk.",
    ),
    Metric(
        "gateway_deliveries",
        _DELIVER,
        "counter",
        ("subscriber", "outcome"),
        "Attempts by outcome: delivered, retried, parked, dead_lettered, stopped, abandoned, cancelled; and events "
        "skipped, lost.",
        "retried: see the subscriber's last error. dead_lettered: gateway dlq list. lost: the log line delivery.lost. "
        "cancelled: cut off when partitions moved, as the answer took more than 2 s; such an event comes again.",
    ),
    Metric(
        "gateway_retry_moved",
        _DELIVER,
        "counter",
        ("reason",),
        "Parked events appended again without an attempt: down, late, full, held, gone; and records not_ours.",
        "down, late: see the subscribers' states. full: one has more to retry than it takes. not_ours: see the log.",
    ),
    Metric(
        "gateway_delivery_attempt_seconds",
        _DELIVER,
        "histogram",
        ("subscriber",),
        "Time of one attempt, from connecting to the answer.",
        "The subscriber is slow: it should queue, then answer.",
        _DELIVERY_S,
    ),
    Metric(
        "gateway_delivery_in_flight",
        _DELIVER,
        "gauge",
        ("subscriber",),
        "Attempts under way.",
        "At the subscriber's concurrency all the time: it cannot keep up.",
    ),
    Metric(
        "gateway_attempts_unrecorded",
        _DELIVER,
        "counter",
        (),
        "Delivery attempts missing from explain, because the log did not store their records in time.",
        "The log refuses appends: see gateway_journal_failures. Deliveries do not depend on it.",
    ),
    Metric(
        "gateway_subscriber_lag_records",
        _DELIVER,
        "gauge",
        ("subscriber",),
        "Records between the subscriber's position and the end of its log.",
        "Growing: the subscriber is slower than the intake, or down.",
    ),
    Metric(
        "gateway_subscriber_state",
        _DELIVER,
        "gauge",
        ("subscriber", "state"),
        "1 for the state the subscriber is in: closed (well), open, half_open, paused, stopped.",
        "open: it is down and its events wait in the log.",
    ),
    Metric(
        "gateway_process_restarts",
        _DELIVER,
        "counter",
        ("process",),
        "Times a process of this gateway (log, deliver, ingest-0, …) died and was started again.",
        "Any but at a crash: see the log line process.died and the lines of that process before it.",
    ),
    Metric(
        "gateway_process_up",
        _DELIVER,
        "gauge",
        ("process",),
        "1 for a process whose metrics are in this answer, 0 for one that did not answer in a second.",
        "0: it has died and is being started again (process.died), or it hangs or is overloaded (process.not_scraped).",
    ),
    Metric(
        "gateway_kafka_up",
        _DELIVER,
        "gauge",
        ("client",),
        "1 while Kafka serves all clients of this name (publisher, writer, a consumer group, a stream), 0 while not.",
        "0: the log line kafka.unavailable and /readyz say why; events wait in the journal, nothing is lost.",
    ),
    Metric(
        "gateway_kafka_problems",
        _DELIVER,
        "gauge",
        ("client", "word"),
        "What is the matter with the clients of this name: topics (or the connection) by word: authentication, "
        "authorisation, instance_in_use, group_in_use, away, not_enough_replicas, refused, codec, unreadable, "
        "unknown_topic, throttled.",
        "The word says what to look at; /readyz and the log line kafka.unavailable have the reason and the advice.",
    ),
    Metric(
        "gateway_kafka_throttled_seconds",
        _DELIVER,
        "counter",
        ("client",),
        "Time for which quotas of the brokers delayed requests of this client.",
        "Growing all the time: the quota of the gateway's user or client id is too small (kafka-configs.sh).",
    ),
    Metric(
        "gateway_kafka_written_events",
        _DELIVER,
        "counter",
        ("topic",),
        "Records acknowledged by Kafka.",
        "This is the rate of publishing; below the rate of intake the journal grows.",
    ),
    Metric(
        "gateway_kafka_producer_failures",
        _DELIVER,
        "counter",
        ("client",),
        "Batches that Kafka refused, or whose answer was lost with their producer; each was sent again.",
        "Many: see kafka.unavailable for the reason (rights, size, leaderless partitions).",
    ),
    Metric(
        "gateway_publisher_lag_records",
        _DELIVER,
        "gauge",
        ("topic",),
        "Records of this topic in the journal that Kafka has not acknowledged yet, whether they were read or not.",
        "Growing: the topic cannot be written (gateway_publisher_topic_up), or Kafka is away or too slow; "
        "once the journal is full, callbacks are answered 503.",
    ),
    Metric(
        "gateway_publisher_queue_bytes",
        _DELIVER,
        "gauge",
        ("topic",),
        "Memory of what was read of this topic and is not acknowledged.",
        "Bounded: 4 MiB a topic, and 256 KiB where all topics together have more than 16 MiB.",
    ),
    Metric(
        "gateway_publisher_topic_up",
        _DELIVER,
        "gauge",
        ("topic",),
        "1 while Kafka takes this topic, or nothing else is known; 0 while not all of it can be written.",
        "0: /readyz and the log line kafka.unavailable say why and what to do. Its events wait in the journal; other "
        "topics go on.",
    ),
    Metric(
        "gateway_publisher_dead_letters",
        _DELIVER,
        "counter",
        ("topic",),
        "Events that no broker takes (too large); they are in dlq.publisher with the reason.",
        "Raise max.message.bytes of the topic, then replay them.",
    ),
    Metric(
        "gateway_kafka_rebalances",
        _DELIVER,
        "counter",
        ("group",),
        "Times the partitions of a consumer group were dealt anew.",
        "Some at a deployment. All the time: processes die, or stall for longer than their session.",
    ),
    Metric(
        "gateway_kafka_not_events",
        _DELIVER,
        "counter",
        ("group", "kind"),
        "Records of other producers that are no CloudEvents, by reader: not_an_event, or tombstone (no value).",
        "Something else writes to the topic; kafka.not_an_event says where. A subscriber's are in its dead letters.",
    ),
    Metric(
        "gateway_kafka_missing_topics",
        _DELIVER,
        "gauge",
        ("group",),
        "Topics that this reader is to read and that do not exist.",
        "A mistyped name, or a topic of others still to come: kafka.topic_missing names it and the nearest name.",
    ),
    Metric(
        "gateway_kafka_unreadable_partitions",
        _DELIVER,
        "gauge",
        ("group",),
        "Partitions in which this reader cannot go on, as a record batch cannot be decoded.",
        "The log line kafka.unreadable and /readyz say where and why; the other partitions are read.",
    ),
    Metric(
        "gateway_kafka_skipped_offsets",
        _DELIVER,
        "counter",
        ("group",),
        "Offsets that were gone before this group had read them: Kafka's retention, or DeleteRecords.",
        "The subscriber was away for longer than the topic keeps; raise retention.ms or fix it.",
    ),
    Metric(
        "gateway_kafka_recreated_topics",
        _DELIVER,
        "counter",
        ("group",),
        "Times this group (or publisher) found that a topic had been deleted and created again.",
        "What was not read of the deleted topic is gone. The log line kafka.recreated names topic and positions.",
    ),
    Metric(
        "gateway_topic_events",
        _DELIVER,
        "counter",
        ("topic",),
        "Events stored, by topic; counted behind the accept path, up to a second late.",
        "What the platform sends most.",
    ),
    Metric(
        "gateway_search_lag_records",
        _DELIVER,
        "gauge",
        (),
        "Records of the journal that search and explain do not find yet.",
        "High after a start: the index is being made. All the time: the disk or the processor is busy with callbacks.",
    ),
)


_PROCESSES: Final = {metric.name: metric.processes for metric in CATALOGUE}


class Metrics:
    """The catalogue as live metric objects, by name."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.registry = registry
        #: Durations by name and labels of their histogram, each by bucket: what the console takes its quantiles from.
        self.sketches: dict[tuple[str, tuple[str, ...]], dict[int, int]] = {}
        self._by_name: dict[str, Counter | Gauge | Histogram] = {}
        for metric in CATALOGUE:
            self._by_name[metric.name] = _make(metric, registry)

    def counter(self, name: str) -> Counter:
        """The counter of this name.

        Raises:
            KeyError: the catalogue has no such metric.
        """
        found = self._by_name[name]
        assert isinstance(found, Counter)
        return found

    def gauge(self, name: str) -> Gauge:
        """The gauge of this name; errors as :meth:`counter`."""
        found = self._by_name[name]
        assert isinstance(found, Gauge)
        return found

    def histogram(self, name: str) -> Histogram:
        """The histogram of this name; errors as :meth:`counter`."""
        found = self._by_name[name]
        assert isinstance(found, Histogram)
        return found

    def sketch(self, name: str, *labels: str) -> dict[int, int]:
        """Return the counts by bucket beside a histogram of durations; whoever observes counts there too."""
        return self.sketches.setdefault((name, labels), {})

    def observe(self, name: str, seconds: float) -> None:
        """Add a duration to a histogram without labels."""
        self.histogram(name).observe(seconds)
        found, number = self.sketch(name), bucket(seconds)
        found[number] = found.get(number, 0) + 1

    def values(self, name: str) -> Iterator[tuple[tuple[str, ...], float]]:
        """The values of a counter or gauge that has labels, by their values."""
        children: dict[tuple[str, ...], Any] = dict(self._by_name[name]._metrics)  # type: ignore[arg-type]
        for labels, child in children.items():
            yield labels, child._value.get()


def is_counted_in(name: str, process: str) -> bool:
    """Return whether a process reports a metric. What is not in the catalogue (``process_…``) is every process's own.

    Args:
        name: of the metric, without Prometheus' ``_total``.
        process: its name, such as ``ingest-0``.
    """
    processes = _PROCESSES.get(name)
    return processes is None or process.partition("-")[0] in processes


def bounds(name: str) -> tuple[float, ...]:
    """The upper bounds of a histogram's buckets, without the last, unbounded one."""
    return next(metric.buckets for metric in CATALOGUE if metric.name == name)


def observe_many(histogram: Histogram, counts: Sequence[int], total: float) -> None:
    """Add values that were sorted into buckets elsewhere: what ``observe`` does for one, for thousands at once.

    Args:
        histogram: the histogram, or its child.
        counts: values in each bucket by itself, not cumulated; one more than :func:`bounds`.
        total: their sum.
    """
    histogram._sum.inc(total)
    for one, count in zip(histogram._buckets, counts, strict=True):
        if count:
            one.inc(count)


def _make(metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    if metric.kind == "counter":
        return Counter(metric.name, metric.meaning, metric.labels, registry=registry)
    if metric.kind == "gauge":
        return Gauge(metric.name, metric.meaning, metric.labels, registry=registry)
    return Histogram(metric.name, metric.meaning, metric.labels, registry=registry, buckets=metric.buckets)


METRICS: Final = Metrics()
