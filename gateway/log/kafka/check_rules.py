"""The rules of ``gateway check`` on rights and settings. Pure: the needs of a role and the answers of Kafka → findings.

``READ`` and ``WRITE`` include ``DESCRIBE`` in Kafka. ``CREATE`` may be granted on the topic's name or on the cluster.
An idempotent producer needs ``WRITE`` on any topic, before Kafka 2.8 ``IDEMPOTENT_WRITE`` on the cluster (KIP-679).

A topic that does not exist yet is judged by what it would get: ``kafka.topic_config`` over the brokers' defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from gateway.finding import Gathered
from gateway.log.kafka.options import KafkaOptions
from gateway.log.kafka.topics import config_of

MISSING: Final = 3
_INVISIBLE: Final = 29
_PATH: Final = "kafka.security"
TOPIC_SETTINGS: Final = ("cleanup.policy", "max.message.bytes", "min.insync.replicas", "retention.ms")
BROKER_SETTINGS: Final = (
    "log.cleanup.policy",
    "log.retention.hours",
    "log.retention.minutes",
    "log.retention.ms",
    "message.max.bytes",
    "min.insync.replicas",
    "offsets.retention.minutes",
)
_DAY_S: Final = 86_400.0
_CONFIG: Final = "kafka.topic_config"
_ALTER: Final = "set it with kafka-configs --alter"


#: ``events``: each record counts; ``latest``: the last record of a key counts, so that the topic is compacted.
Holds = Literal["events", "latest"]


@dataclass(frozen=True, slots=True)
class TopicNeed:
    """One topic, as a role uses it.

    Args:
        name: without the prefix.
        path: key path of the setting that names it.
        operations: ``READ``, ``WRITE`` or both; each includes ``DESCRIBE``.
        is_ours: the gateway creates it if it is missing and ``kafka.create_topics`` is on.
        holds: see :data:`Holds`.
        longest_wait_s: longest time that a record waits in it until it is due.
    """

    name: str
    path: str
    operations: frozenset[str]
    is_ours: bool = True
    holds: Holds = "events"
    longest_wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Needs:
    """The topics and groups that a role needs.

    Args:
        topics: each once.
        groups: consumer groups of the role, names without the prefix.
        largest_event_bytes: limit of the size of an event.
    """

    topics: Sequence[TopicNeed]
    groups: Sequence[str] = ()
    largest_event_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ClusterTopic:
    """A topic in the cluster.

    Args:
        error: code of Kafka's protocol; 3: it does not exist, 29: the user may not see it.
        replicas: number of configured replicas of each partition.
        in_sync: number of replicas in sync of each partition.
        leaderless: partitions without a leader.
        operations: the user's rights; None if not known.
    """

    error: int
    replicas: tuple[int, ...] = ()
    in_sync: tuple[int, ...] = ()
    leaderless: int = 0
    operations: frozenset[str] | None = None


@dataclass(slots=True)
class ClusterAnswers:
    """Answers of the cluster. A missing answer could not be requested; ``unasked`` has the reason.

    Args:
        brokers: their number.
        cluster_operations: the user's rights on the cluster; None if not known.
        needs_idempotent_write: the brokers are older than 2.8, and WRITE is not enough for an idempotent producer.
        topics: by name in Kafka.
        topic_settings: by name in Kafka; without those that could not be read.
        broker_settings: by node id; without those that could not be read.
        groups: the user's rights by name in Kafka.
        unasked: the reason of a missing answer, by ``topics``, ``topic_settings``, ``broker_settings``, ``groups`` or
            ``clock``.
        clock: by how many seconds the controller's clock is ahead, at least and at most.
    """

    brokers: int
    cluster_operations: frozenset[str] | None = None
    needs_idempotent_write: bool = False
    topics: dict[str, ClusterTopic] = field(default_factory=dict)
    topic_settings: dict[str, Mapping[str, str]] = field(default_factory=dict)
    broker_settings: dict[int, Mapping[str, str]] = field(default_factory=dict)
    groups: dict[str, frozenset[str]] = field(default_factory=dict)
    unasked: dict[str, str] = field(default_factory=dict)
    clock: tuple[float, float] | None = None


def judge_rights(options: KafkaOptions, needs: Needs, answers: ClusterAnswers, found: Gathered) -> None:
    """Add what is missing, what is not known, and one line for what is there."""
    good = [need for need in needs.topics if _topic(options, need, answers, found)]
    groups = [name for name in needs.groups if _group(options.kafka_name(name), answers, found)]
    is_idempotent = _idempotent(needs, answers, found)
    if good or groups:
        counts = [f"{len(good)} of {len(needs.topics)} topics", f"{len(groups)} of {len(needs.groups)} groups"]
        shown = " and ".join(counts if needs.groups else counts[:1])
        found.add(
            "ok", _PATH, f"the rights are there on {shown}" + (", and to write once each" if is_idempotent else "")
        )


def _topic(options: KafkaOptions, need: TopicNeed, answers: ClusterAnswers, found: Gathered) -> bool:
    name = options.kafka_name(need.name)
    state = answers.topics.get(name)
    if state is None:
        why = answers.unasked.get("topics", "the broker did not answer for it")
        found.unknown(_PATH, f"rights not checked: {why}", of=name)
        return False
    wanted = " and ".join(sorted(need.operations))
    if state.error == _INVISIBLE:
        found.problem(_PATH, f"no right to {wanted}, nor to DESCRIBE", f"grant {wanted} in Kafka", of=name)
        return False
    if state.operations is None:
        found.unknown(_PATH, "the broker does not say what the user may do", of=name)
        return False
    missing = sorted(need.operations - state.operations)
    if missing:
        text = " and ".join(missing)
        found.problem(_PATH, f"no right to {text}", f"grant {text} in Kafka", of=name)
    return (state.error != MISSING or _absent(options, need, name, state, answers, found)) and not missing


def _absent(
    options: KafkaOptions, need: TopicNeed, name: str, state: ClusterTopic, answers: ClusterAnswers, found: Gathered
) -> bool:
    """Return whether a topic that does not exist comes into being by itself."""
    if not need.is_ours:
        found.warning(need.path, "not there; read as soon as it is", "correct the name, or wait for its owner", of=name)
        return True
    if not options.create_topics:
        found.problem(
            "kafka.create_topics",
            "not there, and not created",
            "create it (gateway topics create), or set create_topics: true",
            of=name,
        )
        return False
    if "CREATE" in (state.operations or ()) or "CREATE" in (answers.cluster_operations or ()):
        found.ok("kafka.create_topics", "not there yet; created when needed", of=name)
        return True
    if answers.cluster_operations is None:
        found.unknown(_PATH, "not there, and the broker does not say whether we may create it", of=name)
        return False
    found.problem(
        _PATH,
        "not there, and no right to CREATE",
        "grant CREATE in Kafka, or create it (gateway topics create) as another user",
        of=name,
    )
    return False


def _group(name: str, answers: ClusterAnswers, found: Gathered) -> bool:
    operations = answers.groups.get(name)
    if operations is None:
        why = answers.unasked.get("groups", "no broker answered for it")
        found.unknown(_PATH, f"rights not checked: {why}", of=name, noun="group")
        return False
    if "READ" not in operations:
        found.problem(_PATH, "no right to READ", "grant READ in Kafka", of=name, noun="group")
        return False
    return True


def _idempotent(needs: Needs, answers: ClusterAnswers, found: Gathered) -> bool:
    """Return whether the producer may write; one that writes to no topic is not asked about."""
    if not any("WRITE" in need.operations for need in needs.topics):
        return False
    operations = answers.cluster_operations
    if operations is not None and "IDEMPOTENT_WRITE" in operations:
        return True
    if not answers.needs_idempotent_write:
        return any("WRITE" in (state.operations or ()) for state in answers.topics.values())
    if operations is None:
        found.unknown(_PATH, "the broker does not say whether the user has IDEMPOTENT_WRITE on the cluster")
    else:
        found.problem(
            _PATH,
            "no right to IDEMPOTENT_WRITE on the cluster, which a Kafka older than 2.8 asks for",
            "grant it in Kafka",
        )
    return False


def judge_settings(options: KafkaOptions, needs: Needs, answers: ClusterAnswers, found: Gathered) -> None:
    """Add what is wrong, what is not known, and one line for what is good."""
    _brokers(answers, found)
    defaults, checked = _defaults(answers), 0
    settings: Mapping[str, str]
    for need in needs.topics:
        name = options.kafka_name(need.name)
        state = answers.topics.get(name)
        if state is None or state.error not in (0, MISSING):
            continue  # the finding on its rights is enough
        if state.error == MISSING:
            if not need.is_ours or not options.create_topics:
                continue
            settings = defaults | config_of(options, is_compacted=need.holds == "latest")
            _to_be_created(options, answers, settings, found)
        elif name in answers.topic_settings:
            settings = answers.topic_settings[name]
        else:
            why = answers.unasked.get("topic_settings", "the broker did not answer for it")
            found.unknown(_CONFIG, f"settings not checked: {why}", of=name)
            settings = {}
        if state.error == 0:
            _partitions(options, need, name, state, found)
            _replication(name, state, answers, settings, found)
        _kept(needs, need, name, settings, found)
        checked += bool(defaults if state.error == MISSING else settings)
    if checked:
        found.ok(_CONFIG, f"the settings of {checked} of {len(needs.topics)} topics were checked")


def _brokers(answers: ClusterAnswers, found: Gathered) -> None:
    if not answers.broker_settings:
        why = answers.unasked.get("broker_settings", "no broker answered")
        found.unknown("kafka", f"the brokers' offsets.retention.minutes and defaults not checked: {why}")
    for node, settings in answers.broker_settings.items():
        minutes = _number(settings.get("offsets.retention.minutes"))
        if minutes is not None and minutes < 24 * 60:
            found.problem(
                "kafka",
                f"offsets.retention.minutes is {minutes}, less than a day: positions of subscribers are forgotten",
                "set at least 1440 at the brokers; Kafka's default is 10080",
                of=str(node),
                noun="broker",
            )


def _defaults(answers: ClusterAnswers) -> dict[str, str]:
    """Return what a new topic gets, in the names of topic settings; of the first broker that said it."""
    said = next(iter(answers.broker_settings.values()), {})
    retention = said.get("log.retention.ms")
    if retention is None and (minutes := said.get("log.retention.minutes")) is not None:
        retention = str(int(minutes) * 60_000)
    if retention is None and (hours := said.get("log.retention.hours")) is not None:
        retention = str(int(hours) * 3_600_000)
    found = {
        "cleanup.policy": said.get("log.cleanup.policy"),
        "max.message.bytes": said.get("message.max.bytes"),
        "min.insync.replicas": said.get("min.insync.replicas"),
        "retention.ms": retention,
    }
    return {name: value for name, value in found.items() if value is not None}


def _to_be_created(
    options: KafkaOptions, answers: ClusterAnswers, settings: Mapping[str, str], found: Gathered
) -> None:
    wanted = options.replication_factor
    if wanted > answers.brokers:
        found.problem(
            "kafka.replication_factor",
            f"is {wanted}, and the cluster has {answers.brokers} brokers: topics cannot be created",
            "lower it, or start more brokers",
        )
    elif wanted == 1 and answers.brokers > 1:
        found.warning(
            "kafka.replication_factor",
            f"is 1, and the cluster has {answers.brokers} brokers: the events of a lost broker are lost",
            f"set it to {min(3, answers.brokers)}",
        )
    in_sync = _number(settings.get("min.insync.replicas"))
    if in_sync is not None and in_sync > wanted:
        found.problem(
            "kafka.replication_factor",
            f"is {wanted}, and new topics get min.insync.replicas {in_sync}: nothing could be written to them",
            f"set it to {in_sync + 1}, or min.insync.replicas in kafka.topic_config",
        )


def _partitions(options: KafkaOptions, need: TopicNeed, name: str, state: ClusterTopic, found: Gathered) -> None:
    have = len(state.replicas)
    if need.is_ours and have < options.partitions:
        found.warning(
            "kafka.partitions",
            f"{have} partitions, fewer than the {options.partitions} that are configured",
            "add partitions with kafka-topics --alter, or lower kafka.partitions",
            of=name,
        )


def _replication(
    name: str, state: ClusterTopic, answers: ClusterAnswers, settings: Mapping[str, str], found: Gathered
) -> None:
    replicas, in_sync = min(state.replicas, default=0), min(state.in_sync, default=0)
    if state.leaderless:
        text = f"{state.leaderless} partitions have no leader and can be neither written nor read"
        found.problem("kafka", text, "start the brokers that hold them", of=name)
    elif in_sync < replicas:
        text = f"a partition has {in_sync} of {replicas} replicas in sync"
        found.warning("kafka", text, "see which broker is down or behind", of=name)
    if replicas == 1 and answers.brokers > 1:
        found.warning(
            "kafka.replication_factor",
            f"one replica, and the cluster has {answers.brokers} brokers: its events are lost with their broker",
            "add replicas with kafka-reassign-partitions",
            of=name,
        )
    needed = _number(settings.get("min.insync.replicas"))
    if needed is None:
        return
    if needed > replicas:
        text = f"min.insync.replicas is {needed} with {replicas} replicas: nothing can be written"
        found.problem(_CONFIG, text, f"add replicas, or {_ALTER}", of=name)
    elif in_sync < needed:
        text = f"a partition has {in_sync} replicas in sync, and min.insync.replicas is {needed}: it refuses writes"
        found.problem("kafka", text, "start the brokers that are down", of=name)
    elif needed == replicas > 1:
        text = f"min.insync.replicas is {needed} with {replicas} replicas: writing stops when one broker is down"
        found.warning(_CONFIG, text, f"{_ALTER} to {replicas - 1}, or add a replica", of=name)
    elif needed == 1 < replicas:
        text = f"min.insync.replicas is 1 with {replicas} replicas: one broker has an event, and it counts as written"
        found.warning(_CONFIG, text, f"{_ALTER} to 2", of=name)


def _kept(needs: Needs, need: TopicNeed, name: str, settings: Mapping[str, str], found: Gathered) -> None:
    """Check that records are kept as long as they are needed, and accepted at their size."""
    retention_ms = _number(settings.get("retention.ms"))
    retention_s = None if retention_ms is None or retention_ms < 0 else retention_ms / 1000
    policy = settings.get("cleanup.policy", "")
    if need.holds == "latest":
        _latest(name, policy, retention_s, found)
        return
    if "compact" in policy:
        text = f"cleanup.policy is {policy}: only the last event of each key is kept"
        found.problem(_CONFIG, text, f"{_ALTER} to delete", of=name)
    if retention_s is not None and "delete" in policy and retention_s <= need.longest_wait_s:
        found.problem(
            _CONFIG,
            f"retention.ms is {retention_ms}, and an event waits in it for up to {need.longest_wait_s:g} s: it is "
            "deleted before it is due",
            f"{_ALTER} to more than {int(need.longest_wait_s * 2000)}",
            of=name,
        )
    largest = _number(settings.get("max.message.bytes"))
    if largest is not None and largest < needs.largest_event_bytes:
        found.warning(
            _CONFIG,
            f"max.message.bytes is {largest}, and an event may have {needs.largest_event_bytes}: that is refused",
            f"{_ALTER}, or lower ingest.max_body_bytes or ingest.max_event_bytes",
            of=name,
        )


def _latest(name: str, policy: str, retention_s: float | None, found: Gathered) -> None:
    """Check that a topic is compacted; an unknown policy means a topic to be created, which will be."""
    if not policy or ("compact" in policy and "delete" not in policy):
        return
    if retention_s is not None and retention_s < _DAY_S:
        text = f"cleanup.policy is {policy}, and retention.ms less than a day: pauses of subscribers are forgotten"
        found.problem(_CONFIG, text, f"{_ALTER} to compact", of=name)
    else:
        text = f"cleanup.policy is {policy}: states of subscribers are kept for retention.ms only"
        found.warning(_CONFIG, text, f"{_ALTER} to compact", of=name)


def _number(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None
