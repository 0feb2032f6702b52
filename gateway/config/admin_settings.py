"""The sections ``admin`` and ``alerts`` of ``config.yaml``: who uses the port of operators, and gets alerts."""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, SecretStr, model_validator

from gateway.config import webhook_url
from gateway.config.values import Duration, Name, Port, Secrets, Section, listed, split_at_commas

#: What a token permits. Each role permits what the ones before it permit.
Role = Literal["read", "operate", "admin"]
#: Name of the token ``admin.token`` in the audit record.
ADMIN: Final = "admin"
Rule = Literal["subscriber_down", "dead_letters", "journal_filling", "topic_stuck", "callback_silent"]
RULES: Final[tuple[Rule, ...]] = get_args(Rule)


class AdminToken(Section):
    """A token of the admin port, for one person or program."""

    name: Name = Field(description="Name of the person or program, in the audit record; each name once")
    role: Role = Field(
        description="read: see everything; operate: also pause, resume, replay, resolve, test; admin: also add, change "
        "and remove subscribers"
    )
    token: SecretStr = Field(min_length=1, description="The token, sent as Authorization: Bearer …")


class Admin(Section):
    """Health, metrics and console."""

    host: str = Field(default="127.0.0.1", description="Address to listen on; any except loopback requires a token")
    port: Port = Field(default=8081, description="Port to listen on; 0: any free port")
    token: SecretStr = Field(
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
    secrets_key: Annotated[list[SecretStr], BeforeValidator(split_at_commas)] = Field(
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
    password: SecretStr = Field(default=SecretStr(""), description="Password of that user")
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
    dead_letters: int = Field(
        default=1, ge=1, description="dead_letters: a subscriber has at least this number of open dead letters"
    )
    journal_share: float = Field(
        default=0.8, gt=0, lt=1, description="journal_filling: the journal uses this share of journal.max_bytes"
    )
    stuck_for: Duration = Field(
        default=300.0, gt=0, description="topic_stuck: Kafka does not accept a topic for this time"
    )
    silent_factor: float = Field(
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
