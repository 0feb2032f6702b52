"""Settings of all Kafka clients of the gateway: addresses, security, names of topics, time limits.

aiokafka's defaults wait 40 seconds for a request and for ever in ``stop()``; here every wait has a limit. Sources of
``kafka.security``: aiokafka's documentation ("SSL and SASL"), Kafka's "Security" chapter, RFC 7628 (OAUTHBEARER), RFC
6749 section 4.4 (client credentials).
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote_plus

import aiohttp
import orjson
from aiokafka import TopicPartition
from aiokafka.abc import AbstractTokenProvider
from pydantic import SecretStr

from gateway.config.sections import Kafka, OAuth, Security, Topics
from gateway.errors import ConfigError
from gateway.log.kafka.aiokafka_workarounds import patch_clients
from gateway.log.kafka.errors import NoToken
from gateway.log.kafka.record_format import schema_id_header

#: A request to a broker. A hung broker (connection open, no answer) is noticed after this; ten times less would
#: mistake a broker that waits for its replicas for a dead one.
REQUEST_S: Final = 10.0
#: Connecting a client: addresses, handshake, metadata, and for a producer its id.
OPEN_S: Final = 15.0
#: Metadata is fetched again after this: new partitions and moved leaders are noticed without an error.
METADATA_AGE_S: Final = 60.0
#: Setting of topics that the gateway creates, unless ``kafka.topic_config`` has it. An event contains a callback's body
#: twice, as fields and raw; Kafka's own limit (1 MB) would refuse some events of bodies of the 1 MiB that
#: ``ingest.max_body_bytes`` accepts.
MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
#: A token endpoint that takes longer holds up the connection to Kafka as long.
_TOKEN_S: Final = 10.0
#: Bytes of a token endpoint's answer; tokens have some kilobytes.
_MOST_ANSWER: Final = 1024 * 1024
#: A token is fetched again this long before it expires.
_MARGIN_S: Final = 30.0
#: Lifetime of a token if the endpoint does not state it.
_UNSAID_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """The ``kafka`` and ``topics`` sections, ready for use.

    Args:
        bootstrap_servers: ``host:port``, at least one.
        security: arguments of aiokafka's clients, see :func:`client_arguments`.
        prefix: before every topic's and group's name in Kafka.
        topic_config: settings of topics that the gateway creates, in Kafka's names.
        compression: codec of the record batches that the gateway writes; None for none.
        isolation_level: of consumers, in Kafka's words.
        schema_ids: the header with the id of a topic's schema, by topic; none for others.
        client_id: the gateway's name in logs and quotas of brokers.
        session_s: without a heartbeat for this long a member counts as dead, and others get its partitions.
        instance_id: name of this process in its group, over restarts; empty: it leaves the group when it stops.
    """

    bootstrap_servers: tuple[str, ...]
    security: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    partitions: int = 6
    replication_factor: int = 1
    create_topics: bool = True
    topic_config: Mapping[str, str] = field(default_factory=dict)
    cloudevents: Literal["structured", "binary"] = "structured"
    compression: Literal["gzip", "snappy", "lz4", "zstd"] | None = None
    isolation_level: Literal["read_committed", "read_uncommitted"] = "read_committed"
    schema_ids: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)
    client_id: str = "nxcloud-gateway"
    session_s: float = 15.0
    instance_id: str = ""

    @classmethod
    def of(cls, kafka: Kafka, topics: Topics | None = None, *, instance_id: str = "") -> KafkaOptions:
        """Return the options of a configuration. It reads certificate files.

        Args:
            kafka: section ``kafka``.
            topics: section ``topics``; None for its defaults.
            instance_id: see :func:`instance_id`.

        Raises:
            ConfigError: a file of ``kafka.security`` cannot be used.
        """
        return cls(
            bootstrap_servers=tuple(kafka.bootstrap_servers),
            security=client_arguments(kafka.security),
            prefix=topics.prefix if topics else "",
            partitions=kafka.partitions,
            replication_factor=kafka.replication_factor,
            create_topics=kafka.create_topics,
            topic_config={
                "max.message.bytes": str(MAX_MESSAGE_BYTES),
                **{name: str(value) for name, value in kafka.topic_config.items()},
            },
            cloudevents=kafka.cloudevents,
            compression=None if kafka.compression == "none" else kafka.compression,
            isolation_level=kafka.isolation_level,
            schema_ids={topic: schema_id_header(registered) for topic, registered in kafka.schema_ids.items()},
            session_s=kafka.session_timeout,
            instance_id=instance_id,
        )

    def client(self) -> dict[str, Any]:
        """Return the common arguments of aiokafka's producer, consumer and admin client."""
        patch_clients()
        return {
            "bootstrap_servers": list(self.bootstrap_servers),
            "client_id": self.client_id,
            "request_timeout_ms": int(REQUEST_S * 1000),
            "metadata_max_age_ms": int(METADATA_AGE_S * 1000),
            **self.security,
        }

    def consumer(self) -> dict[str, Any]:
        """Return the arguments of aiokafka's consumers: the common ones, and how records of transactions are read."""
        return {**self.client(), "enable_auto_commit": False, "isolation_level": self.isolation_level}

    def kafka_name(self, topic: str) -> str:
        """Return the name in Kafka of a family's or internal topic."""
        return self.prefix + topic

    def own_name(self, kafka_name: str) -> str:
        """Return the topic of a name in Kafka, the inverse of :meth:`kafka_name`."""
        return kafka_name.removeprefix(self.prefix)

    def partition(self, name: str) -> TopicPartition:
        """Return the partition in Kafka of a partition's name, ``<topic>-<number>``."""
        topic, _, number = name.rpartition("-")
        return TopicPartition(self.kafka_name(topic), int(number))


def instance_id(configured: str, host: str, admin_port: int, process: str) -> str:
    """Return the name of a process in its consumer group, over restarts.

    Two processes of one name would fence each other. So it contains what exists only once on a host: the admin port,
    and the number of the process among those that share the port.

    Args:
        configured: ``kafka.instance_id``; if empty, the name has the next two.
        host: the host's name.
        admin_port: 0 is another port at each start, and gives no name.
        process: such as ``deliver`` or ``deliver-1``.

    Returns:
        The name, of characters that Kafka accepts; empty if there is no lasting name.
    """
    if not configured and not admin_port:
        return ""
    name = configured or re.sub(r"[^a-zA-Z0-9._-]", "-", f"{host[:180]}-{admin_port}")
    _, _, number = process.rpartition("-")
    return f"{name}-{number}" if number.isdigit() else name


@dataclass(frozen=True, slots=True)
class WriterPolicy:
    """Numbers of a writer.

    Args:
        max_batch_bytes: of one partition in one request. A quarter of a broker's default limit: above, little is
            gained per record; ten times less doubles the cost of a backlog.
        topic_bytes: records of one topic, waiting or on their way; past it the topic has no room.
        total_bytes: past it, of all topics together, each has ``least_bytes``.
        least_bytes: what a topic may hold whatever the others hold: one batch keeps a partition busy.
        stalled_s: without an acknowledgement for this long Kafka, or a topic, counts as away.
        rebootstrap_s: and for this long, we look whether a fresh client gets through.
        grace_s: if it does for this long, the producer is replaced; it is also the longest that a request takes
            whose connection died silently.
        settle_s: for answers to other partitions after a producer failed.
        resolve_s: for a topic's partitions.
        forget_s: after its last failure a topic's trouble is forgotten, when nothing waits for that topic any more.
        look_s: between looks at the above.
    """

    max_batch_bytes: int = 256 * 1024
    topic_bytes: int = 4 * 1024 * 1024
    total_bytes: int = 16 * 1024 * 1024
    least_bytes: int = 256 * 1024
    stalled_s: float = 5.0
    rebootstrap_s: float = 45.0
    grace_s: float = 15.0
    settle_s: float = 3.0
    resolve_s: float = 3.0
    forget_s: float = 60.0
    look_s: float = 1.0
    close_s: float = 3.0


@dataclass(frozen=True, slots=True)
class ReaderPolicy:
    """Times of a reader, in seconds.

    Args:
        session_s: without a heartbeat for this long a member counts as dead, and others get its partitions.
        beat_s: between heartbeats: the group pauses until the last member has noticed that it must join again. Two
            small requests a second, for all subscribers.
        regroup_s: the group waits this long for a member to join again; less than the limit of a request.
        revoke_s: for ``on_revoked``, which its owner limits to 3.8 s.
        join_s: joining waits so long for partitions, then continues without.
        request_s: for one offset look-up or seek.
        probe_s: an idle reader checks after this time that Kafka is available.
        rebootstrap_s: unavailable for this long while a new client can connect: the consumer is replaced.
        close_s: for aiokafka's stop, which waits for others while the group assigns partitions.
        cut_s: for the work that this stop did not finish.
    """

    session_s: float = 15.0
    beat_s: float = 0.5
    regroup_s: float = 8.0
    revoke_s: float = 4.0
    join_s: float = 50.0
    request_s: float = 10.0
    probe_s: float = 10.0
    rebootstrap_s: float = 60.0
    close_s: float = 4.0
    cut_s: float = 2.0
    fetch_max_bytes: int = 4 * 1024 * 1024
    max_partition_fetch_bytes: int = 1024 * 1024

    @property
    def lease_s(self) -> float:
        """Time after its last heartbeat at which a member releases its partitions: before the group reassigns them.

        Cancelling attempts needs up to two seconds then, and the next owner of the partitions needs as long until its
        first attempt. If it were much earlier, all processes would release their partitions when a coordinator dies
        (nine seconds until another one replaces it).
        """
        return max(self.session_s * 0.8, self.session_s - 1.0)


# -- security --------------------------------------------------------------------------------------------------------


def client_arguments(security: Security) -> dict[str, Any]:
    """Return the arguments of every aiokafka client. Reads certificate files.

    Raises:
        ConfigError: a file is missing or is not what it should be; names its key.
    """
    arguments: dict[str, Any] = {"security_protocol": security.protocol}
    if security.protocol.endswith("SSL"):
        arguments["ssl_context"] = _context(security)
    if security.sasl_mechanism == "OAUTHBEARER":
        assert security.oauth is not None
        arguments |= {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": _provider(security.oauth)}
    elif security.sasl_mechanism is not None:
        arguments |= {
            "sasl_mechanism": security.sasl_mechanism,
            "sasl_plain_username": security.username,
            "sasl_plain_password": _secret(security.password),
        }
    return arguments


def _context(security: Security) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if security.ca_file:
        _use("ca_file", security.ca_file, lambda: context.load_verify_locations(security.ca_file))
    if security.cert_file:
        _use(
            "cert_file",
            security.cert_file,
            lambda: context.load_cert_chain(
                str(security.cert_file), security.key_file or None, _secret(security.key_password) or None
            ),
        )
    context.check_hostname = security.check_hostname
    return context


def _secret(value: SecretStr | None) -> str:
    return value.get_secret_value() if value else ""


def _use(key: str, path: str, load: Callable[[], object]) -> None:
    try:
        load()
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError([f"kafka.security.{key}: {path} cannot be used: {exc.strerror or exc}"]) from exc


def _provider(oauth: OAuth) -> AbstractTokenProvider:
    return FileToken(Path(oauth.token_file)) if oauth.token_file else ClientCredentials(oauth)


class FileToken(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """A token that others keep fresh in a file, as Kubernetes does for service accounts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def token(self) -> str:
        """Return the token, read from the file for every connection.

        Raises:
            NoToken: the file cannot be read.
        """
        try:
            return (await asyncio.to_thread(self._path.read_text)).strip()
        except OSError as exc:
            raise NoToken(f"{self._path}: no token: {exc.strerror or exc}") from exc


class ClientCredentials(AbstractTokenProvider):  # type: ignore[misc]
    """Tokens of an OAuth 2 token endpoint, kept until shortly before they run out."""

    def __init__(self, oauth: OAuth) -> None:
        self._oauth = oauth
        self._token = ""
        self._good_until = 0.0
        self._fetching = asyncio.Lock()

    async def token(self) -> str:
        """Return a token that is valid for half a minute or more.

        Raises:
            NoToken: the endpoint is unavailable or refused.
        """
        async with self._fetching:  # connections come several at a time
            if time.monotonic() >= self._good_until:
                await self._fetch()
            return self._token

    async def _fetch(self) -> None:
        oauth = self._oauth
        form = {"grant_type": "client_credentials"} | ({"scope": oauth.scope} if oauth.scope else {})
        headers = {"Authorization": _basic(oauth.client_id, oauth.client_secret.get_secret_value())}
        timeout = aiohttp.ClientTimeout(total=_TOKEN_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
                session.post(oauth.token_url, data=form, raise_for_status=True) as response,
            ):
                answer = orjson.loads(await _bounded(response.content))
                token, good_for_s = str(answer["access_token"]), float(answer.get("expires_in", _UNSAID_S))
        except aiohttp.ClientResponseError as exc:
            raise NoToken(f"{oauth.token_url}: no token: it answered {exc.status} {exc.message}") from exc
        except (aiohttp.ClientError, TimeoutError, KeyError, TypeError, ValueError, AttributeError) as exc:
            raise NoToken(f"{oauth.token_url}: no token: {type(exc).__name__}") from exc
        self._token, self._good_until = token, time.monotonic() + good_for_s - _MARGIN_S


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    """Read a token endpoint's answer.

    Raises:
        ValueError: it is larger than any token.
    """
    body = b""
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > _MOST_ANSWER:
            raise ValueError("an answer larger than any token")
    return body


def _basic(client_id: str, client_secret: str) -> str:
    """Return ``Authorization`` of a client: both parts are form-encoded first (RFC 6749, section 2.3.1)."""
    pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"
