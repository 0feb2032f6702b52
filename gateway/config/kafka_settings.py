"""Sections ``kafka`` and ``topics`` of ``config.yaml``; the others are in :mod:`gateway.config.settings`."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AliasChoices, Field, SecretStr, model_validator

from gateway.config.values import Duration, Int, Name, Secret, Section, Texts, Url


class OAuth(Section):
    """Where tokens for OAUTHBEARER come from: a file that others keep fresh, or a token endpoint."""

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
    """How to speak to the brokers. aiokafka's own names of the keys are understood too."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT",
        description="Whether to use TLS, SASL, both or neither",
        validation_alias=AliasChoices("protocol", "security_protocol"),
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = Field(
        default=None,
        description="SASL mechanism",
        validation_alias=AliasChoices("sasl_mechanism", "mechanism"),
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
