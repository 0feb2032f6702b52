"""The section ``admin`` of ``config.yaml``: the port of operators, who may use it, and the key of what they store."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, SecretStr

from gateway.config.values import Duration, Host, Name, Port, Secret, Section, split_at_commas

#: What a token permits. Each role permits what the ones before it permit.
Role = Literal["read", "operate", "admin"]
#: Name of the token ``admin.token`` in the audit record.
ADMIN: Final = "admin"


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
