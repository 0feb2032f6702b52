"""The section ``alerts`` of ``config.yaml``: receivers, rules and thresholds."""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, SecretStr, model_validator

from gateway.config import webhook_url
from gateway.config.values import Duration, Float, Int, Name, Port, Secret, Secrets, Section, listed

Rule = Literal["subscriber_down", "dead_letters", "journal_filling", "topic_stuck", "callback_silent"]
RULES: Final[tuple[Rule, ...]] = get_args(Rule)


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
        default_factory=lambda: list(RULES),
        min_length=1,
        description="Rules; default: all",
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
