"""Which topics and consumer groups the roles use in Kafka: the one place that ``gateway check`` takes them from.

It follows what the parts themselves use: the publisher the topics of events, fan-out those of the subscribers and the
gateway's own, both the topic with the subscribers' states.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.admin import audit
from gateway.app import Role
from gateway.config.settings import Settings, Subscriber
from gateway.derived import event_topics
from gateway.fanout import attempts, fanout, replay_board, retry_feed, subscriber_state, subscriber_store
from gateway.fanout.reader import group_name
from gateway.fanout.retry_moves import FIRST_WAIT_S
from gateway.fanout.retry_records import REPLAY, dlq_topic, retry_topic
from gateway.log.kafka.check_rules import Needs, TopicNeed

_READ, _WRITE = frozenset({"READ"}), frozenset({"WRITE"})


def needs_of(settings: Settings, role: Role) -> Needs:
    """Return all that the role uses; names without the prefix.

    Args:
        settings: the whole configuration; with a section ``kafka``.
        role: the command of that name.
    """
    found: dict[str, TopicNeed] = {}
    readers = [one for one in enumerate(settings.subscribers) if role != "serve"]
    for need in _topics(settings, role, readers):
        known = found.setdefault(need.name, need)
        found[need.name] = _both(known, need)
    groups = _groups([one for _, one in readers if one.kind != "stream"])
    # An event holds its callback twice, as fields and raw.
    largest = min(int(settings.ingest.max_event_bytes), 2 * int(settings.ingest.max_body_bytes))
    return Needs(list(found.values()), groups, largest)


def _topics(settings: Settings, role: Role, readers: list[tuple[int, Subscriber]]) -> Iterator[TopicNeed]:
    events = event_topics(settings)
    if role != "fanout":
        yield from (TopicNeed(topic, "ingest.callbacks", _WRITE) for topic in events)
    for position, subscriber in readers:
        for index, topic in enumerate(subscriber.topics):
            path = f"subscribers[{position}].topics[{index}]"
            yield TopicNeed(topic, path, _READ, is_ours=topic in events)
        if subscriber.kind != "stream":
            yield from _own_topics(f"subscribers[{position}].name", subscriber)
    yield TopicNeed(subscriber_state.TOPIC, "kafka", _READ | _WRITE, holds="latest")
    # Any role can be asked for a replay.
    yield TopicNeed(replay_board.TOPIC, "kafka", _READ | _WRITE)
    # Those that are added at run time, and who did it.
    yield TopicNeed(subscriber_store.TOPIC, "kafka", _READ | _WRITE, holds="latest")
    yield TopicNeed(audit.TOPIC, "kafka", _READ | _WRITE)
    # The console of any role reads what fan-out writes of its attempts.
    yield TopicNeed(attempts.TOPIC, "kafka", _READ if role == "serve" else _READ | _WRITE)


def _own_topics(path: str, subscriber: Subscriber) -> Iterator[TopicNeed]:
    retry = subscriber.retry
    # The first one is of what comes back as its subscriber is down, whatever the configuration names.
    tiers = sorted({FIRST_WAIT_S, *retry.tiers})
    for tier, following in zip(tiers, [*tiers[1:], retry.max_delay_s], strict=True):
        # A wait that is longer than the tier and shorter than the next one is parked in it, too.
        yield TopicNeed(retry_topic(tier), path, _READ | _WRITE, longest_wait_s=max(tier, following))
    yield TopicNeed(REPLAY, path, _READ | _WRITE)
    yield TopicNeed(dlq_topic(subscriber.name), path, _READ | _WRITE)


def _groups(subscribers: Sequence[Subscriber]) -> list[str]:
    """Return the group that assigns partitions, and those under which positions are kept."""
    if not subscribers:
        return []
    return [fanout.GROUP, retry_feed.GROUP, *(group_name(one.name) for one in subscribers)]


def _both(one: TopicNeed, other: TopicNeed) -> TopicNeed:
    """Return what two uses of one topic need together."""
    return TopicNeed(
        one.name,
        one.path,
        one.operations | other.operations,
        is_ours=one.is_ours,
        holds=one.holds,
        longest_wait_s=max(one.longest_wait_s, other.longest_wait_s),
    )
