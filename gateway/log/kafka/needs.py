"""What a role needs of Kafka, and what Kafka says about it: the two sides that ``gateway check`` compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from gateway.finding import Finding, Level

#: Bits of authorized operations (AclOperation of Kafka's protocol) by name.
OPERATIONS: Final = {
    "READ": 3,
    "WRITE": 4,
    "CREATE": 5,
    "DESCRIBE": 8,
    "DESCRIBE_CONFIGS": 10,
    "IDEMPOTENT_WRITE": 12,
}
#: What a broker answers where it does not know.
_NOT_SAID: Final = -(2**31)
#: Topics or groups that one line names; the others are counted.
_MOST_NAMED: Final = 5

#: ``events``: each record counts; ``latest``: the last record of a key counts, so that the topic is compacted.
Holds = Literal["events", "latest"]


@dataclass(frozen=True, slots=True)
class TopicNeed:
    """One topic, as a role uses it.

    Args:
        name: without the prefix.
        path: key path of what names it.
        operations: ``READ``, ``WRITE`` or both; each includes ``DESCRIBE``.
        is_ours: the gateway creates it where it is missing and ``kafka.create_topics`` is on.
        holds: see :data:`Holds`.
        longest_wait_s: a record waits in it for so long before it is due.
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
        groups: consumer groups that are read with, names without the prefix.
        largest_event_bytes: an event may become so large.
    """

    topics: Sequence[TopicNeed]
    groups: Sequence[str] = ()
    largest_event_bytes: int = 0


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the cluster has it.

    Args:
        error: code of Kafka's protocol; 3: it does not exist, 29: we may not see it.
        replicas: of each partition, those it should have.
        in_sync: of each partition, those it has.
        leaderless: partitions without a leader.
        operations: what the user may do; None: not said.
    """

    error: int
    replicas: tuple[int, ...] = ()
    in_sync: tuple[int, ...] = ()
    leaderless: int = 0
    operations: frozenset[str] | None = None


@dataclass(slots=True)
class Answers:
    """What the cluster said. What is missing could not be asked; ``unasked`` says why.

    Args:
        brokers: their number.
        cluster_operations: what the user may do to the cluster; None: not said.
        needs_idempotent_write: the brokers are older than 2.8, and WRITE is not enough for an idempotent producer.
        topics: by name in Kafka.
        topic_settings: by name in Kafka; without those that could not be read.
        broker_settings: by node id; without those that could not be read.
        groups: by name in Kafka: what the user may do.
        unasked: why something is missing, by ``topics``, ``topic_settings``, ``broker_settings``, ``groups`` or
            ``clock``.
        clock: by how many seconds the controller's clock is ahead, at least and at most.
    """

    brokers: int
    cluster_operations: frozenset[str] | None = None
    needs_idempotent_write: bool = False
    topics: dict[str, TopicState] = field(default_factory=dict)
    topic_settings: dict[str, Mapping[str, str]] = field(default_factory=dict)
    broker_settings: dict[int, Mapping[str, str]] = field(default_factory=dict)
    groups: dict[str, frozenset[str]] = field(default_factory=dict)
    unasked: dict[str, str] = field(default_factory=dict)
    clock: tuple[float, float] | None = None


def operations_of(bits: int) -> frozenset[str] | None:
    """Return the names of authorized operations; None where the broker does not say."""
    if bits == _NOT_SAID:
        return None
    return frozenset(name for name, bit in OPERATIONS.items() if bits >> bit & 1)


class Gathered:
    """Findings, where many topics or groups with the same trouble make one line."""

    def __init__(self) -> None:
        self._found: dict[tuple[Level, str, str, str, str], list[str]] = {}

    def add(self, level: Level, path: str, text: str, advice: str = "", *, of: str = "", noun: str = "topic") -> None:
        """Add one.

        Args:
            text: where ``of`` is given, what is said behind its name.
            of: name of the topic or group; empty: the text is a whole sentence.
            noun: what ``of`` is.
        """
        names = self._found.setdefault((level, path, text, advice, noun if of else ""), [])
        if of and of not in names:
            names.append(of)

    def findings(self) -> list[Finding]:
        """Return them in the order in which the first of each was added."""
        return [
            Finding(level, path, f"{listed(noun, names)}: {text}" if names else text, advice)
            for (level, path, text, advice, noun), names in self._found.items()
        ]


def listed(noun: str, names: Sequence[str]) -> str:
    """Return ``topic a``, or ``topics a, b and 7 more``."""
    shown = ", ".join(names[:_MOST_NAMED])
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{noun}{'s' if len(names) > 1 else ''} {shown}{more}"
