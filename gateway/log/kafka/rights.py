"""May the user do what the role does? Pure: needs and answers in, findings out.

``READ`` and ``WRITE`` include ``DESCRIBE`` in Kafka. ``CREATE`` may be granted on the topic's name or on the cluster.
An idempotent producer needs ``WRITE`` on any topic, before Kafka 2.8 ``IDEMPOTENT_WRITE`` on the cluster (KIP-679).
"""

from __future__ import annotations

from typing import Final

from gateway.log.kafka.needs import Answers, Gathered, Needs, TopicNeed, TopicState
from gateway.log.kafka.options import KafkaOptions

MISSING: Final = 3
_INVISIBLE: Final = 29
_PATH: Final = "kafka.security"


def judge(options: KafkaOptions, needs: Needs, answers: Answers, found: Gathered) -> None:
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


def _topic(options: KafkaOptions, need: TopicNeed, answers: Answers, found: Gathered) -> bool:
    name = options.kafka_name(need.name)
    state = answers.topics.get(name)
    if state is None:
        why = answers.unasked.get("topics", "the broker did not answer for it")
        found.add("unknown", _PATH, f"rights not checked: {why}", of=name)
        return False
    wanted = " and ".join(sorted(need.operations))
    if state.error == _INVISIBLE:
        found.add(
            "problem",
            _PATH,
            f"no right to {wanted}, nor to DESCRIBE",
            f"grant {wanted} in Kafka",
            of=name,
        )
        return False
    if state.operations is None:
        found.add("unknown", _PATH, "the broker does not say what the user may do", of=name)
        return False
    missing = sorted(need.operations - state.operations)
    if missing:
        text = " and ".join(missing)
        found.add("problem", _PATH, f"no right to {text}", f"grant {text} in Kafka", of=name)
    return (state.error != MISSING or _absent(options, need, name, state, answers, found)) and not missing


def _absent(
    options: KafkaOptions, need: TopicNeed, name: str, state: TopicState, answers: Answers, found: Gathered
) -> bool:
    """Return whether a topic that does not exist comes into being by itself."""
    if not need.is_ours:
        found.add(
            "warning",
            need.path,
            "not there; read as soon as it is",
            "correct the name, or wait for its owner",
            of=name,
        )
        return True
    if not options.create_topics:
        found.add(
            "problem",
            "kafka.create_topics",
            "not there, and not created",
            "create it (gateway topics create), or set create_topics: true",
            of=name,
        )
        return False
    if "CREATE" in (state.operations or ()) or "CREATE" in (answers.cluster_operations or ()):
        found.add("ok", "kafka.create_topics", "not there yet; created when needed", of=name)
        return True
    if answers.cluster_operations is None:
        found.add("unknown", _PATH, "not there, and the broker does not say whether we may create it", of=name)
        return False
    found.add(
        "problem",
        _PATH,
        "not there, and no right to CREATE",
        "grant CREATE in Kafka, or create it (gateway topics create) as another user",
        of=name,
    )
    return False


def _group(name: str, answers: Answers, found: Gathered) -> bool:
    operations = answers.groups.get(name)
    if operations is None:
        why = answers.unasked.get("groups", "no broker answered for it")
        found.add("unknown", _PATH, f"rights not checked: {why}", of=name, noun="group")
        return False
    if "READ" not in operations:
        found.add("problem", _PATH, "no right to READ", "grant READ in Kafka", of=name, noun="group")
        return False
    return True


def _idempotent(needs: Needs, answers: Answers, found: Gathered) -> bool:
    """Return whether the producer may write; one that writes to no topic is not asked about."""
    if not any("WRITE" in need.operations for need in needs.topics):
        return False
    operations = answers.cluster_operations
    if operations is not None and "IDEMPOTENT_WRITE" in operations:
        return True
    if not answers.needs_idempotent_write:
        return any("WRITE" in (state.operations or ()) for state in answers.topics.values())
    if operations is None:
        found.add("unknown", _PATH, "the broker does not say whether the user has IDEMPOTENT_WRITE on the cluster")
    else:
        found.add(
            "problem",
            _PATH,
            "no right to IDEMPOTENT_WRITE on the cluster, which a Kafka older than 2.8 asks for",
            "grant it in Kafka",
        )
    return False
