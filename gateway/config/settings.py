"""``config.yaml`` as types. Every key, its default, its unit, its limits and what it means stand here and nowhere else.

The loader (:mod:`gateway.config.loading`) turns what pydantic finds into sentences with key paths; rules that look at
more than one value are in :mod:`gateway.config.rules`. The reference in README is made from the descriptions.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from gateway.config.units import Duration, Size
from gateway.config.values import (
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


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values cannot be changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


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
    window: Duration | None = Field(default=None, gt=0, description="Refuse time stamps further off than this")
    header: str | None = Field(default=None, description="Other senders: the header that carries an HMAC of the body")
    encoding: Literal["hex", "base64"] = Field(default="hex", description="Other senders: how the HMAC is written")
    prefix: str = Field(default="", description="Other senders: text before the HMAC, such as 'sha256='")

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

    @property
    def all_tokens(self) -> list[str]:
        """Every token that is accepted, in the order of the file."""
        values = [self.token, *self.tokens]
        return [value.get_secret_value() for value in values if value.get_secret_value()]

    @property
    def is_open(self) -> bool:
        """Nothing is checked."""
        return not (self.all_tokens or self.allow_ips or (self.signature and self.signature.all_secrets))


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
    type: str | None = Field(default=None, description="Other senders: type of the events; unset: the topic's name")
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
    workers: int = Field(default=1, ge=1, le=64, description="Processes of gateway serve, sharing the port")
    max_body_bytes: Size = Field(
        default=Size(1_048_576), gt=0, le=64 * 1024 * 1024, description="Larger bodies are answered 413"
    )
    read_timeout: Duration = Field(
        default=15.0, gt=0, description="A request that has not arrived whole after this time is answered 408"
    )
    keepalive_timeout: Duration = Field(default=75.0, gt=0, description="An idle connection is closed after this time")
    fast_path: bool = Field(
        default=True, description="Plain callbacks are read without aiohttp's help, at a third of the cost"
    )
    max_waiting: int = Field(default=10_000, ge=1, description="Callbacks waiting for a commit; more are answered 503")
    dedup_window: int = Field(default=100_000, ge=0, description="Known event ids; a repeat of one is not stored twice")
    timezone: Zone = Field(default="Asia/Shanghai", description="Of vendor times that carry no zone")
    trusted_proxies: Networks = Field(
        default_factory=list, description="Addresses or networks whose X-Forwarded-For is believed"
    )
    callbacks: dict[Name, Annotated[list[CallbackPath], Field(min_length=1), BeforeValidator(one_or_more)]] = Field(
        default_factory=dict,
        description="Callbacks by name, each with one path or a list of paths; built-in ones are on without being "
        "named here",
    )


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
    url: Url | None = Field(default=None, description="webhook: where the events are posted")
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


class OAuth(Section):
    """Where tokens for OAUTHBEARER come from: a file that others keep fresh, or a token endpoint."""

    token_file: str = Field(default="", description="Read anew for every connection")
    token_url: str = Field(default="", description="Token endpoint (OAuth 2 client credentials)")
    client_id: str = Field(default="", description="At the token endpoint")
    client_secret: SecretStr = Field(default=SecretStr(""), description="At the token endpoint")
    scope: str = Field(default="", description="At the token endpoint")

    @model_validator(mode="after")
    def _one_source(self) -> OAuth:
        if bool(self.token_file) == bool(self.token_url):
            raise ValueError("set token_file, or token_url with client_id and client_secret")
        if self.token_url and not (self.client_id and self.client_secret.get_secret_value()):
            raise ValueError("token_url needs client_id and client_secret")
        return self


class Security(Section):
    """How to speak to the brokers. aiokafka's own names of the keys are understood too."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT",
        description="TLS, SASL, both or none",
        validation_alias=AliasChoices("protocol", "security_protocol"),
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = Field(
        default=None,
        description="How to log in, with SASL",
        validation_alias=AliasChoices("sasl_mechanism", "mechanism"),
    )
    username: str | None = Field(
        default=None, description="SASL user", validation_alias=AliasChoices("username", "sasl_plain_username")
    )
    password: SecretStr | None = Field(
        default=None, description="SASL password", validation_alias=AliasChoices("password", "sasl_plain_password")
    )
    ca_file: str | None = Field(
        default=None,
        description="Certificates (PEM) that the brokers' are checked against; unset: the system's",
        validation_alias=AliasChoices("ca_file", "ssl_cafile"),
    )
    cert_file: str | None = Field(
        default=None,
        description="Our own certificate (PEM), where brokers ask for one",
        validation_alias=AliasChoices("cert_file", "ssl_certfile"),
    )
    key_file: str | None = Field(
        default=None, description="Its key (PEM)", validation_alias=AliasChoices("key_file", "ssl_keyfile")
    )
    key_password: SecretStr | None = Field(
        default=None,
        description="Password of the key's file",
        validation_alias=AliasChoices("key_password", "ssl_password"),
    )
    check_hostname: bool = Field(default=True, description="Whether a broker's certificate must carry its host name")
    oauth: OAuth | None = Field(default=None, description="Tokens, with sasl_mechanism OAUTHBEARER")

    @model_validator(mode="after")
    def _fits_together(self) -> Security:
        with_sasl = self.protocol.startswith("SASL_")
        if with_sasl and self.sasl_mechanism is None:
            raise ValueError(f"protocol {self.protocol} needs sasl_mechanism")
        if not with_sasl and self.sasl_mechanism is not None:
            raise ValueError(f"sasl_mechanism needs protocol SASL_SSL or SASL_PLAINTEXT, not {self.protocol}")
        if self.sasl_mechanism == "OAUTHBEARER":
            if self.oauth is None:
                raise ValueError("sasl_mechanism OAUTHBEARER needs oauth")
        elif with_sasl and not (self.username and self.password and self.password.get_secret_value()):
            raise ValueError(f"sasl_mechanism {self.sasl_mechanism} needs username and password")
        if not self.protocol.endswith("SSL") and (self.ca_file or self.cert_file):
            raise ValueError(f"ca_file and cert_file need protocol SSL or SASL_SSL, not {self.protocol}")
        return self


class Kafka(Section):
    """The brokers. Leave the section out for the embedded log."""

    bootstrap_servers: Texts = Field(min_length=1, description="host:port of one or more brokers")
    security: Security = Field(default=Security(), description="TLS and SASL")
    cloudevents: Literal["structured", "binary"] = Field(
        default="structured", description="How an event becomes a record: whole, or attributes as ce_ headers"
    )
    partitions: int = Field(default=6, ge=1, description="Of topics that the gateway creates")
    replication_factor: int = Field(default=1, ge=1, description="Of topics that the gateway creates")
    create_topics: bool = Field(default=True, description="Create missing topics at start")
    topic_config: dict[str, str | int] = Field(
        default_factory=dict,
        description="Settings of topics that the gateway creates, in Kafka's names, such as max.message.bytes",
    )
    session_timeout: Duration = Field(
        default=15.0, ge=1, le=1800, description="A fan-out process that says nothing for so long counts as dead"
    )


class Topics(Section):
    """Names of the topics."""

    prefix: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]*$")] = Field(
        default="", description="Put before each topic's name in Kafka"
    )
    schema_base_url: Url | None = Field(
        default=None,
        description="Address below which you publish the schemas of the topics; events then name "
        "<address>/v1/<topic>.json as their dataschema. Unset: a urn of their type",
    )


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
