"""Do the topics, and the brokers' defaults, keep what the gateway promises? Pure: needs and answers in, findings out.

A topic that does not exist yet is judged by what it would get: ``kafka.topic_config`` over the brokers' defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.log.kafka.needs import Answers, Gathered, Needs, TopicNeed, TopicState
from gateway.log.kafka.options import KafkaOptions
from gateway.log.kafka.rights import MISSING
from gateway.log.kafka.topics import config_of

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


def judge(options: KafkaOptions, needs: Needs, answers: Answers, found: Gathered) -> None:
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
            found.add("unknown", _CONFIG, f"settings not checked: {why}", of=name)
            settings = {}
        if state.error == 0:
            _partitions(options, need, name, state, found)
            _replication(name, state, answers, settings, found)
        _kept(needs, need, name, settings, found)
        checked += bool(defaults if state.error == MISSING else settings)
    if checked:
        found.add("ok", _CONFIG, f"the settings of {checked} of {len(needs.topics)} topics were looked at")


def _brokers(answers: Answers, found: Gathered) -> None:
    if not answers.broker_settings:
        why = answers.unasked.get("broker_settings", "no broker answered")
        found.add("unknown", "kafka", f"the brokers' offsets.retention.minutes and defaults not checked: {why}")
    for node, settings in answers.broker_settings.items():
        minutes = _number(settings.get("offsets.retention.minutes"))
        if minutes is not None and minutes < 24 * 60:
            found.add(
                "problem",
                "kafka",
                f"offsets.retention.minutes is {minutes}, less than a day: positions of subscribers are forgotten",
                "set at least 1440 at the brokers; Kafka's default is 10080",
                of=str(node),
                noun="broker",
            )


def _defaults(answers: Answers) -> dict[str, str]:
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


def _to_be_created(options: KafkaOptions, answers: Answers, settings: Mapping[str, str], found: Gathered) -> None:
    wanted = options.replication_factor
    if wanted > answers.brokers:
        found.add(
            "problem",
            "kafka.replication_factor",
            f"is {wanted}, and the cluster has {answers.brokers} brokers: topics cannot be created",
            "lower it, or start more brokers",
        )
    elif wanted == 1 and answers.brokers > 1:
        found.add(
            "warning",
            "kafka.replication_factor",
            f"is 1, and the cluster has {answers.brokers} brokers: the events of a lost broker are lost",
            f"set it to {min(3, answers.brokers)}",
        )
    in_sync = _number(settings.get("min.insync.replicas"))
    if in_sync is not None and in_sync > wanted:
        found.add(
            "problem",
            "kafka.replication_factor",
            f"is {wanted}, and new topics get min.insync.replicas {in_sync}: nothing could be written to them",
            f"set it to {in_sync + 1}, or min.insync.replicas in kafka.topic_config",
        )


def _partitions(options: KafkaOptions, need: TopicNeed, name: str, state: TopicState, found: Gathered) -> None:
    have = len(state.replicas)
    if need.is_ours and have < options.partitions:
        found.add(
            "warning",
            "kafka.partitions",
            f"{have} partitions, fewer than the {options.partitions} that are configured",
            "add partitions with kafka-topics --alter, or lower kafka.partitions",
            of=name,
        )


def _replication(name: str, state: TopicState, answers: Answers, settings: Mapping[str, str], found: Gathered) -> None:
    replicas, in_sync = min(state.replicas, default=0), min(state.in_sync, default=0)
    if state.leaderless:
        text = f"{state.leaderless} partitions have no leader and can be neither written nor read"
        found.add("problem", "kafka", text, "start the brokers that hold them", of=name)
    elif in_sync < replicas:
        text = f"a partition has {in_sync} of {replicas} replicas in sync"
        found.add("warning", "kafka", text, "see which broker is away or behind", of=name)
    if replicas == 1 and answers.brokers > 1:
        found.add(
            "warning",
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
        found.add("problem", _CONFIG, text, f"add replicas, or {_ALTER}", of=name)
    elif in_sync < needed:
        text = f"a partition has {in_sync} replicas in sync, and min.insync.replicas is {needed}: it refuses writes"
        found.add("problem", "kafka", text, "start the brokers that are away", of=name)
    elif needed == replicas > 1:
        text = f"min.insync.replicas is {needed} with {replicas} replicas: one broker away stops writing"
        found.add("warning", _CONFIG, text, f"{_ALTER} to {replicas - 1}, or add a replica", of=name)
    elif needed == 1 < replicas:
        text = f"min.insync.replicas is 1 with {replicas} replicas: one broker has an event, and it counts as written"
        found.add("warning", _CONFIG, text, f"{_ALTER} to 2", of=name)


def _kept(needs: Needs, need: TopicNeed, name: str, settings: Mapping[str, str], found: Gathered) -> None:
    """Whether records stay as long as they are needed, and are taken at their size."""
    retention_ms = _number(settings.get("retention.ms"))
    retention_s = None if retention_ms is None or retention_ms < 0 else retention_ms / 1000
    policy = settings.get("cleanup.policy", "")
    if need.holds == "latest":
        _latest(name, policy, retention_s, found)
        return
    if "compact" in policy:
        text = f"cleanup.policy is {policy}: only the last event of each key is kept"
        found.add("problem", _CONFIG, text, f"{_ALTER} to delete", of=name)
    if retention_s is not None and "delete" in policy and retention_s <= need.longest_wait_s:
        found.add(
            "problem",
            _CONFIG,
            f"retention.ms is {retention_ms}, and an event waits in it for up to {need.longest_wait_s:g} s: it is "
            "deleted before it is due",
            f"{_ALTER} to more than {int(need.longest_wait_s * 2000)}",
            of=name,
        )
    largest = _number(settings.get("max.message.bytes"))
    if largest is not None and largest < needs.largest_event_bytes:
        found.add(
            "warning",
            _CONFIG,
            f"max.message.bytes is {largest}, and an event may have {needs.largest_event_bytes}: that is refused",
            f"{_ALTER}, or lower ingest.max_body_bytes or ingest.max_event_bytes",
            of=name,
        )


def _latest(name: str, policy: str, retention_s: float | None, found: Gathered) -> None:
    """A policy that is not known here is that of a topic to be created, and what we create is compacted."""
    if not policy or ("compact" in policy and "delete" not in policy):
        return
    if retention_s is not None and retention_s < _DAY_S:
        text = f"cleanup.policy is {policy}, and retention.ms less than a day: pauses of subscribers are forgotten"
        found.add("problem", _CONFIG, text, f"{_ALTER} to compact", of=name)
    else:
        text = f"cleanup.policy is {policy}: states of subscribers are kept for retention.ms only"
        found.add("warning", _CONFIG, text, f"{_ALTER} to compact", of=name)


def _number(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None
