"""``config.yaml`` as types. Every key, its default, its unit and its limits stand here and nowhere else.

The loader (:mod:`gateway.config.loading`) turns what pydantic finds into sentences with key paths.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    SecretStr,
    model_validator,
)

from gateway.config.units import Duration, Size

#: Names that become part of topics, metric labels and files.
NAME = re.compile(r"^[a-z0-9][a-z0-9._-]{0,62}$")
FAMILIES = (
    "sms.dr",
    "call.event",
    "task.status",
    "message.incoming",
    "message.status",
    "channel.event",
    "number.check",
    "verify.status",
    "email.dr",
    "callbacks.rejected",
)


def _name(value: str) -> str:
    if not NAME.match(value):
        raise ValueError(
            "use lower-case letters, digits, '.', '-' and '_', at most 63, starting with a letter or digit"
        )
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError) as exc:
        raise ValueError("not a time zone of the IANA list, such as Asia/Shanghai or UTC") from exc
    return value


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("an address of the form https://host/path is needed")
    if parts.username or parts.password:
        raise ValueError("keep credentials out of the address; use headers with ${NAME}")
    return value


def _list(value: object) -> object:
    """One value stands for a list of one; an empty text, as of an unset variable, for none."""
    if value is None or value == "":
        return []
    return value if isinstance(value, list) else [value]


def _without_empty(value: object) -> object:
    listed = _list(value)
    return [item for item in listed if item not in (None, "")] if isinstance(listed, list) else listed


Name = Annotated[str, AfterValidator(_name)]
Url = Annotated[str, AfterValidator(_url)]
Secrets = Annotated[list[SecretStr], BeforeValidator(_without_empty)]
Networks = Annotated[list[IPvAnyNetwork], BeforeValidator(_without_empty)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values cannot be changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Signature(Section):
    """How the sender signs. An empty ``secret`` switches the check off."""

    secret: SecretStr = SecretStr("")
    secrets: Secrets = Field(default_factory=list, description="More secrets, while one is being rotated")
    algorithm: Literal["md5", "sha1", "sha256", "sha512"] | None = Field(
        default=None,
        description="Fixed algorithm; unset: what the headers say, or the length of the signature",
    )
    access_key: str | None = Field(default=None, description="Refuse other keys than this (general scheme)")
    window: Duration | None = Field(default=None, gt=0, description="Refuse time stamps further off than this")
    header: str | None = Field(default=None, description="Other senders: the header that carries an HMAC of the body")
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = Field(default="", description="Other senders: text before the signature, such as 'sha256='")

    @property
    def all_secrets(self) -> list[str]:
        """Every secret that is accepted, in the order of the file."""
        values = [self.secret, *self.secrets]
        return [value.get_secret_value() for value in values if value.get_secret_value()]


class Auth(Section):
    """What a callback must show. All configured checks must pass; none configured leaves the path open."""

    token: SecretStr = SecretStr("")
    tokens: Secrets = Field(default_factory=list, description="More tokens, while one is being rotated")
    allow_ips: Networks = Field(default_factory=list, description="Addresses or networks (CIDR) that may call")
    signature: Signature | None = None

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

    path: Annotated[str, Field(pattern=r"^/[!-~]*$")] | None = None
    account: Name | None = None
    enabled: bool = True
    auth: Auth = Auth()
    timezone: Annotated[str, AfterValidator(_zone)] | None = None
    decoder: str | None = Field(default=None, description="json, form, or an entry point of the group gateway.decoders")
    topic: Name | None = None
    type: str | None = None
    key: str | None = Field(default=None, description="Path of the ordering key in the payload, such as $.order.id")
    id: str | None = Field(default=None, description="Path of the sender's own event id; unset: a hash of the payload")
    time: str | None = Field(default=None, description="Path of the time of the event")


class Ingest(Section):
    """The HTTP side that the platform calls."""

    host: str = "127.0.0.1"
    port: Port = 8080
    workers: int = Field(default=1, ge=1, le=64)
    max_body_bytes: Size = Field(default=Size(1_048_576), gt=0, le=64 * 1024 * 1024)
    read_timeout: Duration = Field(default=15.0, gt=0, description="A request must have arrived whole after this time")
    keepalive_timeout: Duration = Field(default=75.0, gt=0)
    max_waiting: int = Field(default=10_000, ge=1, description="Callbacks waiting for a commit; more are answered 503")
    dedup_window: int = Field(default=100_000, ge=0, description="Known event ids; a repeat of one is not stored twice")
    timezone: Annotated[str, AfterValidator(_zone)] = "Asia/Shanghai"
    trusted_proxies: Networks = Field(default_factory=list)
    callbacks: dict[Name, Annotated[list[CallbackPath], BeforeValidator(_list)]] = Field(default_factory=dict)


class Journal(Section):
    """The log on local disk."""

    dir: str = "data"
    max_bytes: Size = Field(default=Size(10 * 1024**3), ge=1024 * 1024)
    retention: Duration = Field(default=7 * 86400.0, gt=0)


class Retry(Section):
    """When to try again: exponential from ``first_delay_s`` up to ``max_delay_s``, with full jitter."""

    attempts: int = Field(default=12, ge=1, le=1000)
    first_delay_s: Duration = Field(default=5.0, gt=0)
    max_delay_s: Duration = Field(default=21600.0, gt=0)
    max_age: Duration | None = Field(default=None, gt=0, description="Give up on events older than this")


class Subscriber(Section):
    """A receiver of webhooks."""

    name: Name
    topics: Annotated[list[Name], BeforeValidator(_list)] = Field(min_length=1)
    filter: dict[str, object] | None = None
    url: Url
    secrets: Secrets = Field(default_factory=list)
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    concurrency: int = Field(default=32, ge=1, le=4096)
    rate_per_s: float | None = Field(default=None, gt=0)
    timeout_s: Duration = Field(default=10.0, gt=0, le=600)
    ordering: Literal["key", "none"] = "key"
    start: Literal["latest", "earliest"] = Field(default="latest", description="Where a new subscriber begins to read")
    retry: Retry = Retry()
    allow_private: bool = False


class Kafka(Section):
    """The brokers. Leave the section out for the embedded log."""

    bootstrap_servers: Annotated[list[str], BeforeValidator(_list)] = Field(min_length=1)
    security: dict[str, object] = Field(default_factory=dict)
    cloudevents: Literal["structured", "binary"] = "structured"
    partitions: int = Field(default=6, ge=1)
    replication_factor: int = Field(default=1, ge=1)
    create_topics: bool = True


class Topics(Section):
    """Names of the topics."""

    prefix: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]*$")] = ""


class Admin(Section):
    """Health, metrics and console."""

    host: str = "127.0.0.1"
    port: Port = 8081
    token: SecretStr = SecretStr("")


class Log(Section):
    """What the gateway says of itself."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class Settings(Section):
    """The whole of ``config.yaml``."""

    ingest: Ingest = Ingest()
    journal: Journal = Journal()
    kafka: Kafka | None = None
    topics: Topics = Topics()
    subscribers: Annotated[list[Subscriber], BeforeValidator(_list)] = Field(default_factory=list)
    admin: Admin = Admin()
    log: Log = Log()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Settings:
        names = [subscriber.name for subscriber in self.subscribers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"subscribers: the name {twice[0]!r} is used twice; cursors and metrics go by name")
        return self
