"""Rules that look at more than one value, or at what a value names: callbacks, filters, secrets, ports.

They run on every part of the file that could be read, whether or not the rest could, so that all problems are told at
once. Of callbacks: :mod:`gateway.config.callback_rules`. What works but should be looked at is in
:mod:`gateway.config.advice`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from gateway import signing
from gateway.callbacks import CALLBACKS
from gateway.config import callback_rules
from gateway.config.admin_settings import ADMIN, Admin
from gateway.config.alert_settings import Alert
from gateway.config.callback_rules import Problem, Row
from gateway.config.document import KeyPath, index_in
from gateway.config.kafka_settings import Kafka
from gateway.config.settings import FAMILIES, Ingest, Settings, Subscriber
from gateway.config.values import suggestion
from gateway.fanout import sealing, subscriber_rules

#: Cursors of the gateway's own; a subscriber's has its name.
_OWN_NAMES = frozenset({"fanout", "retry", "replay"})
#: Topics of its own, in addition to ``replay``.
_OWN_TOPICS = ("retry.", "replay.", "dlq.", "fanout.")


@dataclass(frozen=True, slots=True)
class Parts:
    """What of a configuration could be read; ``None`` and missing items are what could not.

    Args:
        ingest: without its callbacks.
        callbacks: name, place in the callback's list, and the section.
        subscribers: place in the list, and the section.
        kafka: None also where there is none.
        admin: the admin section.
        alerts: place in the list, and the section.
        has_kafka: there is such a section, be it right or not.
        has_all_callbacks: none is missing.
    """

    ingest: Ingest | None
    callbacks: list[Row] = field(default_factory=list)
    subscribers: list[tuple[int, Subscriber]] = field(default_factory=list)
    kafka: Kafka | None = None
    admin: Admin | None = None
    alerts: list[tuple[int, Alert]] = field(default_factory=list)
    has_kafka: bool = False
    has_all_callbacks: bool = True


def parts_of(settings: Settings) -> Parts:
    """All parts of a configuration that is valid as far as its types go."""
    return Parts(
        settings.ingest,
        [(name, at, row) for name, rows in settings.ingest.callbacks.items() for at, row in enumerate(rows)],
        list(enumerate(settings.subscribers)),
        settings.kafka,
        settings.admin,
        list(enumerate(settings.alerts)),
        has_kafka=settings.kafka is not None,
    )


def problems(parts: Parts) -> Iterator[Problem]:
    """Everything that must be mended before the gateway can start, with key paths."""
    for name, position, row in parts.callbacks:
        yield from _under(("ingest", "callbacks", name, position), callback_rules.section_problems(name, row))
    yield from callback_rules.paths_twice(parts.callbacks)
    for position, subscriber in parts.subscribers:
        yield from _under(("subscribers", position), subscriber_rules.problems(subscriber))
    yield from _names_twice("subscribers", parts.subscribers, "places in the log go by name")
    yield from _names_twice("alerts", parts.alerts, "metrics and commands go by name")
    yield from _alerts(parts.alerts)
    yield from _own_names(parts)
    yield from _topics_nobody_fills(parts)
    yield from _kafka(parts.kafka)
    if parts.kafka is not None and parts.has_all_callbacks:
        yield from _schema_ids(parts.kafka, parts)
    yield from _admin(parts)


def _under(path: KeyPath, found: Iterator[Problem]) -> Iterator[Problem]:
    return ((path + below, text) for below, text in found)


def _names_twice(key: str, items: Sequence[tuple[int, Subscriber | Alert]], why: str) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for position, one in items:
        if one.name in seen:
            yield (key, position, "name"), f"{one.name!r} is the name of {key}[{seen[one.name]}] too; {why}"
        seen.setdefault(one.name, position)


def _alerts(alerts: list[tuple[int, Alert]]) -> Iterator[Problem]:
    for position, one in alerts:
        for index, secret in enumerate(one.webhook.secrets if one.webhook is not None else ()):
            if (text := signing.problem(secret.get_secret_value())) is not None:
                yield ("alerts", position, "webhook", "secrets", index), text


def _own_names(parts: Parts) -> Iterator[Problem]:
    """Names that would share a place in the log, or a topic, with the gateway's own."""
    for position, subscriber in parts.subscribers:
        if subscriber.name in _OWN_NAMES:
            text = f"{subscriber.name!r} is the name of a place in the log of the gateway's own; use another name"
            yield ("subscribers", position, "name"), text
    for name, position, row in parts.callbacks:
        if row.topic is not None and (row.topic == "replay" or row.topic.startswith(_OWN_TOPICS)):
            text = f"{row.topic!r} is the name of a topic of the gateway's own; use another name"
            yield ("ingest", "callbacks", name, position, "topic"), text


def _topics_nobody_fills(parts: Parts) -> Iterator[Problem]:
    """In Kafka others may fill a topic, so there it is a warning (:mod:`gateway.config.advice`)."""
    if not parts.has_kafka and parts.has_all_callbacks:
        yield from unknown_topics(parts)


def unknown_topics(parts: Parts) -> Iterator[Problem]:
    """Topics of subscribers that are neither a family nor the topic of another sender's callback."""
    known = _known_topics(parts)
    for position, subscriber in parts.subscribers:
        for index, topic in enumerate(subscriber.topics):
            if topic not in known:
                hint = suggestion(topic, known) or f"; there are {', '.join(known)}"
                yield ("subscribers", position, "topics", index), f"no callback has the topic {topic!r}{hint}"


def _known_topics(parts: Parts) -> list[str]:
    """Return the families, and the topics of other senders' callbacks."""
    return [*FAMILIES, *(row.topic for name, _, row in parts.callbacks if row.topic and name not in CALLBACKS)]


def _schema_ids(kafka: Kafka, parts: Parts) -> Iterator[Problem]:
    known = _known_topics(parts)
    for topic in kafka.schema_ids:
        if topic not in known:
            hint = suggestion(topic, known) or f"; there are {', '.join(known)}"
            yield ("kafka", "schema_ids", topic), f"no callback has the topic {topic!r}{hint}"


def _kafka(kafka: Kafka | None) -> Iterator[Problem]:
    if kafka is None:
        return
    for position, server in enumerate(kafka.bootstrap_servers):
        host, colon, port = server.rpartition(":")
        if not colon or not host or not 0 < (index_in(port) or 0) < 65536:
            yield ("kafka", "bootstrap_servers", position), "host:port is needed, such as localhost:9092"


def _admin(parts: Parts) -> Iterator[Problem]:
    admin, ingest = parts.admin, parts.ingest
    if admin is None:
        return
    if not is_loopback(admin.host) and not admin.has_token:
        yield ("admin", "token"), f"is needed, as admin.host {admin.host} can be reached from other machines"
    if ingest is not None and admin.port == ingest.port != 0 and _overlap(admin.host, ingest.host):
        yield ("admin", "port"), f"{admin.port} is ingest.port too; the two sides need one each"
    yield from _tokens(admin)
    for position, key in enumerate(admin.secrets_key):
        if problem := sealing.problem(key.get_secret_value()):
            yield ("admin", "secrets_key", position), problem


def _tokens(admin: Admin) -> Iterator[Problem]:
    """The audit record has the name of a token, so that each name and each token is there once."""
    names, texts = {ADMIN}, {admin.token.get_secret_value()}
    for position, one in enumerate(admin.tokens):
        if one.name in names:
            yield (
                ("admin", "tokens", position, "name"),
                f"{one.name!r} is another token's name; use each once",
            )
        if one.token.get_secret_value() in texts:
            yield ("admin", "tokens", position, "token"), "is another name's token, too; each needs its own"
        names.add(one.name)
        texts.add(one.token.get_secret_value())


def is_loopback(host: str) -> bool:
    """Whether a host can only be reached from this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _overlap(one: str, other: str) -> bool:
    anywhere = {"", "0.0.0.0", "::", "[::]"}  # noqa: S104 - looked for, not listened on
    return one == other or one in anywhere or other in anywhere
