"""Sections of ``config.yaml``: ``kafka``, ``topics``, ``admin`` and ``alerts``, and the parts of a subscriber."""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args
from uuid import UUID

from pydantic import AfterValidator, AliasChoices, BeforeValidator, ByteSize, Field, SecretStr, model_validator

from gateway.config import webhook_url
from gateway.config.values import (
    Duration,
    Float,
    Host,
    Int,
    Name,
    Port,
    Secret,
    Secrets,
    Section,
    Size,
    Texts,
    Url,
    listed,
    split_at_commas,
)

#: What a token permits. Each role permits what the ones before it permit.
Role = Literal["read", "operate", "admin"]
#: Name of the token ``admin.token`` in the audit record.
ADMIN: Final = "admin"
Rule = Literal["subscriber_down", "dead_letters", "journal_filling", "topic_stuck", "callback_silent"]
RULES: Final[tuple[Rule, ...]] = get_args(Rule)


class OAuth(Section):
    """Source of tokens for OAUTHBEARER: a file that others keep fresh, or a token endpoint."""

    token_file: str = Field(default="", description="File with the token; read again for each connection")
    token_url: str = Field(default="", description="Token endpoint (OAuth 2 client credentials)")
    client_id: str = Field(default="", description="Client id for the token endpoint")
    client_secret: Secret = Field(default=SecretStr(""), description="Client secret for the token endpoint")
    scope: str = Field(default="", description="Scope for the token endpoint")

    @model_validator(mode="after")
    def _one_source(self) -> OAuth:
        if bool(self.token_file) == bool(self.token_url):
            raise ValueError("set token_file, or token_url with client_id and client_secret")
        if self.token_url and not (self.client_id and self.client_secret.get_secret_value()):
            raise ValueError("token_url needs client_id and client_secret")
        return self


class Security(Section):
    """Protocol, login and certificates for the brokers. aiokafka's own names of the keys are accepted too."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT",
        description="Whether to use TLS, SASL, both or neither",
        validation_alias=AliasChoices("protocol", "security_protocol"),
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = Field(
        default=None, description="SASL mechanism", validation_alias=AliasChoices("sasl_mechanism", "mechanism")
    )
    username: str | None = Field(
        default=None, description="SASL user", validation_alias=AliasChoices("username", "sasl_plain_username")
    )
    password: Secret | None = Field(
        default=None, description="SASL password", validation_alias=AliasChoices("password", "sasl_plain_password")
    )
    ca_file: str | None = Field(
        default=None,
        description="File with certificate authorities (PEM) that sign the brokers' certificates; unset: the system's",
        validation_alias=AliasChoices("ca_file", "ssl_cafile"),
    )
    cert_file: str | None = Field(
        default=None,
        description="Client certificate (PEM), if the brokers require one",
        validation_alias=AliasChoices("cert_file", "ssl_certfile"),
    )
    key_file: str | None = Field(
        default=None,
        description="Key of the client certificate (PEM)",
        validation_alias=AliasChoices("key_file", "ssl_keyfile"),
    )
    key_password: Secret | None = Field(
        default=None,
        description="Password of the key file",
        validation_alias=AliasChoices("key_password", "ssl_password"),
    )
    check_hostname: bool = Field(default=True, description="Whether a broker's certificate must contain its host name")
    oauth: OAuth | None = Field(default=None, description="Source of tokens for the mechanism OAUTHBEARER")

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
        default="structured",
        description="Encoding of records: structured (the event is the value) or binary (attributes are ce_ headers)",
    )
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        default="none",
        description="Codec of the record batches that the gateway writes. Consumers need it: see kafka-consumers.md",
    )
    isolation_level: Literal["read_committed", "read_uncommitted"] = Field(
        default="read_committed",
        description="read_committed ignores records of aborted transactions of other producers",
    )
    schema_ids: dict[Name, Annotated[Int, Field(ge=1, le=2**31 - 1)] | UUID] = Field(
        default_factory=dict,
        description="Id or GUID of each topic's schema in a schema registry; records carry it in the header "
        "__value_schema_id. gateway schema --register prints these lines",
    )
    partitions: Int = Field(default=6, ge=1, description="Partitions of topics that the gateway creates")
    replication_factor: Int = Field(default=1, ge=1, description="Replicas of topics that the gateway creates")
    create_topics: bool = Field(
        default=True, description="Whether the gateway creates its own topics if they are missing; it creates no others"
    )
    topic_config: dict[str, str | int] = Field(
        default_factory=dict,
        description="Settings of topics that the gateway creates, by their Kafka names, such as max.message.bytes",
    )
    session_timeout: Duration = Field(
        default=15.0,
        ge=1,
        le=1800,
        description="Kafka removes a fan-out process from the group after this time without a heartbeat",
    )
    instance_id: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]*$", max_length=200)] = Field(
        default="",
        description="Name of a fan-out process in its consumer group. A process that restarts within session_timeout "
        "keeps its partitions. Unset: host name and admin port",
    )


class Topics(Section):
    """Names of the topics."""

    prefix: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]*$")] = Field(
        default="", description="Prefix of each topic's name in Kafka"
    )
    schema_base_url: Url | None = Field(
        default=None,
        description="Address below which you publish the schemas; events have <address>/v1/<topic>.json as "
        "dataschema. Unset: a urn of the type",
    )


class AdminToken(Section):
    """A token of the admin port, for one person or program."""

    name: Name = Field(description="Name of the person or program, in the audit record; each name once")
    role: Role = Field(
        description="read: see everything; operate: also pause, resume, replay, resolve, test; admin: also add, change "
        "and remove subscribers"
    )
    token: Secret = Field(min_length=1, description="The token, sent as Authorization: Bearer …")


class Admin(Section):
    """Health, metrics and console."""

    host: Host = Field(default="127.0.0.1", description="Address to listen on; any except loopback requires a token")
    port: Port = Field(default=8081, description="Port to listen on; 0: any free port")
    token: Secret = Field(
        default=SecretStr(""),
        description="Required for everything except /healthz, /readyz and the files of the console; its role is admin",
    )
    tokens: list[AdminToken] = Field(
        default_factory=list, description="More tokens, each with a name and a role, such as one for each person"
    )
    attempts_retention: Duration = Field(
        default=7 * 86400.0,
        gt=0,
        description="Attempts, with their requests and answers, are shown for this time; the embedded log deletes them "
        "after it, Kafka after retention.ms of the topic fanout.attempts",
    )
    secrets_key: Annotated[list[Secret], BeforeValidator(split_at_commas)] = Field(
        default_factory=list,
        description="Key that encrypts subscribers that are added at run time: base64 of 32 bytes. Several during a "
        "rotation: the first encrypts, all decrypt",
    )

    @property
    def has_token(self) -> bool:
        """Whether a request needs a token."""
        return bool(self.token.get_secret_value() or self.tokens)

    @property
    def strongest_token(self) -> str:
        """The token with the most rights, for the commands of this machine; empty if none is needed."""
        if text := self.token.get_secret_value():
            return text
        ranks: tuple[Role, ...] = ("read", "operate", "admin")
        best = max(self.tokens, key=lambda one: ranks.index(one.role), default=None)
        return "" if best is None else best.token.get_secret_value()


def _secret_url(value: SecretStr) -> SecretStr:
    webhook_url.parse(value.get_secret_value())
    return value


class AlertWebhook(Section):
    """A JSON document to an address, signed as the webhooks of events are."""

    url: Annotated[SecretStr, AfterValidator(_secret_url)] = Field(description="Address of the receiver")
    secrets: Secrets = Field(default_factory=list, description="Standard Webhooks secrets; none: no signature")
    headers: dict[str, SecretStr] = Field(default_factory=dict, description="Additional headers of each request")


class AlertSlack(Section):
    """A message to a channel of Slack, or of a service that accepts the same (Mattermost, Rocket.Chat)."""

    url: Annotated[SecretStr, AfterValidator(_secret_url)] = Field(description="Address of the incoming webhook")


class AlertEmail(Section):
    """A mail by SMTP."""

    host: str = Field(min_length=1, description="SMTP server")
    port: Port = Field(default=587, description="Port of the SMTP server")
    tls: Literal["starttls", "implicit", "none"] = Field(
        default="starttls", description="starttls (port 587), implicit (port 465), or none"
    )
    user: str = Field(default="", description="User of the SMTP server; empty: no login")
    password: Secret = Field(default=SecretStr(""), description="Password of that user")
    sender: str = Field(
        pattern=r"^[^\s@]+@[^\s@]+$",
        description="Address that the mails come from; the key may also be called from",
        validation_alias=AliasChoices("sender", "from"),
    )
    to: Annotated[list[Annotated[str, Field(pattern=r"^[^\s@]+@[^\s@]+$")]], BeforeValidator(listed)] = Field(
        min_length=1, description="Address, or several, that the mails go to"
    )

    @model_validator(mode="after")
    def _does_not_show_its_password(self) -> AlertEmail:
        if self.user and self.tls == "none":
            raise ValueError("tls: a password must not be sent in clear; use starttls or implicit")
        return self


class AlertThresholds(Section):
    """Limits from which a problem is reported."""

    down_for: Duration = Field(
        default=120.0, gt=0, description="subscriber_down: a subscriber is down or stopped for this time"
    )
    dead_letters: Int = Field(
        default=1, ge=1, description="dead_letters: a subscriber has at least this number of open dead letters"
    )
    journal_share: Float = Field(
        default=0.8, gt=0, lt=1, description="journal_filling: the journal uses this share of journal.max_bytes"
    )
    stuck_for: Duration = Field(
        default=300.0, gt=0, description="topic_stuck: Kafka does not accept a topic for this time"
    )
    silent_factor: Float = Field(
        default=2.0,
        ge=1,
        description="callback_silent: a callback is silent for this multiple of its longest pause of the last week",
    )
    silent_min: Duration = Field(default=900.0, ge=60, description="callback_silent: never earlier than this")


class Alert(Section):
    """One receiver of alerts: exactly one of webhook, slack and email."""

    name: Name = Field(description="Unique name, for metrics, log lines and gateway alerts test")
    webhook: AlertWebhook | None = Field(default=None, description="JSON to an address of your own")
    slack: AlertSlack | None = Field(default=None, description="Slack, or a service that accepts the same messages")
    email: AlertEmail | None = Field(default=None, description="Mail")
    rules: Annotated[list[Rule], BeforeValidator(listed)] = Field(
        default_factory=lambda: list(RULES), min_length=1, description="Rules; default: all"
    )
    thresholds: AlertThresholds = Field(
        default=AlertThresholds(), description="Limits from which a problem is reported"
    )
    repeat: Duration = Field(
        default=14_400.0, ge=0, description="A problem that lasts is repeated after this time; 0: never"
    )
    resolve_after: Duration = Field(
        default=60.0, ge=0, description="A problem must be gone for this time until it is reported to be over"
    )
    interval: Duration = Field(
        default=60.0,
        ge=1,
        description="Messages are at least this far apart; what happens meanwhile is in the next one",
    )

    @model_validator(mode="after")
    def _has_one_way(self) -> Alert:
        given = [way for way in ("webhook", "slack", "email") if getattr(self, way) is not None]
        if len(given) != 1:
            said = f"it has {' and '.join(given)}" if given else "it has none"
            raise ValueError(f"webhook: exactly one of webhook, slack and email is needed; {said}")
        return self


class RetrySettings(Section):
    """When to try again: exponential from ``first_delay_s`` up to ``max_delay_s``, with full jitter."""

    attempts: Int = Field(
        default=12, ge=1, le=1000, description="Attempts in all; then the event becomes a dead letter"
    )
    first_delay_s: Duration = Field(
        default=5.0, gt=0, description="Upper limit of the first wait; doubles with each attempt"
    )
    max_delay_s: Duration = Field(default=21600.0, gt=0, description="Longest wait")
    max_age: Duration | None = Field(
        default=None, gt=0, description="Failing events become dead letters after this time"
    )
    tiers: list[Duration] = Field(
        default_factory=lambda: [60.0, 600.0, 3600.0],
        max_length=8,
        description="Delays of the retry topics. A longer wait uses one of them, a shorter one blocks the key",
    )


class BreakerSettings(Section):
    """When a subscriber counts as down: its reader pauses, single events probe it, the log keeps the other events."""

    failure_rate: Float = Field(
        default=0.5, gt=0, le=1, description="The breaker opens at this share of failed attempts in the window"
    )
    window: Duration = Field(default=60.0, gt=0, description="Time over which attempts count")
    min_attempts: Int = Field(
        default=10, ge=1, description="With fewer attempts in the window, the breaker does not open"
    )
    first_open: Duration = Field(default=5.0, gt=0, description="Wait before the first probe; doubles with each probe")
    max_open: Duration = Field(default=8.0, gt=0, description="Longest wait between probes")


class ClientTls(Section):
    """TLS towards one subscriber."""

    ca_file: str | None = Field(
        default=None, description="Certificate authority of the subscriber (PEM); unset: the system's"
    )
    cert_file: str | None = Field(default=None, description="Client certificate (PEM), for mutual TLS")
    key_file: str | None = Field(
        default=None, description="Key of the client certificate (PEM); unset: it is in cert_file"
    )


class TransformSettings(Section):
    """The fields of an event that this subscriber gets, as paths such as ``data.raw``."""

    include: Texts = Field(
        default_factory=list, description="Paths to keep in addition to those that CloudEvents requires; none: all"
    )
    exclude: Texts = Field(default_factory=list, description="Paths to remove, such as data.raw")


class Rotation(Section):
    """When a file is put aside and a new one begun."""

    max_bytes: Size = Field(
        default=ByteSize(64 * 1024**2), ge=1024, description="Approximate size at which a new file is started"
    )
    keep: Int = Field(default=10, ge=1, le=10_000, description="Number of old files; the oldest is deleted")
