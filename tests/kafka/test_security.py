"""``kafka.security``: what fits together, and a broker that asks for TLS, SASL and rights."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from pydantic import ValidationError

from gateway.config.sections import Kafka, OAuth, Topics
from gateway.errors import ConfigError, Transient
from gateway.log.kafka import KafkaLog, KafkaOptions, topics
from gateway.log.kafka.errors import AUTHENTICATION, AUTHORISATION
from gateway.log.kafka.options import ClientCredentials, WriterPolicy
from gateway.publisher import Publisher
from tests.broker import security
from tests.broker.cluster import Cluster
from tests.kafka import tokens
from tests.kafka.tokens import TokenEndpoint
from tests.kafka.traffic import TOPIC, compare, event, journal, published, stored
from tests.log.contract import entries, read
from tests.waiting import until

_GATEWAY = {"username": security.USER, "password": security.PASSWORD}


def _kafka(bootstrap: str, ca_file: Path, **more: Any) -> Kafka:
    return Kafka.model_validate(
        {
            "bootstrap_servers": bootstrap,
            "partitions": 2,
            "security": {"protocol": "SASL_SSL", "ca_file": str(ca_file), **more},
        }
    )


@pytest.mark.kafka
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
async def test_sasl_over_tls(secure_kafka: Cluster, prefix: str, mechanism: str) -> None:
    """With the configured user, password and authority, topics are made, written and read."""
    settings = _kafka(secure_kafka.secure_bootstrap, secure_kafka.ca_file, sasl_mechanism=mechanism, **_GATEWAY)
    await _round_trip(KafkaOptions.of(settings, Topics(prefix=prefix)))


@pytest.mark.kafka
async def test_oauthbearer_with_a_token_in_a_file(secure_kafka: Cluster, prefix: str, tmp_path: Path) -> None:
    """The token is read from the file; the test's broker takes unsigned ones."""
    file = tmp_path / "token"
    file.write_text(tokens.unsigned(security.USER) + "\n")
    await _round_trip(_with_tokens(secure_kafka, prefix, {"token_file": str(file)}))


@pytest.mark.kafka
async def test_oauthbearer_with_a_token_endpoint(secure_kafka: Cluster, prefix: str) -> None:
    """The endpoint is asked once with our client's credentials, and all connections log in with what it gave."""
    async with TokenEndpoint(security.USER) as endpoint:
        await _round_trip(_with_tokens(secure_kafka, prefix, endpoint.settings(scope="kafka write")))
    assert endpoint.asked == [
        {
            "scheme": "Basic",
            "client": (tokens.CLIENT, tokens.CLIENT_SECRET),
            "grant_type": "client_credentials",
            "scope": "kafka write",
        }
    ]


@pytest.mark.kafka
async def test_a_token_endpoint_that_refuses_is_named_and_waited_for(
    secure_kafka: Cluster, prefix: str, tmp_path: Path
) -> None:
    """Its address and status stand in the state, our secret does not; when it gives a token the events follow."""
    async with TokenEndpoint(security.USER) as endpoint, journal(tmp_path) as log:
        endpoint.status = 401
        publisher = Publisher(log, _with_tokens(secure_kafka, prefix, endpoint.settings()), create=[TOPIC])
        await publisher.start()
        await log.append([event(n, "k") for n in range(10)])
        await until(lambda: endpoint.settings()["token_url"] in publisher.state.reason)
        assert "401" in publisher.state.reason
        assert tokens.CLIENT_SECRET not in publisher.state.reason
        endpoint.status = 200
        await published(publisher)
        await publisher.stop()


async def test_a_token_is_kept_until_shortly_before_it_runs_out() -> None:
    """One that is good for an hour is asked for once; one that is good for less than the margin, each time."""
    async with TokenEndpoint(security.USER) as endpoint:
        provider = ClientCredentials(OAuth.model_validate(endpoint.settings()))
        assert await provider.token() == await provider.token()
        assert len(endpoint.asked) == 1
        endpoint.expires_in = 20
        provider = ClientCredentials(OAuth.model_validate(endpoint.settings()))
        assert await provider.token() != await provider.token()
        assert len(endpoint.asked) == 3


@pytest.mark.parametrize("answer", ["not JSON", "{}", "[]", '{"access_token": "x", "expires_in": "soon"}'])
async def test_an_endpoint_that_gives_no_token_is_a_connection_that_failed(answer: str) -> None:
    """Whatever it answers is an OSError that names the endpoint: aiokafka tries again."""
    async with TokenEndpoint(security.USER) as endpoint:
        endpoint.answer = answer
        provider = ClientCredentials(OAuth.model_validate(endpoint.settings()))
        with pytest.raises(OSError, match=re.escape(f"{endpoint.settings()['token_url']}: no token")):
            await provider.token()


def _with_tokens(cluster: Cluster, prefix: str, oauth: dict[str, str]) -> KafkaOptions:
    settings = _kafka(cluster.secure_bootstrap, cluster.ca_file, sasl_mechanism="OAUTHBEARER", oauth=oauth)
    return KafkaOptions.of(settings, Topics(prefix=prefix))


async def _round_trip(options: KafkaOptions) -> None:
    log = KafkaLog(options)
    await log.start()
    reader = await log.browse("g", ["sms.dr"], start="earliest")
    await log.append(entries(20))
    assert len(await read(reader, 20)) == 20
    await log.stop()


@pytest.mark.kafka
async def test_a_wrong_password_is_named(secure_kafka: Cluster, prefix: str, tmp_path: Path) -> None:
    """It is a state that says what to check, tried again for ever, and free of the password."""
    wrong = {**_GATEWAY, "password": "not-this-one"}
    settings = _kafka(secure_kafka.secure_bootstrap, secure_kafka.ca_file, sasl_mechanism="PLAIN", **wrong)
    async with journal(tmp_path) as log:
        publisher = Publisher(log, KafkaOptions.of(settings, Topics(prefix=prefix)))
        await publisher.start()
        await until(lambda: publisher.state.word == AUTHENTICATION)
        assert "not-this-one" not in publisher.state.reason
        await publisher.stop()


@pytest.mark.kafka
async def test_an_authority_that_is_not_trusted(secure_kafka: Cluster, prefix: str) -> None:
    """Without the authority's certificate no connection is made, and no password sent."""
    settings = Kafka.model_validate(
        {
            "bootstrap_servers": secure_kafka.secure_bootstrap,
            "security": {"protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", **_GATEWAY},
        }
    )
    log = KafkaLog(KafkaOptions.of(settings, Topics(prefix=prefix)))
    with pytest.raises(Transient):
        await log.browse("g", ["sms.dr"])
    await log.stop()


@pytest.mark.kafka
async def test_rights_that_are_missing_are_named_and_waited_for(
    secure_kafka: Cluster, prefix: str, tmp_path: Path
) -> None:
    """Refused, the topic is named and its events wait; when the right is granted they follow by themselves."""
    plain = KafkaOptions((secure_kafka.bootstrap,), prefix=prefix, partitions=2)
    await topics.create(plain, [TOPIC, "call.event"])
    settings = _kafka(
        secure_kafka.secure_bootstrap,
        secure_kafka.ca_file,
        sasl_mechanism="PLAIN",
        username=security.STRANGER,
        password=security.STRANGER_PASSWORD,
    )
    options = KafkaOptions.of(settings, Topics(prefix=prefix))
    await asyncio.to_thread(_grant, secure_kafka.bootstrap, prefix + "call.event", AclOperation.WRITE)
    await asyncio.to_thread(_grant, secure_kafka.bootstrap, prefix + TOPIC, AclOperation.DESCRIBE)
    async with journal(tmp_path) as log:
        publisher = Publisher(log, options, writer_policy=WriterPolicy(stalled_s=0.5, look_s=0.1))
        await publisher.start()
        given = [event(n, f"key-{n % 10}") for n in range(100)]
        await log.append([*given, event(1000, "k", "call.event")])
        await until(lambda: publisher.state.word == AUTHORISATION)
        assert list(publisher.state.problems) == [TOPIC]
        await asyncio.to_thread(_grant, secure_kafka.bootstrap, prefix + TOPIC, AclOperation.WRITE)
        await published(publisher)
        assert publisher.state.is_ready
        await publisher.stop()
    result = compare(given, await stored(plain))
    assert (result.missing, result.invented, result.out_of_order, result.repeated) == (0, 0, [], 0)


def _grant(bootstrap: str, topic: str, operation: AclOperation) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    binding = AclBinding(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        f"User:{security.STRANGER}",
        "*",
        operation,
        AclPermissionType.ALLOW,
    )
    for made in admin.create_acls([binding]).values():
        made.result(30)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"protocol": "SASL_SSL"}, "needs sasl_mechanism"),
        ({"protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"}, "needs username and password"),
        ({"protocol": "SSL", "sasl_mechanism": "PLAIN", **_GATEWAY}, "needs protocol SASL_SSL or SASL_PLAINTEXT"),
        ({"protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}, "needs oauth"),
        ({"ca_file": "ca.pem"}, "need protocol SSL or SASL_SSL"),
        (
            {"protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER", "oauth": {"token_url": "https://x"}},
            "needs client_id",
        ),
        ({"protocol": "TLS"}, "'PLAINTEXT', 'SSL'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given: dict[str, Any], said: str) -> None:
    """Each is refused before anything connects, with a sentence on what is missing."""
    with pytest.raises(ValidationError, match=said) as found:
        Kafka.model_validate({"bootstrap_servers": "localhost:9092", "security": given})
    assert all(error["loc"][0] == "security" for error in found.value.errors())


def test_a_certificate_file_that_is_missing_is_named_with_its_key(tmp_path: Path) -> None:
    """The sentence names the key and the file."""
    settings = Kafka.model_validate(
        {"bootstrap_servers": "localhost:9092", "security": {"protocol": "SSL", "ca_file": str(tmp_path / "no.pem")}}
    )
    with pytest.raises(ConfigError, match=r"kafka\.security\.ca_file: .*no\.pem cannot be used"):
        KafkaOptions.of(settings)
