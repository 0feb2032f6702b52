"""Sections ``kafka`` and ``topics`` of ``config.yaml``; the others are in :mod:`gateway.config.settings`."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AliasChoices, Field, SecretStr, model_validator

from gateway.config.section import Section
from gateway.config.units import Duration
from gateway.config.values import Name, Texts, Url


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
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        default="none",
        description="Of the record batches that the gateway writes. Consumers need the codec: see kafka-consumers.md",
    )
    isolation_level: Literal["read_committed", "read_uncommitted"] = Field(
        default="read_committed", description="Whether records of aborted transactions of other producers are left out"
    )
    schema_ids: dict[Name, Annotated[int, Field(ge=1, le=2**31 - 1)] | UUID] = Field(
        default_factory=dict,
        description="Id, or GUID, of a topic's schema in a schema registry, by topic; its records then carry it in the "
        "header __value_schema_id. gateway schema --register prints them",
    )
    partitions: int = Field(default=6, ge=1, description="Of topics that the gateway creates")
    replication_factor: int = Field(default=1, ge=1, description="Of topics that the gateway creates")
    create_topics: bool = Field(
        default=True, description="Create the gateway's own topics where they are missing; others are never created"
    )
    topic_config: dict[str, str | int] = Field(
        default_factory=dict,
        description="Settings of topics that the gateway creates, in Kafka's names, such as max.message.bytes",
    )
    session_timeout: Duration = Field(
        default=15.0, ge=1, le=1800, description="A fan-out process that says nothing for so long counts as dead"
    )
    instance_id: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]*$", max_length=200)] = Field(
        default="",
        description="Names a fan-out process in its consumer group, over restarts: one that is back within "
        "session_timeout gets the same partitions, and nothing moves. Unset: the host's name and the admin port",
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
