"""``config.yaml`` as types: every key, its default, its unit, its limits and what it means.

The sections ``kafka`` and ``topics`` are in :mod:`gateway.config.kafka_settings`.

The loader (:mod:`gateway.config.loading`) turns what pydantic finds into sentences with key paths; rules that look at
more than one value are in :mod:`gateway.config.rules`. configuration.md is made from the descriptions.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, SecretStr, Tag, model_validator

from gateway import processors
from gateway.config.kafka_settings import Kafka, Topics
from gateway.config.section import Section
from gateway.config.units import Duration, Size
from gateway.config.values import (
    NUMBER_OR_AUTO,
    Auto,
    HttpPath,
    Name,
    Networks,
    Port,
    Secrets,
    Texts,
    Url,
    Zone,
    listed,
    one_or_more,
)

#: The topics of the built-in callbacks, one for each family of events.
FAMILIES: Final = (
    "sms.dr",
    "call.event",
    "order.status",
    "task.status",
    "message.incoming",
    "message.status",
    "channel.event",
    "number.check",
    "verify.status",
    "email.dr",
    "callbacks.rejected",
)


#: How other senders sign.
SenderScheme = Literal["hmac", "github", "meta", "shopify", "slack", "standard-webhooks", "stripe", "twilio"]


class Signature(Section):
    """How the sender signs. Without a secret nothing is checked."""

    secret: SecretStr = Field(default=SecretStr(""), description="Secret that the sender signs with; empty: no check")
    secrets: Secrets = Field(default_factory=list, description="More secrets, while one is being rotated")
    algorithm: Literal["md5", "sha1", "sha256", "sha512"] | None = Field(
        default=None,
        description="Fixed algorithm (the platform's own schemes: md5, sha256); unset: what the headers say, "
        "or the length of the signature",
    )
    access_key: str | None = Field(default=None, description="Refuse other access keys than this (general scheme)")
    window: Duration | None = Field(
        default=None,
        gt=0,
        description="Refuse time stamps further off than this; unset: any; standard-webhooks, stripe, slack: 5m",
    )
    scheme: SenderScheme | None = Field(
        default=None, description="Other senders: how they sign; unset: hmac, an HMAC of the body as described below"
    )
    url: Url | None = Field(
        default=None,
        description="twilio: the address as it is set there, with https and the query; it is part of what is signed",
    )
    header: str | None = Field(
        default=None,
        description="hmac: the header that carries it; standard-webhooks: svix where its headers are named svix-id …",
    )
    encoding: Literal["hex", "base64"] = Field(default="hex", description="hmac: how it is written")
    prefix: str = Field(default="", description="hmac: text before it, such as 'sha256='")

    @property
    def all_secrets(self) -> list[str]:
        """Every secret that is accepted, in the order of the file."""
        values = [self.secret, *self.secrets]
        return [value.get_secret_value() for value in values if value.get_secret_value()]


class Auth(Section):
    """What a callback must show. All configured checks must pass; none configured leaves the path open."""

    token: SecretStr = Field(
        default=SecretStr(""),
        description="Shared secret in the header token, X-Gateway-Token or Authorization: Bearer, in the query as "
        "token=, or as the last segment of the path; empty: no check",
    )
    tokens: Secrets = Field(default_factory=list, description="More tokens, while one is being rotated")
    allow_ips: Networks = Field(default_factory=list, description="Addresses or networks (CIDR) that may call")
    signature: Signature | None = Field(default=None, description="For senders that sign what they send")
    verify_token: SecretStr = Field(
        default=SecretStr(""),
        description="Meta: the verify token set there; GET with it is answered with hub.challenge. Protects no POST",
    )
    allowed_origins: Texts = Field(
        default_factory=list,
        description="CloudEvents senders that ask by OPTIONS whether they may send: their WebHook-Request-Origin, or *",
    )

    @property
    def all_tokens(self) -> list[str]:
        """Every token that is accepted, in the order of the file."""
        values = [self.token, *self.tokens]
        return [value.get_secret_value() for value in values if value.get_secret_value()]

    @property
    def is_open(self) -> bool:
        """Nothing is checked."""
        return not (self.all_tokens or self.allow_ips or (self.signature and self.signature.all_secrets))


class Backfill(Section):
    """Where lost callbacks can be asked for, and as whom; see ``gateway backfill``."""

    url: Url = Field(default="https://api2.nxcloud.com/api/wa/callback", description="Address of the interface")
    app_key: str = Field(min_length=1, description="Key of the WhatsApp application (appkey)")
    business_phone: Annotated[list[str], BeforeValidator(listed)] = Field(
        min_length=1, description="The business's WhatsApp number, or several, as the platform writes them"
    )
    access_key: str | None = Field(
        default=None, description="Signs the questions; unset: auth.signature.access_key of the same path"
    )
    secret: SecretStr = Field(
        default=SecretStr(""), description="Signs the questions; unset: auth.signature.secret of the same path"
    )


class CallbackPath(Section):
    """One path of one callback: of a built-in one, or of another sender (then ``decoder`` is set)."""

    path: HttpPath | None = Field(default=None, description="Where it listens; unset: /callbacks/<name>")
    account: Name | None = Field(default=None, description="Name of the vendor account; stands in each event")
    enabled: bool = Field(default=True, description="false: the path answers 404")
    auth: Auth = Field(default=Auth(), description="What a request must show; nothing set leaves the path open")
    timezone: Zone | None = Field(default=None, description="Of times without a zone; unset: ingest.timezone")
    own_numbers: Texts = Field(
        default_factory=list,
        description="did-sms: our DID numbers, digits only; they tell a receipt from an incoming message before the "
        "callback's own type does, which is often missing or wrong",
    )
    backfill: Backfill | None = Field(
        default=None, description="whatsapp: lets gateway backfill ask the platform for callbacks that were lost"
    )
    default_country: Annotated[str, Field(pattern=r"^\+?[1-9]\d{0,2}$")] | None = Field(
        default=None,
        description="Country code of phone numbers without a mark, such as 62: they are numbers of that country; "
        "unset: what may be national stays digits",
    )
    decoder: str | None = Field(
        default=None,
        description="Other senders: json, form, or the name of an entry point of the group gateway.decoders",
    )
    topic: Name | None = Field(default=None, description="Other senders: where the events go")
    type: str | None = Field(
        default=None,
        description="Other senders: type of the events, or its path such as $.type; unset: the topic's name",
    )
    each: str | None = Field(
        default=None,
        description="Other senders with JSON: path of a list whose items become events, such as $.events; $: the body "
        "is the list. The paths below are then relative to the item, with $$ for the whole body",
    )
    key: str | None = Field(
        default=None, description="Other senders: path of the ordering key in the payload, such as $.order.id"
    )
    id: str | None = Field(
        default=None, description="Other senders: path of the sender's own event id; unset: a hash of the payload"
    )
    time: str | None = Field(default=None, description="Other senders: path of the time of the event; unset: arrival")


class Ingest(Section):
    """The HTTP side that the platform calls."""

    host: str = Field(default="127.0.0.1", description="Address to listen on; containers set 0.0.0.0")
    port: Port = Field(default=8080, description="Port to listen on; 0: any free one")
    workers: Annotated[Annotated[int, Field(ge=1, le=64), Tag("[number]")] | Auto, NUMBER_OR_AUTO] = Field(
        default="auto",
        description="Processes that take callbacks. auto: one less than the processors that cgroup and affinity allow, "
        "at least 1, at most 4",
    )
    max_body_bytes: Size = Field(
        default=Size(1_048_576), gt=0, le=64 * 1024 * 1024, description="Larger bodies are answered 413"
    )
    max_items: int = Field(default=1000, ge=1, le=100_000, description="Of one callback; more: kept whole as rejected")
    max_event_bytes: Size = Field(
        default=Size(8 * 1024**2), ge=65536, le=2**28, description="Made of one callback; more: kept whole as rejected"
    )
    read_timeout: Duration = Field(
        default=15.0, gt=0, description="A request that has not arrived whole after this time is answered 408"
    )
    keepalive_timeout: Duration = Field(default=75.0, gt=0, description="An idle connection is closed after this time")
    max_connections: Annotated[Annotated[int, Field(ge=8), Tag("[number]")] | Auto, NUMBER_OR_AUTO] = Field(
        default="auto",
        description="Connections at once in each process; one more closes the longest idle one. auto: what the limit "
        "of open files (ulimit -n) leaves after the admin port, deliveries and the journal, at most 16384",
    )
    fast_path: bool = Field(
        default=True, description="Plain callbacks are read without aiohttp's help, at a third of the cost"
    )
    max_waiting: int = Field(default=10_000, ge=1, description="Callbacks waiting for a commit; more are answered 503")
    dedup_window: int = Field(default=100_000, ge=0, description="Known event ids; a repeat of one is not stored twice")
    keep_unknown_paths: int = Field(
        default=1000,
        ge=0,
        le=1_000_000,
        description="POSTs to unknown paths below /callbacks/ kept in callbacks.rejected, a day at most (and 16 MiB); "
        "0: none",
    )
    timezone: Zone = Field(default="Asia/Shanghai", description="Of vendor times that carry no zone")
    trusted_proxies: Networks = Field(
        default_factory=list, description="Addresses or networks whose X-Forwarded-For is believed"
    )
    callbacks: dict[Name, Annotated[list[CallbackPath], Field(min_length=1), BeforeValidator(one_or_more)]] = Field(
        default_factory=dict,
        description="Callbacks by name, each with one path or a list of paths; built-in ones are on without being "
        "named here",
    )

    @property
    def processes(self) -> int:
        """How many processes take callbacks."""
        return processors.ingest_workers() if self.workers == "auto" else self.workers


class Journal(Section):
    """The log on local disk."""

    dir: str = Field(default="data", min_length=1, description="Folder, made if missing; one gateway at a time")
    max_bytes: Size = Field(
        default=Size(10 * 1024**3),
        ge=1024 * 1024,
        description="Above this the oldest events go, but never what Kafka has not acknowledged: then 503",
    )
    retention: Duration = Field(default=7 * 86400.0, gt=0, description="Events older than this go")


class Retry(Section):
    """When to try again: exponential from ``first_delay_s`` up to ``max_delay_s``, with full jitter."""

    attempts: int = Field(default=12, ge=1, le=1000, description="Tries in all; then the event is a dead letter")
    first_delay_s: Duration = Field(default=5.0, gt=0, description="Bound of the first wait; each further one doubles")
    max_delay_s: Duration = Field(default=21600.0, gt=0, description="No wait is longer")
    max_age: Duration | None = Field(default=None, gt=0, description="Give up on failing events older than this")
    tiers: list[Duration] = Field(
        default_factory=lambda: [60.0, 600.0, 3600.0],
        max_length=8,
        description="Delays of the retry topics: a longer wait is parked in one, a shorter one holds its key",
    )


class Breaker(Section):
    """When a subscriber counts as down: its reader pauses, one event at a time probes, the log keeps the rest."""

    failure_rate: float = Field(
        default=0.5, gt=0, le=1, description="Share of failed attempts in the window that opens it"
    )
    window: Duration = Field(default=60.0, gt=0, description="How far back attempts count")
    min_attempts: int = Field(default=10, ge=1, description="Fewer attempts in the window say nothing")
    first_open: Duration = Field(default=5.0, gt=0, description="Wait before the first probe; doubles")
    max_open: Duration = Field(default=60.0, gt=0, description="Longest wait between probes")


class ClientTls(Section):
    """TLS towards one subscriber."""

    ca_file: str | None = Field(default=None, description="Its certificate authority (PEM); unset: the system's")
    cert_file: str | None = Field(default=None, description="Our certificate, for mutual TLS (PEM)")
    key_file: str | None = Field(default=None, description="The key of our certificate; unset: it is in cert_file")


class Transform(Section):
    """Which fields of an event this subscriber gets, as paths such as ``data.raw``."""

    include: Texts = Field(default_factory=list, description="Only these, and what CloudEvents requires; none: all")
    exclude: Texts = Field(default_factory=list, description="Not these")


class Rotation(Section):
    """When a file is put aside and a new one begun."""

    max_bytes: Size = Field(default=Size(64 * 1024**2), ge=1024, description="Size of a file, about")
    keep: int = Field(default=10, ge=1, le=10_000, description="Files put aside that are kept; the oldest goes")


class Subscriber(Section):
    """A receiver of events: a webhook, a stream of server-sent events, or a file."""

    name: Name = Field(description="Unique; its place in the log and its metrics go by this name")
    topics: Annotated[list[Name], BeforeValidator(listed)] = Field(min_length=1, description="What it receives")
    filter: dict[str, object] | list[object] | None = Field(
        default=None,
        description="Which events of them: the CloudEvents dialects exact, prefix, suffix, all, any, not",
    )
    kind: Literal["webhook", "stream", "file"] = Field(
        default="webhook", description="stream: fetched by HTTP from the admin port; file: JSON lines"
    )
    url: Url | None = Field(default=None, description="webhook: where the events are posted; sent exactly as written")
    token: SecretStr = Field(
        default=SecretStr(""),
        description="stream: lets its holder read this stream and nothing else; the admin token reads it too",
    )
    path: str | None = Field(default=None, description="file: its name")
    rotation: Rotation = Field(default=Rotation(), description="file: when a new one is begun")
    secrets: Secrets = Field(
        default_factory=list,
        description="Standard Webhooks secrets (whsec_…, whsk_…), several while one is being rotated; none: not signed",
    )
    headers: dict[str, SecretStr] = Field(default_factory=dict, description="More headers of each request")
    concurrency: int = Field(default=32, ge=1, le=4096, description="Requests at once in each process, at most")
    rate_per_s: float | None = Field(default=None, gt=0, description="Requests a second in each process, at most")
    timeout_s: Duration = Field(default=10.0, gt=0, le=600, description="An attempt without an answer fails after this")
    ordering: Literal["key", "none"] = Field(
        default="key", description="key: events of one key go one after the other, in order"
    )
    start: Literal["latest", "earliest"] = Field(default="latest", description="Where a new subscriber begins to read")
    retry: Retry = Field(default=Retry(), description="When to try again, and when to give up")
    on_failure: Literal["block", "pass"] = Field(
        default="pass", description="What events of a key do while one is retried for long: wait behind it, or pass"
    )
    breaker: Breaker = Field(default=Breaker(), description="When it counts as down")
    tls: ClientTls = Field(default=ClientTls(), description="Certificates")
    transform: Transform = Field(default=Transform(), description="Which fields it gets")
    allow_private: bool = Field(
        default=False, description="Let the address be a loopback, private or link-local one; refused otherwise"
    )
    allow: Texts = Field(
        default_factory=list, description="Networks (CIDR) and host names that may be reached though they are private"
    )

    @model_validator(mode="after")
    def _has_its_address(self) -> Subscriber:
        if self.kind == "webhook" and self.url is None:
            raise ValueError("url: a webhook needs an address")
        if self.kind == "file" and not self.path:
            raise ValueError("path: a file needs a name")
        return self


class Admin(Section):
    """Health, metrics and console."""

    host: str = Field(default="127.0.0.1", description="Address to listen on; any but loopback needs a token")
    port: Port = Field(default=8081, description="Port to listen on; 0: any free one")
    token: SecretStr = Field(
        default=SecretStr(""), description="Asked for by everything but /healthz, /readyz and the console's own files"
    )


class Log(Section):
    """What the gateway says of itself."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="The least that is shown")
    format: Literal["auto", "console", "json"] = Field(
        default="auto", description="auto: console on a terminal, JSON lines otherwise"
    )


class Settings(Section):
    """The whole of ``config.yaml``."""

    ingest: Ingest = Field(default=Ingest(), description="The HTTP side that the platform calls")
    journal: Journal = Field(default=Journal(), description="The log on local disk")
    kafka: Kafka | None = Field(default=None, description="The brokers; left out: the embedded log")
    topics: Topics = Field(default=Topics(), description="Names of the topics")
    subscribers: Annotated[list[Subscriber], BeforeValidator(listed)] = Field(
        default_factory=list, description="Receivers of webhooks; a change takes effect without a restart"
    )
    admin: Admin = Field(default=Admin(), description="Health, metrics and console")
    log: Log = Field(default=Log(), description="What the gateway says of itself")
