"""Rules that look at more than one value, or at what a value names: callbacks, filters, secrets, ports.

They run once all values have the right types. Of callbacks: :mod:`gateway.config.callback_rules`; of one subscriber:
:mod:`gateway.fanout.subscriber_rules`. What works but should be looked at is in :mod:`gateway.config.advice`.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Iterator, Sequence

from gateway import signing
from gateway.config import callback_rules
from gateway.config.admin_settings import ADMIN, Admin
from gateway.config.alert_settings import Alert
from gateway.config.callback_rules import Problem
from gateway.config.callbacks import all_paths
from gateway.config.document import KeyPath, index_in
from gateway.config.kafka_settings import Kafka
from gateway.config.settings import FAMILIES, Ingest, Settings, Subscriber
from gateway.config.values import suggestion
from gateway.fanout import sealing, subscriber_rules

#: Cursors of the gateway's own; a subscriber's has its name.
_OWN_NAMES = frozenset({"fanout", "retry", "replay"})
#: Topics of its own, in addition to ``replay``.
_OWN_TOPICS = ("retry.", "replay.", "dlq.", "fanout.")
_NO_HEADER_TEXT = "is sent in a header: use printable ASCII characters without spaces"


def problems(settings: Settings) -> Iterator[Problem]:
    """Yield everything that must be corrected before the gateway can start, with key paths."""
    for row in all_paths(settings.ingest):
        path: KeyPath = ("ingest", "callbacks", row.callback, row.position)
        yield from _under(path, callback_rules.section_problems(row.callback, row.config))
        topic = row.config.topic
        if topic is not None and (topic == "replay" or topic.startswith(_OWN_TOPICS)):
            yield (*path, "topic"), f"{topic!r} is the name of a topic of the gateway's own; use another name"
    yield from callback_rules.paths_twice(settings.ingest)
    for position, subscriber in enumerate(settings.subscribers):
        yield from _under(("subscribers", position), subscriber_rules.problems(subscriber))
    yield from _names_twice("subscribers", settings.subscribers, "positions in the log are stored by name")
    yield from _own_names(settings.subscribers)
    yield from _files_twice(settings.subscribers)
    yield from _names_twice("alerts", settings.alerts, "metrics and commands use the name")
    yield from _alerts(settings.alerts)
    if settings.kafka is None:  # in Kafka others may fill a topic, so there it is a warning
        yield from unknown_topics(settings)
    else:
        yield from _brokers(settings.kafka)
        yield from _unknown(settings, ((("kafka", "schema_ids", topic), topic) for topic in settings.kafka.schema_ids))
    yield from _admin(settings.admin, settings.ingest)


def _under(path: KeyPath, found: Iterator[Problem]) -> Iterator[Problem]:
    return ((path + below, text) for below, text in found)


def _names_twice(key: str, items: Sequence[Subscriber | Alert], why: str) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for position, one in enumerate(items):
        if one.name in seen:
            yield (key, position, "name"), f"{one.name!r} is the name of {key}[{seen[one.name]}] too; {why}"
        seen.setdefault(one.name, position)


def _files_twice(subscribers: Sequence[Subscriber]) -> Iterator[Problem]:
    """Yield files of two subscribers: each would write and rotate it under the other."""
    seen: dict[str, str] = {}
    for position, one in enumerate(subscribers):
        if one.path is not None:
            other = seen.setdefault(os.path.abspath(one.path), one.name)
            if other != one.name:
                yield ("subscribers", position, "path"), f"is the file of {other} too; each needs its own"


def _own_names(subscribers: Sequence[Subscriber]) -> Iterator[Problem]:
    """Yield names that would share a place in the log with the gateway's own."""
    for position, subscriber in enumerate(subscribers):
        if subscriber.name in _OWN_NAMES:
            text = f"{subscriber.name!r} is the name of a place in the log of the gateway's own; use another name"
            yield ("subscribers", position, "name"), text


def _alerts(alerts: Sequence[Alert]) -> Iterator[Problem]:
    for position, one in enumerate(alerts):
        for index, secret in enumerate(one.webhook.secrets if one.webhook is not None else ()):
            if (text := signing.problem(secret.get_secret_value())) is not None:
                yield ("alerts", position, "webhook", "secrets", index), text


def unknown_topics(settings: Settings) -> Iterator[Problem]:
    """Yield topics of subscribers that are neither a family nor the topic of another sender's callback."""
    return _unknown(
        settings,
        (
            (("subscribers", position, "topics", index), topic)
            for position, subscriber in enumerate(settings.subscribers)
            for index, topic in enumerate(subscriber.topics)
        ),
    )


def _unknown(settings: Settings, named: Iterable[tuple[KeyPath, str]]) -> Iterator[Problem]:
    own = [row.config.topic for row in all_paths(settings.ingest) if row.config.topic and not row.is_builtin]
    known = [*FAMILIES, *own]
    for path, topic in named:
        if topic not in known:
            hint = suggestion(topic, known) or f"; there are {', '.join(known)}"
            yield path, f"no callback has the topic {topic!r}{hint}"


def _brokers(kafka: Kafka) -> Iterator[Problem]:
    for position, server in enumerate(kafka.bootstrap_servers):
        host, colon, port = server.rpartition(":")
        if not colon or not host or not 0 < (index_in(port) or 0) < 65536:
            yield ("kafka", "bootstrap_servers", position), "host:port is needed, such as localhost:9092"


def _admin(admin: Admin, ingest: Ingest) -> Iterator[Problem]:
    if not is_loopback(admin.host) and not admin.has_token:
        yield ("admin", "token"), f"is needed, as admin.host {admin.host} can be reached from other machines"
    if admin.port == ingest.port != 0 and _overlap(admin.host, ingest.host):
        yield ("admin", "port"), f"{admin.port} is ingest.port too; the two sides need one each"
    yield from _tokens(admin)
    for position, key in enumerate(admin.secrets_key):
        if problem := sealing.problem(key.get_secret_value()):
            yield ("admin", "secrets_key", position), problem


def _tokens(admin: Admin) -> Iterator[Problem]:
    """Yield duplicate names and tokens: the audit record identifies a token by its name."""
    names, texts = {ADMIN}, {admin.token.get_secret_value()}
    if not _is_header_text(admin.token.get_secret_value()):
        yield ("admin", "token"), _NO_HEADER_TEXT
    for position, one in enumerate(admin.tokens):
        if one.name in names:
            yield (
                ("admin", "tokens", position, "name"),
                f"{one.name!r} is another token's name; use each once",
            )
        if not _is_header_text(one.token.get_secret_value()):
            yield ("admin", "tokens", position, "token"), _NO_HEADER_TEXT
        if one.token.get_secret_value() in texts:
            yield ("admin", "tokens", position, "token"), "is another name's token, too; each needs its own"
        names.add(one.name)
        texts.add(one.token.get_secret_value())


def _is_header_text(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token


def is_loopback(host: str) -> bool:
    """Return whether a host can only be reached from this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _overlap(one: str, other: str) -> bool:
    anywhere = {"", "0.0.0.0", "::", "[::]"}  # noqa: S104 - looked for, not listened on
    return one == other or one in anywhere or other in anywhere
