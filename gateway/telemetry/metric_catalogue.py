"""Every number the gateway exports, in one table: kind, unit, meaning, and what to do when it is high.

Names follow the Prometheus conventions: ``gateway_<what>_<unit>_total`` for counters, base units. They are made and
counted by :mod:`.metrics`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

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


class Help(NamedTuple):
    """Meaning of a metric, and what to do when it is high or moves at all."""

    meaning: str
    advice: str


def _metrics(
    processes: tuple[Kind, ...],
    kind: Literal["counter", "gauge", "histogram"],
    rows: Mapping[str, Help],
    buckets: tuple[float, ...] = (),
) -> Iterator[Metric]:
    """Yield metrics of one kind that the same processes count.

    Args:
        rows: name and labels, as in ``gateway_callbacks{callback,outcome}`` → meaning and advice.
    """
    for text, (meaning, advice) in rows.items():
        name, _, labels = text.removesuffix("}").partition("{")
        yield Metric(name, processes, kind, tuple(filter(None, labels.split(","))), meaning, advice, buckets)


#: Answers take a disk sync, so half a millisecond is the least; the platform's patience is not known: 10 s.
_ANSWER_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0)
_DELIVERY_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCH: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

_INGEST_COUNTERS: Final = {
    "gateway_callbacks{callback,outcome}": Help(
        "Callbacks answered, by outcome: accepted, repeated, rejected, unauthenticated, forbidden, refused, "
        "unavailable.",
        "rejected: read the topic callbacks.rejected. unauthenticated, forbidden: compare credentials and addresses. "
        "unavailable: see gateway_journal_failures.",
    ),
    "gateway_callback_drift{callback}": Help(
        "Fields, codes, character sets and layouts that the platform does not document, and names sent twice.",
        "The platform changed a callback. The log line callback.drifted reports each change once. No data is lost: "
        "data.raw has it.",
    ),
    "gateway_http_refused{reason}": Help(
        "Requests refused before a callback was known, by reason: not_found, method, too_large, malformed, timeout.",
        "not_found: the sender has a wrong address; the log reports the nearest path, and callbacks.rejected keeps "
        "the first requests of a day. Other reasons: a scanner, or limits that are too low.",
    ),
}
_INGEST_SECONDS: Final = {
    "gateway_callback_answer_seconds{callback}": Help(
        "Time from a complete request to its answer, commit included.",
        "High at a low rate: the disk is slow. High at a high rate: raise ingest.workers.",
    )
}
_PORT_COUNTERS: Final = {
    "gateway_connections_closed{port,reason}": Help(
        "Connections of a port (ingest, admin) that the gateway closed, by reason: full (the port had its maximum), "
        "silent (the peer sent nothing).",
        "full: find out who opens the connections, or raise the limit of open files (ulimit -n). silent: port scans "
        "and health checks.",
    )
}
_DELIVER_COUNTERS: Final = {
    "gateway_admin_unauthenticated": Help(
        "Requests at the admin port with a wrong token, or without the required token.",
        "A few: a page or a script has an old token. Many: an attack; the log line admin.unauthenticated has the "
        "addresses.",
    ),
    "gateway_journal_expired_events{group}": Help(
        "Records that expired in the journal before this reader had read them.",
        "The reader was behind for longer than the journal's retention. Raise journal.retention, or repair the "
        "subscriber.",
    ),
    "gateway_deliveries{subscriber,outcome}": Help(
        "Attempts, by outcome: delivered, retried, parked, dead_lettered, stopped, abandoned, cancelled; and events "
        "skipped by the filter, withdrawn with a cancelled replay, and lost.",
        "retried: read the subscriber's last error. dead_lettered: run gateway dlq list. lost: read the log line "
        "delivery.lost. cancelled: the attempt took more than 2 s while its partition moved to another process; the "
        "event is delivered again.",
    ),
    "gateway_retry_moved{reason}": Help(
        "Parked events appended again without an attempt, by reason: down, late, full, held, gone; and records "
        "not_ours.",
        "down, late: look at the states of the subscribers. full: a subscriber has more retries than it accepts. "
        "not_ours: another program writes to the topic; the log names the place.",
    ),
    "gateway_attempts_unrecorded": Help(
        "Delivery attempts missing from gateway explain, because the log did not store their records in time.",
        "The log refuses appends: see gateway_journal_failures. Deliveries do not depend on these records.",
    ),
    "gateway_process_restarts{process}": Help(
        "Restarts of a process of this gateway (log, deliver, ingest-0, …) after it died.",
        "Any increase: read the log line process.died, and the lines of that process before it.",
    ),
    "gateway_kafka_throttled_seconds{client}": Help(
        "Time by which quotas of the brokers delayed requests of this client.",
        "Growing: the quota of the gateway's user or client id is too small (kafka-configs.sh).",
    ),
    "gateway_kafka_written_events{topic}": Help(
        "Records acknowledged by Kafka.",
        "Its rate is the rate of publishing. Below the rate of arrival the journal grows.",
    ),
    "gateway_kafka_producer_failures{client}": Help(
        "Batches that Kafka refused, or whose answer was lost with their connection. Each was sent again.",
        "Many: the log line kafka.unavailable has the reason (rights, size, partitions without a leader).",
    ),
    "gateway_publisher_dead_letters{topic}": Help(
        "Events that no broker accepts (too large). They are in dlq.publisher, with the reason.",
        "Raise max.message.bytes of the topic, then replay them.",
    ),
    "gateway_kafka_rebalances{group}": Help(
        "Rebalances: the partitions of a consumer group were assigned again.",
        "Some are normal during a deployment. Frequent: processes die, or stall for longer than their session.",
    ),
    "gateway_kafka_not_events{group,kind}": Help(
        "Records of other producers that are not CloudEvents, by reader and kind: not_an_event, or tombstone (no "
        "value).",
        "Another program writes to the topic; the log line kafka.not_an_event names the place. A subscriber's records "
        "are in its dead letters.",
    ),
    "gateway_kafka_skipped_offsets{group}": Help(
        "Offsets that were removed before this group had read them, by Kafka's retention or by DeleteRecords.",
        "The group was behind for longer than the topic's retention. Raise retention.ms, or repair the subscriber.",
    ),
    "gateway_kafka_recreated_topics{group}": Help(
        "Times this group (or the publisher) found that a topic had been deleted and created again.",
        "Unread records of the deleted topic are gone. The log line kafka.recreated has topic and positions.",
    ),
    "gateway_topic_events{topic}": Help(
        "Events stored, by topic; counted up to a second after the answer.", "Which events the platform sends most."
    ),
    "gateway_alert_messages{receiver,outcome}": Help(
        "Messages to a receiver of alerts, by outcome: sent, failed (it is tried again).",
        "failed: the log line alert.not_sent has the reason; gateway alerts test NAME sends a sample.",
    ),
}
_LOG_COUNTERS: Final = {
    "gateway_journal_events{stream}": Help("Records committed to the journal.", "Its rate is the rate of arrival."),
    "gateway_journal_failures{reason}": Help(
        "Commits that failed, by reason: full, disk, moved (the files were deleted or changed while the gateway ran).",
        "Any increase: callbacks were answered 503. The log lines journal.commit_failed and journal.moved have the "
        "advice.",
    ),
}
_LOG_SECONDS: Final = {
    "gateway_journal_commit_seconds": Help(
        "Time of one group commit, sync included.", "High: the disk is slow or busy. Every answer waits for a commit."
    )
}
_LOG_SIZES: Final = {
    "gateway_journal_batch_events": Help(
        "Records in one commit.", "Large batches are normal at a high rate: callbacks share a sync of the disk."
    )
}
_LOG_GAUGES: Final = {
    "gateway_journal_used_bytes": Help(
        "Used bytes of the journal's file.",
        "Near journal.max_bytes the oldest events expire. When Kafka has not acknowledged them, callbacks are "
        "answered 503 instead.",
    )
}
_DELIVER_GAUGES: Final = {
    "gateway_journal_oldest_age_seconds": Help("Age of the oldest record in the journal.", "The limit of a replay."),
    "gateway_dead_letters_open{subscriber,reason}": Help(
        "Dead letters that are neither delivered by a replay nor resolved by a person. Each process that delivers "
        "counts those of the whole log: take the highest value, not the sum. Missing while a process has not read "
        "them.",
        "Run gateway dlq list, correct the cause, then gateway dlq replay; or gateway dlq resolve with a note.",
    ),
    "gateway_delivery_in_flight{subscriber}": Help(
        "Attempts in progress.", "At the subscriber's concurrency for long: the subscriber is too slow."
    ),
    "gateway_subscriber_lag_records{subscriber}": Help(
        "Records between the subscriber's position and the end of its log.",
        "Growing: the subscriber is down, or slower than the rate of arrival.",
    ),
    "gateway_subscriber_state{subscriber,state}": Help(
        "1 for the current state of the subscriber: healthy, degraded, down, paused, stopped; 0 for the others. All 0: "
        "the state is unknown. Only the process with the admin port reports it.",
        "down: its events wait in the log. degraded: it has open dead letters, is behind, or refuses many attempts; "
        "gateway subscribers list gives the reason.",
    ),
    "gateway_process_up{process}": Help(
        "1 for a process whose metrics are in this answer, 0 for one that did not answer within a second.",
        "0: the process died and is being restarted (process.died), or it hangs or is overloaded "
        "(process.not_scraped).",
    ),
    "gateway_kafka_up{client}": Help(
        "1 while Kafka serves all clients of this name (publisher, writer, a consumer group, a stream), otherwise 0.",
        "0: the log line kafka.unavailable and /readyz give the reason. Events wait in the journal, and none is lost.",
    ),
    "gateway_kafka_problems{client,word}": Help(
        "Topics (or connections) of the clients of this name that have a problem, by error word: authentication, "
        "authorisation, instance_in_use, group_in_use, away, not_enough_replicas, refused, codec, unreadable, "
        "unknown_topic, throttled.",
        "Look the word up in the table of error words. /readyz and the log line kafka.unavailable have the reason and "
        "the advice.",
    ),
    "gateway_publisher_lag_records{topic}": Help(
        "Records of this topic in the journal that Kafka has not acknowledged.",
        "Growing: the topic cannot be written (gateway_publisher_topic_up), or Kafka is unavailable or too slow. When "
        "the journal is full, callbacks are answered 503.",
    ),
    "gateway_publisher_queue_bytes{topic}": Help(
        "Memory of the records of this topic that were read and are not acknowledged.",
        "The limit is 4 MiB for a topic, and 256 KiB while all topics together have more than 16 MiB.",
    ),
    "gateway_publisher_topic_up{topic}": Help(
        "1 while Kafka accepts this topic, or no problem is known; 0 while a part of it cannot be written.",
        "0: /readyz and the log line kafka.unavailable have reason and advice. Its events wait in the journal; other "
        "topics are published.",
    ),
    "gateway_kafka_missing_topics{group}": Help(
        "Topics that this reader is configured to read and that do not exist.",
        "A mistyped name, or a topic that another program has not created yet. The log line kafka.topic_missing has "
        "the nearest name.",
    ),
    "gateway_kafka_unreadable_partitions{group}": Help(
        "Partitions that this reader cannot read, because a record batch cannot be decoded.",
        "The log line kafka.unreadable and /readyz have the place and the reason. The other partitions are read.",
    ),
    "gateway_alerts_firing{receiver,rule}": Help(
        "Problems that were reported to a receiver of alerts and have not ended, by rule.",
        "Above 0: see the log line alert.firing.",
    ),
    "gateway_search_lag_records": Help(
        "Records of the journal that search and explain do not find yet.",
        "High after a start: the index is being built. High for long: the disk or the processor is busy with "
        "callbacks.",
    ),
}
_READ_COUNTERS: Final = {
    "gateway_journal_damaged_segments": Help(
        "Stored batches whose checksum is wrong.",
        "The disk or the memory is faulty. Run gateway journal check, and replace the faulty part.",
    )
}
_DELIVER_SECONDS: Final = {
    "gateway_delivery_attempt_seconds{subscriber}": Help(
        "Time of one attempt, from connecting to the end of the answer.",
        "High: the subscriber is slow. It should store the event, answer, and work afterwards.",
    )
}

CATALOGUE: Final = (
    *_metrics(("ingest",), "counter", _INGEST_COUNTERS),
    *_metrics(("ingest",), "histogram", _INGEST_SECONDS, _ANSWER_S),
    *_metrics(("ingest", "deliver"), "counter", _PORT_COUNTERS),
    *_metrics(("deliver",), "counter", _DELIVER_COUNTERS),
    *_metrics(("log",), "counter", _LOG_COUNTERS),
    *_metrics(("log",), "histogram", _LOG_SECONDS, _ANSWER_S),
    *_metrics(("log",), "histogram", _LOG_SIZES, _BATCH),
    *_metrics(("log",), "gauge", _LOG_GAUGES),
    *_metrics(("deliver",), "gauge", _DELIVER_GAUGES),
    *_metrics(("log", "deliver"), "counter", _READ_COUNTERS),
    *_metrics(("deliver",), "histogram", _DELIVER_SECONDS, _DELIVERY_S),
)
