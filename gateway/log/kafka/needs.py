"""The needs of a role and the answers of Kafka: ``gateway check`` compares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partialmethod
from typing import Final, Literal

from gateway.connectivity import Finding, Level

#: Bits of authorized operations (AclOperation of Kafka's protocol) by name.
OPERATIONS: Final = {
    "READ": 3,
    "WRITE": 4,
    "CREATE": 5,
    "DESCRIBE": 8,
    "DESCRIBE_CONFIGS": 10,
    "IDEMPOTENT_WRITE": 12,
}
#: The answer of a broker that does not know the operations.
_NOT_SAID: Final = -(2**31)
#: A line names at most so many topics or groups, and the number of the others.
_MOST_NAMED: Final = 5

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
    """All that a role needs.

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


def operations_of(bits: int) -> frozenset[str] | None:
    """Return the names of authorized operations; None if the broker does not return them."""
    if bits == _NOT_SAID:
        return None
    return frozenset(name for name, bit in OPERATIONS.items() if bits >> bit & 1)


class Gathered:
    """Findings; topics or groups with the same problem share a line."""

    def __init__(self) -> None:
        self._found: dict[tuple[Level, str, str, str, str], list[str]] = {}

    def add(self, level: Level, path: str, text: str, advice: str = "", *, of: str = "", noun: str = "topic") -> None:
        """Add a finding.

        Args:
            level: its severity; :attr:`ok` and so on add one with their own.
            path: key path of the setting.
            text: with ``of``, the end of a sentence behind its name.
            advice: what to do.
            of: name of the topic or group; empty if the text is a whole sentence.
            noun: kind of ``of``.
        """
        names = self._found.setdefault((level, path, text, advice, noun if of else ""), [])
        if of and of not in names:
            names.append(of)

    ok = partialmethod(add, "ok")
    unknown = partialmethod(add, "unknown")
    warning = partialmethod(add, "warning")
    problem = partialmethod(add, "problem")

    def findings(self) -> list[Finding]:
        """Return the findings in the order in which the first of each was added."""
        return [
            Finding(level, path, f"{listed(noun, names)}: {text}" if names else text, advice)
            for (level, path, text, advice, noun), names in self._found.items()
        ]


def listed(noun: str, names: Sequence[str]) -> str:
    """Return ``topic a``, or ``topics a, b and 7 more``."""
    shown = ", ".join(names[:_MOST_NAMED])
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{noun}{'s' if len(names) > 1 else ''} {shown}{more}"
