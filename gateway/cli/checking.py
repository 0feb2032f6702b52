"""The checks of ``gateway check``: what a start would refuse, then everything that the configuration names.

All looks run at once and have a bounded time together; findings come in the order of the configuration. Which topics
and consumer groups a role needs in Kafka follows what the parts themselves use: the publisher the topics of events,
fan-out those of the subscribers and the gateway's own, both the topic with the subscribers' states.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from gateway.admin import audit
from gateway.app import Role
from gateway.cli import subscriber_hosts
from gateway.config.settings import JournalSettings, Settings, Subscriber
from gateway.errors import ConfigError
from gateway.fanout import (
    attempts,
    replay_board,
    retry_feed,
    subscriber_state,
    subscriber_store,
    subscription,
    subscriptions,
)
from gateway.fanout.reader import group_name
from gateway.fanout.retry_moves import FIRST_WAIT_S
from gateway.fanout.retry_records import REPLAY, dlq_topic, retry_topic
from gateway.finding import Finding
from gateway.ingest.endpoints import endpoints
from gateway.log.journal.files import FILE_NAME, old_layout
from gateway.log.kafka.check_rules import Needs, TopicNeed
from gateway.log.kafka.diagnosis import diagnose
from gateway.log.kafka.options import KafkaOptions

#: For everything. A person waits for it, and so does a deployment.
CHECK_S: Final = 10.0
#: Hosts looked at in the same moment: each takes a thread for its name, and a descriptor.
_AT_ONCE: Final = 128
_INDEX: Final = re.compile(r"^(\w+)(?:\[(\d+)\])?")
_READ, _WRITE = frozenset({"READ"}), frozenset({"WRITE"})


def built(settings: Settings, role: Role) -> KafkaOptions | None:
    """Make what a start would make of the configuration, and return the options for Kafka; reads files, no network.

    Raises:
        ConfigError: a start would refuse it; all problems at once.
    """
    problems: list[str] = []
    options = None
    try:
        options = KafkaOptions.of(settings.kafka, settings.topics) if settings.kafka is not None else None
    except ConfigError as exc:
        problems += exc.problems
    if role != "fanout":
        try:
            endpoints(settings.ingest, settings.topics.schema_base_url)
        except ConfigError as exc:
            problems += exc.problems
    if role != "serve":
        problems += subscription.problems(settings.subscribers)
    if problems:
        raise ConfigError(problems)
    return options


async def look(settings: Settings, role: Role, options: KafkaOptions | None) -> list[Finding]:
    """Look at everything that the role reaches; takes ``CHECK_S`` at most."""
    looks: list[Awaitable[list[Finding]]] = []
    if role != "fanout":
        looks.append(asyncio.to_thread(_disk, settings.journal))
    if options is not None:
        looks.append(diagnose(options, needs_of(settings, role), CHECK_S))
    if role != "serve":
        gate = asyncio.Semaphore(_AT_ONCE)
        looks += [_subscriber(position, one, gate) for position, one in enumerate(settings.subscribers)]
    return [finding for findings in await asyncio.gather(*looks) for finding in findings]


async def _subscriber(position: int, subscriber: Subscriber, gate: asyncio.Semaphore) -> list[Finding]:
    path = f"subscribers[{position}]"
    if subscriber.kind == "stream":
        return [Finding("ok", path, f"{subscriber.name} is a stream: it is fetched, and nothing is to be reached")]
    if subscriber.path is not None and subscriber.kind == "file":
        return [await asyncio.to_thread(_writable, f"{path}.path", Path(subscriber.path).parent)]
    try:
        async with asyncio.timeout(CHECK_S), gate:
            return await subscriber_hosts.look(position, subscriber)
    except TimeoutError:
        return [Finding("unknown", f"{path}.url", f"not checked to the end within {CHECK_S:g} s")]


def _disk(journal: JournalSettings) -> list[Finding]:
    found = _writable("journal.dir", Path(journal.dir))
    if found.level == "ok" and (old := old_layout(Path(journal.dir))):
        found = Finding("problem", "journal.dir", *old)
    return [found, _room(journal)]


def _writable(path: str, folder: Path) -> Finding:
    existing = _existing(folder)
    if not existing.is_dir():
        return Finding("problem", path, f"{existing} is not a folder", "name another one")
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding("problem", path, f"{existing} cannot be written by this user", "give it to the gateway's user")
    return Finding("ok", path, f"{folder} can be {'written' if folder.exists() else 'made'}")


def _room(journal: JournalSettings) -> Finding:
    folder = Path(journal.dir)
    free = shutil.disk_usage(_existing(folder)).free
    used = sum(_size(one) for one in (folder / FILE_NAME, folder / f"{FILE_NAME}-wal"))
    wanted = int(journal.max_bytes) - used
    if wanted > free:
        return Finding(
            "warning",
            "journal.max_bytes",
            f"the journal may still grow by {wanted / 1e9:.1f} GB, and the disk has {free / 1e9:.1f} GB left; "
            "a full disk answers callbacks 503",
            "lower it, or give it a larger disk",
        )
    return Finding("ok", "journal.max_bytes", f"{free / 1e9:.1f} GB are free")


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings in the order of the configuration: by section, of subscribers by their place."""
    sections = list(Settings.model_fields)

    def place(finding: Finding) -> tuple[int, int]:
        found = _INDEX.match(finding.path)
        section, index = (found[1], found[2]) if found else ("", None)
        number = int(index) if index and section == "subscribers" else 0
        return (sections.index(section) if section in sections else len(sections)), number

    return sorted(findings, key=place)


def needs_of(settings: Settings, role: Role) -> Needs:
    """Return all that the role uses; names without the prefix.

    Args:
        settings: the whole configuration; with a section ``kafka``.
        role: the command of that name.
    """
    found: dict[str, TopicNeed] = {}
    readers = [one for one in enumerate(settings.subscribers) if role != "serve"]
    for need in _needed_topics(settings, role, readers):
        known = found.setdefault(need.name, need)
        found[need.name] = _both(known, need)
    groups = _groups([one for _, one in readers if one.kind != "stream"])
    # An event holds its callback twice, as fields and raw.
    largest = min(int(settings.ingest.max_event_bytes), 2 * int(settings.ingest.max_body_bytes))
    return Needs(list(found.values()), groups, largest)


def _needed_topics(settings: Settings, role: Role, readers: list[tuple[int, Subscriber]]) -> Iterator[TopicNeed]:
    events = settings.event_topics
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
    return [subscriptions.GROUP, retry_feed.GROUP, *(group_name(one.name) for one in subscribers)]


def _both(one: TopicNeed, other: TopicNeed) -> TopicNeed:
    return TopicNeed(
        one.name,
        one.path,
        one.operations | other.operations,
        is_ours=one.is_ours,
        holds=one.holds,
        longest_wait_s=max(one.longest_wait_s, other.longest_wait_s),
    )
