"""Rules that look at more than one value, or at what a value names: callbacks, filters, secrets, ports; and advice.

They run once all values have the right types. Of one subscriber: :mod:`gateway.fanout.subscriber_rules`. Advice is
about settings that work but are risky: it is logged at start, and shown by ``gateway check``.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Iterator, Sequence

from gateway import signing
from gateway.callbacks import CALLBACKS
from gateway.callbacks.generic import JsonPath, load_decoder
from gateway.callbacks.phones import certain, is_country_code
from gateway.callbacks.rejected import UNKNOWN_PATH
from gateway.callbacks.signature import TIMED_SCHEMES
from gateway.config import webhook_url
from gateway.config.callbacks import all_paths, configured_paths
from gateway.config.document import KeyPath, index_in
from gateway.config.sections import ADMIN, Admin, Alert, Kafka
from gateway.config.settings import FAMILIES, CallbackPath, Ingest, Settings, Signature, Subscriber
from gateway.config.values import suggestion
from gateway.fanout import subscriber_records, subscriber_rules

Problem = tuple[KeyPath, str]

#: Decoders that need no code.
_PLAIN_DECODERS = frozenset({"json", "form"})
#: Cursors of the gateway's own; a subscriber's has its name.
_OWN_NAMES = frozenset({"fanout", "retry", "replay"})
#: Topics of its own, in addition to ``replay``.
_OWN_TOPICS = ("retry.", "replay.", "dlq.", "fanout.")
_NO_HEADER_TEXT = "is sent in a header: use printable ASCII characters, and no space at either end"


def section_problems(name: str, row: CallbackPath) -> Iterator[Problem]:
    """Yield the problems of one section, with key paths below it."""
    signature = row.auth.signature
    if name in CALLBACKS:
        if row.decoder is not None:
            yield ("decoder",), f"{name} is built in; give a webhook of another sender another name"
        else:
            for key in ("topic", "type", "key", "id", "time", "each"):
                if getattr(row, key) is not None:
                    yield (key,), f"only other senders' callbacks have it; {name} is built in and decides by itself"
        if row.own_numbers and name != "did-sms":
            yield ("own_numbers",), "only did-sms uses it"
        for position, number in enumerate(row.own_numbers):
            if not certain(number).text.lstrip("+").isdigit():
                yield ("own_numbers", position), "a phone number with its country code is needed, such as 15550100001"
        if row.backfill is not None:
            yield from _backfill(name, row)
        if row.default_country is not None and not is_country_code(row.default_country.lstrip("+")):
            yield ("default_country",), f"there is no country code {row.default_country}"
        if signature is not None:
            yield from ((("auth", "signature", *path), text) for path, text in _vendor_signature(name, signature))
        return
    if row.decoder is None:
        known = [*CALLBACKS]
        hint = suggestion(name, known)
        hint = hint or f"; the built-in ones are {', '.join(known)}."
        yield (), f"unknown callback{hint} For another sender set decoder, topic and key"
        return
    if name == UNKNOWN_PATH:
        yield (), "the name is kept for requests to unknown paths; give the callback another one"
    yield from _other_sender(row)
    if row.backfill is not None:
        yield ("backfill",), "only whatsapp has it; the platform returns no other callbacks"
    if signature is not None:
        yield from ((("auth", "signature", *path), text) for path, text in _sender_signature(signature))


def _vendor_signature(name: str, signature: Signature) -> Iterator[Problem]:
    if CALLBACKS[name].signature is None:
        yield (), f"the platform does not sign {name}; protect it by token or allow_ips"
        return
    if signature.algorithm in ("sha1", "sha512"):
        yield ("algorithm",), "the platform signs with md5 or sha256"
    given = {
        "header": signature.header is not None,
        "encoding": signature.encoding != "hex",
        "prefix": signature.prefix,
        "scheme": signature.scheme,
        "url": signature.url,
    }
    for key in filter(given.get, given):
        yield (key,), "only for other senders; the platform's headers are fixed"


def _backfill(name: str, row: CallbackPath) -> Iterator[Problem]:
    if name != "whatsapp":
        yield ("backfill",), "only whatsapp has it; the platform returns no other callbacks"
        return
    assert row.backfill is not None
    signature = row.auth.signature
    if not (row.backfill.access_key or (signature and signature.access_key)):
        yield ("backfill", "access_key"), "is needed: the platform asks who signs; auth.signature has no access_key"
    if not (row.backfill.secret.get_secret_value() or (signature and signature.all_secrets)):
        yield ("backfill", "secret"), "is needed: the platform asks for a signature; auth.signature has no secret"


def _sender_signature(signature: Signature) -> Iterator[Problem]:
    scheme = signature.scheme or "hmac"
    if signature.access_key is not None:
        yield ("access_key",), "only the platform's own signatures have one"
    if signature.window is not None and scheme not in TIMED_SCHEMES:
        yield ("window",), f"{scheme} signs no time; leave it out"
    given = {
        "algorithm": signature.algorithm,
        "encoding": signature.encoding != "hex",
        "prefix": signature.prefix,
        "header": signature.header is not None and scheme != "standard-webhooks",
    }
    if scheme != "hmac":
        for key in filter(given.get, given):
            yield (key,), f"only with scheme: hmac; {scheme} has its own"
    if scheme == "twilio":
        if signature.url is None:
            yield (
                ("url",),
                "is needed with scheme: twilio, as it is part of what is signed; copy it from Twilio's console",
            )
    elif signature.url is not None:
        yield ("url",), "only with scheme: twilio"
    if scheme == "standard-webhooks":
        yield from _standard_webhooks(signature)


def _standard_webhooks(signature: Signature) -> Iterator[Problem]:
    if signature.header is not None and signature.header.lower() not in ("webhook", "svix"):
        yield ("header",), "the names of the three headers begin with webhook (the default) or svix"
    rows: list[tuple[KeyPath, str]] = [(("secret",), signature.secret.get_secret_value())]
    rows += [(("secrets", position), secret.get_secret_value()) for position, secret in enumerate(signature.secrets)]
    for path, secret in rows:
        if secret and (problem := signing.problem_of_verifying(secret)):
            yield path, problem


def _other_sender(row: CallbackPath) -> Iterator[Problem]:
    if row.default_country is not None:
        yield ("default_country",), "only built-in callbacks read phone numbers"
    if row.topic is None:
        yield ("topic",), "is needed with decoder: the events must go somewhere"
    if row.decoder in _PLAIN_DECODERS:
        if row.key is None:
            yield ("key",), f"is needed with decoder: {row.decoder}; events of one key keep their order"
        yield from _paths_in_payload(row)
        return
    assert row.decoder is not None
    if row.each is not None:
        yield ("each",), "only with decoder: json; your own decoder finds the items itself"
    try:
        load_decoder(row.decoder)
    except (LookupError, TypeError) as exc:
        yield ("decoder",), f"{str(exc).strip(chr(34))}; or use json or form"
    except Exception as exc:  # the module is foreign code, and it runs when it is loaded
        yield ("decoder",), f"the decoder {row.decoder!r} cannot be loaded: {type(exc).__name__}"


def _paths_in_payload(row: CallbackPath) -> Iterator[Problem]:
    if row.each is not None and row.decoder != "json":
        yield ("each",), "only with decoder: json"
    elif row.each is not None and row.each != "$" and (row.each.startswith("$$") or _json_path_problem(row.each)):
        yield ("each",), "not a path such as $.events, nor $ for a body that is a list"
    for name in ("key", "id", "time", "type"):
        text = getattr(row, name)
        if text is None or (name == "type" and not text.startswith("$")):
            continue
        if problem := _json_path_problem(text):
            yield (name,), problem
        elif text.startswith("$$") and row.each is None:
            yield (name,), "$$ is the body around the items of each; without each write $"


def _json_path_problem(text: str) -> str | None:
    try:
        JsonPath(text)
    except ValueError:
        return "not a path such as $.order.id"
    return None


def paths_twice(ingest: Ingest) -> Iterator[Problem]:
    """Yield paths of two callbacks. The file is at fault, not a built-in callback that it does not name."""
    taken: dict[str, str] = {}
    for row in sorted(configured_paths(ingest), key=lambda row: row.is_in_file):
        if row.path in taken:
            path: KeyPath = ("ingest", "callbacks", row.callback, row.position, "path")
            yield path, f"{row.path} is taken by {taken[row.path]} already"
        taken.setdefault(row.path, row.callback)


def problems(settings: Settings) -> Iterator[Problem]:
    """Yield everything that must be corrected before the gateway can start, with key paths."""
    for row in all_paths(settings.ingest):
        path: KeyPath = ("ingest", "callbacks", row.callback, row.position)
        yield from _under(path, section_problems(row.callback, row.config))
        topic = row.config.topic
        if topic is not None and (topic == "replay" or topic.startswith(_OWN_TOPICS)):
            yield (*path, "topic"), f"{topic!r} is the name of a topic of the gateway's own; use another name"
    yield from paths_twice(settings.ingest)
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
        if problem := subscriber_records.key_problem(key.get_secret_value()):
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
    return token.isascii() and token.isprintable() and token.strip() == token


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


def warnings(settings: Settings) -> list[str]:
    """Return what works but should be checked, one sentence each with its key path."""
    return [*_open_callbacks(settings.ingest), *_doubtful_subscribers(settings)]


def _open_callbacks(ingest: Ingest) -> Iterator[str]:
    """Yield one sentence for all: a new configuration has every callback open; two dozen lines would hide others."""
    paths = [row.path for row in configured_paths(ingest) if row.config.auth.is_open]
    if paths:
        shown = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
        yield f"ingest.callbacks: anyone who can reach {shown} can push events; set auth, or enabled: false"


def _doubtful_subscribers(settings: Settings) -> Iterator[str]:
    if settings.kafka is not None:
        yield from (f"subscribers[{path[1]}].topics: {text}" for path, text in unknown_topics(settings))
    filled = {topic for row in configured_paths(settings.ingest) for topic in row.topics} | {"callbacks.rejected"}
    if not settings.subscribers and settings.kafka is None:
        yield "subscribers: there are none, so events are stored in the journal and not delivered"
    for position, subscriber in enumerate(settings.subscribers):
        where = f"subscribers[{position}]"
        idle = [topic for topic in subscriber.topics if topic in FAMILIES and topic not in filled]
        if idle:
            yield f"{where}.topics: the callbacks of {', '.join(idle)} are switched off"
        if subscriber.url is None:
            continue
        url = webhook_url.parse(subscriber.url)
        if not subscriber.secrets:
            yield f"{where}.secrets: none, so {subscriber.name} cannot distinguish the webhooks from forged ones"
        if url.scheme == "http" and not is_loopback(url.host):
            yield f"{where}.url: plain http, so anyone on the path can read the events"
