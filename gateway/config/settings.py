"""``config.yaml`` as types: every key, its default, its unit, its limits and what it means.

The sections ``kafka``, ``topics``, ``admin``, ``alerts`` and the parts of a subscriber are in
:mod:`gateway.config.sections`.

The loader (:mod:`gateway.config.loading`) turns what pydantic finds into sentences with key paths; rules that look at
more than one value are in :mod:`gateway.config.rules`. configuration.md is made from the descriptions.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, ByteSize, Field, SecretStr, Tag, model_validator

from gateway import machine
from gateway.config.sections import (
    Admin,
    Alert,
    BreakerSettings,
    ClientTls,
    Kafka,
    RetrySettings,
    Rotation,
    Topics,
    TransformSettings,
)
from gateway.config.values import (
    NUMBER_OR_AUTO,
    Auto,
    Duration,
    Float,
    Host,
    HttpPath,
    Int,
    Name,
    Networks,
    Port,
    Secret,
    Secrets,
    Section,
    Size,
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

    secret: Secret = Field(default=SecretStr(""), description="Secret of the sender's signature; empty: no check")
    secrets: Secrets = Field(default_factory=list, description="Additional secrets, during a rotation")
    algorithm: Literal["md5", "sha1", "sha256", "sha512"] | None = Field(
        default=None,
        description="Hash of the platform's schemes (md5, sha256); unset: by header, or by the length of the signature",
    )
    access_key: str | None = Field(default=None, description="The only access key to accept (general scheme)")
    window: Duration | None = Field(
        default=None,
        gt=0,
        description="Largest accepted difference of the signed timestamp; unset: any; standard-webhooks, stripe, "
        "slack: 5m",
    )
    scheme: SenderScheme | None = Field(
        default=None,
        description="Other senders: signature scheme; unset: hmac, an HMAC of the body with the keys below",
    )
    url: Url | None = Field(
        default=None,
        description="twilio: the address as configured at Twilio, with https and query; the signature covers it",
    )
    header: str | None = Field(
        default=None,
        description="hmac: header with the signature; standard-webhooks: svix, if the headers are named svix-id …",
    )
    encoding: Literal["hex", "base64"] = Field(default="hex", description="hmac: encoding of the signature")
    prefix: str = Field(default="", description="hmac: text before the signature, such as 'sha256='")

    @property
    def all_secrets(self) -> list[str]:
        """Every secret that is accepted, in the order of the file."""
        values = [self.secret, *self.secrets]
        return [value.get_secret_value() for value in values if value.get_secret_value()]


class Auth(Section):
    """What a callback must show. All configured checks must pass; none configured leaves the path open."""

    token: Secret = Field(
        default=SecretStr(""),
        description="Shared secret in the header token, X-Gateway-Token or Authorization: Bearer, in the query as "
        "token=, or in the last segment of the path; empty: no check",
    )
    tokens: Secrets = Field(default_factory=list, description="Additional tokens, during a rotation")
    allow_ips: Networks = Field(default_factory=list, description="Addresses or networks (CIDR) that may send")
    signature: Signature | None = Field(default=None, description="Signature check")
    verify_token: Secret = Field(
        default=SecretStr(""),
        description="Meta: the verify token; a GET with it returns hub.challenge. Does not protect POST",
    )
    allowed_origins: Texts = Field(
        default_factory=list,
        description="CloudEvents: values of WebHook-Request-Origin that an OPTIONS request may have, or *",
    )

    @property
    def all_tokens(self) -> list[str]:
        """Every token that is accepted, in the order of the file."""
        values = [self.token, *self.tokens]
        return [value.get_secret_value() for value in values if value.get_secret_value()]

    @property
    def is_open(self) -> bool:
        """Whether nothing is checked."""
        return not (self.all_tokens or self.allow_ips or (self.signature and self.signature.all_secrets))


class Backfill(Section):
    """Where lost callbacks can be asked for, and as whom; see ``gateway backfill``."""

    url: Url = Field(default="https://api2.nxcloud.com/api/wa/callback", description="Address of the vendor's API")
    app_key: str = Field(min_length=1, description="Key of the WhatsApp application (appkey)")
    business_phone: Annotated[list[str], BeforeValidator(listed)] = Field(
        min_length=1, description="WhatsApp number of the business, or several, as the platform writes them"
    )
    access_key: str | None = Field(
        default=None, description="Access key for the requests; unset: auth.signature.access_key of the same path"
    )
    secret: Secret = Field(
        default=SecretStr(""), description="Secret for the requests; unset: auth.signature.secret of the same path"
    )


class CallbackPath(Section):
    """One path of one callback: of a built-in one, or of another sender (then ``decoder`` is set)."""

    path: HttpPath | None = Field(default=None, description="Path of the callback; unset: /callbacks/<name>")
    account: Name | None = Field(
        default=None, description="Name of the vendor account; attribute account of each event"
    )
    enabled: bool = Field(default=True, description="false: the path returns 404")
    auth: Auth = Field(default=Auth(), description="Checks of a request; without any, the path accepts all requests")
    timezone: Zone | None = Field(default=None, description="Time zone of times without a zone; unset: ingest.timezone")
    own_numbers: Texts = Field(
        default_factory=list,
        description="did-sms: your DID numbers, digits only. They distinguish receipts from incoming messages; the "
        "callback's own type is often missing or wrong",
    )
    backfill: Backfill | None = Field(
        default=None, description="whatsapp: settings of gateway backfill, which requests lost callbacks again"
    )
    default_country: Annotated[str, Field(pattern=r"^\+?[1-9]\d{0,2}$")] | None = Field(
        default=None,
        description="Country code of phone numbers without a mark, such as 62; unset: they remain digits without +",
    )
    decoder: str | None = Field(
        default=None,
        description="Other senders: json, form, or the name of an entry point of the group gateway.decoders",
    )
    topic: Name | None = Field(default=None, description="Other senders: topic of the events")
    type: str | None = Field(
        default=None,
        description="Other senders: type of the events, or its path such as $.type; unset: the topic's name",
    )
    each: str | None = Field(
        default=None,
        description="Other senders with JSON: path of a list whose items become events, such as $.events; $: the body"
        " is the list. The paths below are then relative to the item, and $$ is the body",
    )
    key: str | None = Field(default=None, description="Other senders: path of the ordering key, such as $.order.id")
    id: str | None = Field(
        default=None, description="Other senders: path of the sender's event id; unset: a hash of the payload"
    )
    time: str | None = Field(
        default=None, description="Other senders: path of the event's time; unset: time of arrival"
    )


class Ingest(Section):
    """The HTTP side that the platform calls."""

    host: Host = Field(default="127.0.0.1", description="Address to listen on; containers use 0.0.0.0")
    port: Port = Field(default=8080, description="Port to listen on; 0: any free port")
    workers: Annotated[Annotated[Int, Field(ge=1, le=64), Tag("[number]")] | Auto, NUMBER_OR_AUTO] = Field(
        default="auto",
        description="Processes that accept callbacks. auto: one less than the available processors (cgroup, "
        "affinity), at least 1, at most 4",
    )
    max_body_bytes: Size = Field(
        default=ByteSize(1_048_576), gt=0, le=64 * 1024 * 1024, description="Largest body; larger ones return 413"
    )
    max_items: Int = Field(
        default=1000,
        ge=1,
        le=100_000,
        description="Items of one callback; with more, the callback is rejected and kept",
    )
    max_event_bytes: Size = Field(
        default=ByteSize(8 * 1024**2),
        ge=65536,
        le=2**28,
        description="Bytes of the events of one callback; with more, the callback is rejected and kept",
    )
    read_timeout: Duration = Field(
        default=15.0, gt=0, description="Time for a whole request to arrive; after it, the answer is 408"
    )
    keepalive_timeout: Duration = Field(default=75.0, gt=0, description="An idle connection is closed after this time")
    max_connections: Annotated[Annotated[Int, Field(ge=8), Tag("[number]")] | Auto, NUMBER_OR_AUTO] = Field(
        default="auto",
        description="Connections of each process; above it, the longest idle one is closed. auto: what the limit of "
        "open files (ulimit -n) leaves after admin port, deliveries and journal, at most 16384",
    )
    fast_path: bool = Field(default=True, description="Parse plain callbacks without aiohttp, at a third of the cost")
    max_waiting: Int = Field(
        default=10_000, ge=1, description="Callbacks that wait for a commit; above it, the answer is 503"
    )
    dedup_window: Int = Field(
        default=100_000,
        ge=0,
        description="Number of event ids by which the gateway recognizes repeats; it does not store a repeat",
    )
    keep_unknown_paths: Int = Field(
        default=1000,
        ge=0,
        le=1_000_000,
        description="POSTs to unknown paths below /callbacks/ that are kept in callbacks.rejected each day (at most "
        "16 MiB); 0: none",
    )
    timezone: Zone = Field(default="Asia/Shanghai", description="Time zone of vendor times without a zone")
    trusted_proxies: Networks = Field(
        default_factory=list, description="Addresses or networks whose X-Forwarded-For header is trusted"
    )
    callbacks: dict[Name, Annotated[list[CallbackPath], Field(min_length=1), BeforeValidator(one_or_more)]] = Field(
        default_factory=dict,
        description="Callbacks by name, each with one path or a list of paths. Built-in callbacks are enabled without"
        " an entry",
    )

    @property
    def processes(self) -> int:
        """How many processes take callbacks."""
        return machine.ingest_workers() if self.workers == "auto" else self.workers


class JournalSettings(Section):
    """The log on local disk."""

    dir: str = Field(
        default="data",
        min_length=1,
        description="Folder of the journal, created if missing; only one gateway can use it",
    )
    max_bytes: Size = Field(
        default=ByteSize(10 * 1024**3),
        ge=1024 * 1024,
        description="Above this size the oldest events are deleted, except those that Kafka has not acknowledged: "
        "then the answer is 503",
    )
    retention: Duration = Field(default=7 * 86400.0, gt=0, description="Events are deleted after this time")


class Subscriber(Section):
    """A receiver of events: a webhook, a stream of server-sent events, or a file."""

    name: Name = Field(description="Unique name, used for its position, metrics and topics")
    topics: Annotated[list[Name], BeforeValidator(listed)] = Field(min_length=1, description="Topics to deliver")
    filter: dict[str, object] | list[object] | None = Field(
        default=None,
        description="Events to deliver, by the CloudEvents filter dialects exact, prefix, suffix, all, any, not",
    )
    kind: Literal["webhook", "stream", "file"] = Field(
        default="webhook",
        description="webhook: POST requests; stream: server-sent events at the admin port; file: lines of JSON",
    )
    url: Url | None = Field(default=None, description="webhook: address, sent exactly as written")
    token: Secret = Field(
        default=SecretStr(""),
        description="stream: token that opens this stream and nothing else; the admin token opens it too",
    )
    path: str | None = Field(default=None, description="file: path of the file")
    rotation: Rotation = Field(default=Rotation(), description="file: when a new file is started")
    secrets: Secrets = Field(
        default_factory=list,
        description="Standard Webhooks secrets (whsec_…, whsk_…), several during a rotation; none: no signature",
    )
    headers: dict[str, SecretStr] = Field(default_factory=dict, description="Additional headers of each request")
    concurrency: Int = Field(
        default=32, ge=1, le=4096, description="Largest number of concurrent requests of each process"
    )
    rate_per_s: Float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Largest number of requests a second of each process"
    )
    timeout_s: Duration = Field(default=10.0, gt=0, le=600, description="Time to wait for the answer to an attempt")
    ordering: Literal["key", "none"] = Field(
        default="key",
        description="key: events of one key are delivered one after the other, in order; none: without order",
    )
    start: Literal["latest", "earliest"] = Field(default="latest", description="Where a new subscriber begins")
    retry: RetrySettings = Field(default=RetrySettings(), description="Waits and number of attempts")
    on_failure: Literal["block", "pass"] = Field(
        default="pass",
        description="Later events of a key while an event of it waits in a retry topic: block (they wait) or pass "
        "(they are delivered)",
    )
    breaker: BreakerSettings = Field(default=BreakerSettings(), description="When the subscriber counts as down")
    tls: ClientTls = Field(default=ClientTls(), description="Certificates")
    transform: TransformSettings = Field(default=TransformSettings(), description="Fields to keep or remove")
    allow_private: bool = Field(default=False, description="Permit loopback, private and link-local addresses")
    allow: Texts = Field(default_factory=list, description="Private networks (CIDR) and host names to permit")

    @model_validator(mode="after")
    def _has_its_address(self) -> Subscriber:
        if self.kind == "webhook" and self.url is None:
            raise ValueError("url: a webhook needs an address")
        if self.kind == "file" and not self.path:
            raise ValueError("path: a file needs a name")
        return self


class Log(Section):
    """The gateway's own log lines."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Lowest level to log")
    format: Literal["auto", "console", "json"] = Field(
        default="auto", description="auto: console on a terminal, JSON lines otherwise"
    )


class Settings(Section):
    """The whole of ``config.yaml``."""

    ingest: Ingest = Field(default=Ingest(), description="The HTTP port for callbacks")
    journal: JournalSettings = Field(default=JournalSettings(), description="The log on local disk")
    kafka: Kafka | None = Field(
        default=None, description="Brokers; without this section, the gateway uses the embedded log"
    )
    topics: Topics = Field(default=Topics(), description="Names of the topics")
    subscribers: Annotated[list[Subscriber], BeforeValidator(listed)] = Field(
        default_factory=list, description="Receivers of events; a change needs no restart"
    )
    admin: Admin = Field(default=Admin(), description="Health, metrics and console")
    alerts: Annotated[list[Alert], BeforeValidator(listed)] = Field(
        default_factory=list,
        description="Receivers of alerts, for installations without Prometheus; a change needs no restart",
    )
    log: Log = Field(default=Log(), description="Log output")

    @property
    def event_topics(self) -> list[str]:
        """Topics that events of this configuration can go to."""
        own = [row.topic or name for name, rows in self.ingest.callbacks.items() for row in rows if row.decoder]
        return list(dict.fromkeys([*FAMILIES, *own]))
