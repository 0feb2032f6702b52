"""``gateway check`` and Kafka: each thing that can be wrong with a real cluster is told as what it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from gateway.config.sections import Kafka, Topics
from gateway.finding import Finding
from gateway.log.kafka import KafkaOptions, diagnosis, topics
from gateway.log.kafka.check_rules import Needs, TopicNeed
from gateway.log.kafka.diagnosis import diagnose
from tests.broker import security
from tests.broker.cluster import Cluster
from tests.broker.fixtures import make
from tests.kafka import tokens
from tests.kafka.tokens import TokenEndpoint
from tests.ports import free_port
from tests.waiting import until

pytestmark = pytest.mark.kafka

_READ, _WRITE = frozenset({"READ"}), frozenset({"WRITE"})
_NEEDS = Needs(
    [
        TopicNeed("sms.dr", "ingest.callbacks", _READ | _WRITE),
        TopicNeed("call.event", "ingest.callbacks", _WRITE),
        TopicNeed("shop.order", "subscribers[0].topics[1]", _READ, is_ours=False),
        TopicNeed("retry.60s", "subscribers[0].name", _READ | _WRITE, longest_wait_s=600.0),
        TopicNeed("fanout.state", "kafka", _READ | _WRITE, holds="latest"),
    ],
    ["gateway.billing"],
    largest_event_bytes=2 * 1024 * 1024,
)
_STRANGER = {"username": security.STRANGER, "password": security.STRANGER_PASSWORD}
_GATEWAY = {"username": security.USER, "password": security.PASSWORD}


async def look(options: KafkaOptions, needs: Needs = _NEEDS) -> list[Finding]:
    """What the check finds, in time."""
    began = time.monotonic()
    found = await diagnose(options, needs, 10.0)
    assert time.monotonic() - began < 11.0
    return found


def levels(found: Collection[Finding]) -> set[str]:
    return {one.level for one in found}


def told(found: Collection[Finding], level: str) -> list[str]:
    return [f"{one.path}: {one.text}; {one.advice}" for one in found if one.level == level]


def only(found: Collection[Finding], level: str) -> str:
    (one,) = told(found, level)
    return one


def secured(cluster: Cluster, prefix: str = "", **more: Any) -> KafkaOptions:
    given = {"protocol": "SASL_SSL", "ca_file": str(cluster.ca_file), "sasl_mechanism": "PLAIN", **_GATEWAY, **more}
    kafka = Kafka.model_validate(
        {
            "bootstrap_servers": given.pop("bootstrap", cluster.secure_bootstrap),
            "partitions": 1,
            "security": {name: value for name, value in given.items() if value is not None},
        }
    )
    return KafkaOptions.of(kafka, Topics(prefix=prefix))


def _servers(cluster: Cluster) -> tuple[str, ...]:
    return tuple(cluster.bootstrap.split(","))


async def test_a_sound_cluster_has_nothing_to_tell(three_nodes: Cluster, prefix: str) -> None:
    """Every broker answers under its advertised address, rights are there, settings are good, clocks agree."""
    kafka = {"bootstrap_servers": _servers(three_nodes)[0], "partitions": 2, "replication_factor": 3}
    options = KafkaOptions.of(Kafka.model_validate(kafka), Topics(prefix=prefix))
    await topics.create(options, [need.name for need in _NEEDS.topics])
    found = await look(options)
    assert [] == [one for one in found if one.level != "ok"]
    said = "\n".join(told(found, "ok"))
    assert all(f"broker {number} answers as" in said for number in (2, 3))
    assert "the rights are there on 5 of 5 topics and 1 of 1 groups" in said
    assert "the settings of 5 of 5 topics were checked" in said
    assert "the clock of Kafka's controller agrees" in said


async def test_nothing_is_changed_by_looking(broker: Cluster) -> None:
    """No topic is created, not even Kafka's own for offsets, and no group."""
    options = KafkaOptions((broker.bootstrap,), partitions=2)
    found = await look(options)
    assert {"ok", "warning"} == levels(found), found
    assert "the rights are there on 5 of 5 topics and 1 of 1 groups" in "\n".join(told(found, "ok"))
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    assert {} == (await asyncio.to_thread(admin.list_topics, timeout=30)).topics
    assert [] == (await asyncio.to_thread(lambda: admin.list_consumer_groups().result(30))).valid


_NO_LOGIN = {"sasl_mechanism": None, "username": None, "password": None}
_PLAIN = {"ca_file": None, **_NO_LOGIN}
_IN_CLEAR = {"protocol": "SASL_PLAINTEXT", "ca_file": None}
_OFFERED = "OAUTHBEARER, PLAIN, SCRAM-SHA-256"
#: Kind of mistake: whether it meets the secure listener, what is configured, and what is said.
_WRONG_WAYS: dict[str, tuple[bool, dict[str, Any], list[str]]] = {
    "plain to TLS": (
        True,
        {"protocol": "PLAINTEXT", **_PLAIN},
        ["speaks TLS, and kafka.security.protocol is PLAINTEXT; set it to SSL"],
    ),
    "login without TLS to TLS": (
        True,
        _IN_CLEAR,
        ["speaks TLS, and kafka.security.protocol is SASL_PLAINTEXT; set it to SASL_SSL"],
    ),
    "TLS to plain": (
        False,
        {"protocol": "SSL", **_PLAIN},
        ["speaks without TLS, and kafka.security.protocol is SSL; set it to PLAINTEXT"],
    ),
    "TLS and login to plain": (
        False,
        {},
        ["speaks without TLS, and kafka.security.protocol is SASL_SSL; set it to SASL_PLAINTEXT"],
    ),
    "no login": (
        True,
        {"protocol": "SSL", **_NO_LOGIN},
        ["asks for a login, and kafka.security.protocol is SSL; set it to SASL_SSL", f"out of {_OFFERED}"],
    ),
    "login to none": (
        False,
        _IN_CLEAR,
        ["accepts no login, and kafka.security.protocol is SASL_PLAINTEXT; set it to PLAINTEXT"],
    ),
    "mechanism": (
        True,
        {"sasl_mechanism": "SCRAM-SHA-512"},
        [f"does not accept the login by SCRAM-SHA-512; it accepts {_OFFERED}"],
    ),
    "password": (
        True,
        {"password": "not-this-one"},
        ["refuses the login by PLAIN: Authentication failed: Invalid username", "check kafka.security.username"],
    ),
    "password of SCRAM": (
        True,
        {"password": "not-this-one", "sasl_mechanism": "SCRAM-SHA-256"},
        ["refuses the login by SCRAM-SHA-256"],
    ),
    "authority": (
        True,
        {"ca_file": None},
        ["is not trusted: unable to get local issuer certificate; give its authority in kafka.security.ca_file"],
    ),
}


@pytest.mark.parametrize("mistake", list(_WRONG_WAYS))
async def test_each_wrong_way_to_speak_is_told_as_itself(secure_kafka: Cluster, mistake: str) -> None:
    """What the listener expects, what the configuration says, and what to set; no password in it."""
    is_secure, given, said = _WRONG_WAYS[mistake]
    bootstrap = secure_kafka.secure_bootstrap if is_secure else secure_kafka.bootstrap
    found = await look(secured(secure_kafka, bootstrap=bootstrap, **given))
    text = only(found, "problem")
    assert text.startswith("kafka.bootstrap_servers[0]: ")
    assert [part for part in said if part not in text] == [], text
    assert "not-this-one" not in str(found)
    assert "rights, settings and clock not checked: no broker can be asked" in only(found, "unknown")
    assert [] == told(found, "ok")


async def test_a_password_in_the_clear_is_a_warning(secure_kafka: Cluster) -> None:
    """Also where the login fails for another reason."""
    found = await look(secured(secure_kafka, protocol="SASL_PLAINTEXT", ca_file=None))
    assert "anyone on the path to Kafka can read the password or token; use SASL_SSL" in only(found, "warning")


async def test_tokens_that_are_not_given_or_not_accepted(secure_kafka: Cluster, tmp_path: Path) -> None:
    """The token endpoint's refusal is not the broker's."""
    nobody = {"username": None, "password": None, "sasl_mechanism": "OAUTHBEARER"}
    async with TokenEndpoint(security.USER) as endpoint:
        assert {"ok", "warning"} >= levels(await look(secured(secure_kafka, **nobody, oauth=endpoint.settings())))
        endpoint.status = 401
        found = await look(secured(secure_kafka, **nobody, oauth=endpoint.settings()))
        assert "no token for the login: " in only(found, "problem")
        assert "it answered 401" in only(found, "problem")
    old = tmp_path / "token"
    old.write_text(tokens.unsigned(security.USER, good_for_s=-60))
    found = await look(secured(secure_kafka, **nobody, oauth={"token_file": str(old)}))
    assert "refuses the login by OAUTHBEARER" in only(found, "problem")
    assert "check the token (kafka.security.oauth)" in only(found, "problem")


async def test_servers_that_are_not_there_and_one_that_is(kafka: str, prefix: str) -> None:
    """Each is told by its place; the one that answers is asked all the same."""
    options = KafkaOptions(("nobody.invalid:9092", f"127.0.0.1:{free_port()}", kafka), prefix=prefix, partitions=1)
    found = await look(options)
    first, second = told(found, "problem")
    assert first.startswith("kafka.bootstrap_servers[0]: the name nobody.invalid cannot be resolved")
    assert second.startswith("kafka.bootstrap_servers[1]: 127.0.0.1:")
    assert "cannot be reached: connection refused; nothing listens there" in second
    assert "the rights are there on 5 of 5 topics and 1 of 1 groups" in "\n".join(told(found, "ok"))


async def test_a_broker_that_hangs_is_told_in_time(broker: Cluster) -> None:
    """It takes connections, as its kernel does, and says nothing."""
    broker.node(1).suspend()
    found = await look(KafkaOptions((broker.bootstrap,)))
    broker.node(1).resume()
    assert "can be connected to and does not answer within 3 s" in only(found, "problem")


async def test_an_address_that_only_the_cluster_knows_and_positions_that_are_forgotten() -> None:
    """A broker that answers, and one that gives out an address that does not; neither keeps offsets for a day."""
    nowhere = free_port()
    made = make(is_started=False, extra={"offsets.retention.minutes": "60"})
    try:
        made.start()
        found = await look(KafkaOptions((made.bootstrap,)))
        assert "broker 1: offsets.retention.minutes is 60, less than a day" in only(found, "problem")
        made.stop()
        properties = made.node(1).folder / "server.properties"
        properties.write_text(properties.read_text() + f"advertised.listeners=PLAINTEXT://127.0.0.1:{nowhere}\n")
        made.start()
        found = await look(KafkaOptions((made.bootstrap,)))
    finally:
        made.remove()
    text = only(found, "problem")
    assert f"broker 1 is advertised as 127.0.0.1:{nowhere}, and events go there: " in text
    assert "connection refused" in text
    assert "or correct its advertised.listeners" in text
    assert any("offsets.retention.minutes and defaults not checked" in one for one in told(found, "unknown"))


async def test_rights_that_are_missing_are_named_one_by_one(secure_kafka: Cluster, prefix: str) -> None:
    """Nothing; then all but some; then all: each time exactly what is missing, by topic, group and cluster."""
    everyone = KafkaOptions((secure_kafka.bootstrap,), prefix=prefix, partitions=1)
    await topics.create(everyone, ["sms.dr", "call.event", "shop.order"])  # not retry.60s and fanout.state
    options = secured(secure_kafka, prefix, **_STRANGER)

    found = await look(options)
    problems = told(found, "problem")
    assert (
        f"kafka.security: topics {prefix}sms.dr, {prefix}retry.60s, {prefix}fanout.state: no right to READ and WRITE"
        in problems[0]
    )
    assert f"topic {prefix}call.event: no right to WRITE" in problems[1]
    assert f"topic {prefix}shop.order: no right to READ" in problems[2]
    assert f"group {prefix}gateway.billing: no right to READ; grant READ in Kafka" in problems[3]
    assert 4 == len(problems)
    assert any("its clock agrees with this machine's is not known" in one for one in told(found, "unknown"))
    assert any("grant DESCRIBE_CONFIGS on the cluster" in one for one in told(found, "unknown"))

    for topic in ("sms.dr", "call.event", "retry.60s", "fanout.state"):
        grant(secure_kafka, ResourceType.TOPIC, prefix + topic, AclOperation.WRITE)
    for topic in ("shop.order", "retry.60s", "fanout.state"):
        grant(secure_kafka, ResourceType.TOPIC, prefix + topic, AclOperation.READ)
    grant(secure_kafka, ResourceType.TOPIC, prefix + "fanout.state", AclOperation.CREATE)
    grant(secure_kafka, ResourceType.GROUP, prefix + "gateway.billing", AclOperation.DESCRIBE)
    found = await look(options)
    problems = told(found, "problem")
    assert f"kafka.security: topic {prefix}sms.dr: no right to READ; grant READ in Kafka" == problems[0]
    assert f"kafka.security: topic {prefix}retry.60s: not there, and no right to CREATE; grant CREATE" in problems[1]
    assert f"kafka.security: group {prefix}gateway.billing: no right to READ; grant READ in Kafka" == problems[2]
    assert 3 == len(problems)
    assert any(
        "settings not checked: the broker says TopicAuthorizationFailed" in one for one in told(found, "unknown")
    )

    grant(secure_kafka, ResourceType.TOPIC, prefix + "sms.dr", AclOperation.READ)
    grant(secure_kafka, ResourceType.TOPIC, prefix + "retry.60s", AclOperation.CREATE)
    grant(secure_kafka, ResourceType.GROUP, prefix + "gateway.billing", AclOperation.READ)
    found = await look(options)
    assert [] == told(found, "problem")
    assert "the rights are there on 5 of 5 topics and 1 of 1 groups, and to write once each" in "\n".join(
        told(found, "ok")
    )


def grant(cluster: Cluster, kind: ResourceType, name: str, operation: AclOperation) -> None:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    user = f"User:{security.STRANGER}"
    binding = AclBinding(kind, name, ResourcePatternType.LITERAL, user, "*", operation, AclPermissionType.ALLOW)
    for made in admin.create_acls([binding]).values():
        made.result(30)


async def test_settings_that_lose_events_are_told_by_topic(three_nodes: Cluster, prefix: str) -> None:
    """Compaction, retention below the wait, replicas that are not enough, sizes, partitions."""
    admin = AdminClient({"bootstrap.servers": three_nodes.bootstrap})
    wanted = {
        "sms.dr": (1, 3, {"cleanup.policy": "compact,delete", "min.insync.replicas": "2"}),
        "call.event": (2, 1, {"min.insync.replicas": "2", "max.message.bytes": str(4 * 1024**2)}),
        "shop.order": (2, 3, {"min.insync.replicas": "3", "max.message.bytes": str(4 * 1024**2)}),
        "retry.60s": (2, 3, {"retention.ms": "600000", "min.insync.replicas": "1", "max.message.bytes": "4194304"}),
        "fanout.state": (2, 3, {"retention.ms": "3600000", "min.insync.replicas": "2"}),
    }
    new = [NewTopic(prefix + name, count, factor, config=config) for name, (count, factor, config) in wanted.items()]
    for made in admin.create_topics(new).values():
        made.result(30)
    options = KafkaOptions(_servers(three_nodes), prefix=prefix, partitions=2, replication_factor=3)

    async def is_known() -> bool:
        return any("the settings of 5 of 5 topics" in one for one in told(await look(options), "ok"))

    await until(is_known, look_s=0.2)  # by the broker that is asked: the one that created them may be another
    found = await look(options)
    problems, warnings = "\n".join(told(found, "problem")), "\n".join(told(found, "warning"))
    for topic, said in (
        ("sms.dr", "cleanup.policy is compact,delete: only the last event of each key is kept"),
        ("call.event", "min.insync.replicas is 2 with 1 replicas: nothing can be written"),
        ("retry.60s", "retention.ms is 600000, and an event waits in it for up to 600 s: it is deleted before"),
        ("fanout.state", "cleanup.policy is delete, and retention.ms less than a day"),
    ):
        assert f"kafka.topic_config: topic {prefix}{topic}: {said}" in problems
    assert 4 == len(told(found, "problem"))
    for topic, said in (
        ("sms.dr", "1 partitions, fewer than the 2 that are configured"),
        ("sms.dr", "max.message.bytes is 1048588, and an event may have 2097152"),
        ("call.event", "one replica, and the cluster has 3 brokers"),
        ("shop.order", "min.insync.replicas is 3 with 3 replicas: writing stops when one broker is down"),
        ("retry.60s", "min.insync.replicas is 1 with 3 replicas"),
    ):
        assert f"topic {prefix}{topic}: {said}" in warnings
    assert 5 == len(told(found, "warning"))
    assert [] == told(found, "unknown")


async def test_topics_that_could_not_be_created_are_told_before(three_nodes: Cluster, prefix: str) -> None:
    """By what they would get: a replication factor that the cluster has no brokers for, or that its defaults refuse."""
    options = KafkaOptions(_servers(three_nodes), prefix=prefix, replication_factor=4)
    assert "kafka.replication_factor: is 4, and the cluster has 3 brokers" in only(await look(options), "problem")
    options = KafkaOptions(_servers(three_nodes), prefix=prefix, replication_factor=1)
    found = await look(options)
    assert "is 1, and new topics get min.insync.replicas 2: nothing could be written" in only(found, "problem")
    assert any("the events of a lost broker are lost; set it to 3" in one for one in told(found, "warning"))
    options = KafkaOptions(_servers(three_nodes), prefix=prefix, replication_factor=3, create_topics=False)
    assert "kafka.create_topics: topics " in only(await look(options), "problem")


async def test_a_topic_with_a_broker_away_is_told(three_nodes: Cluster, prefix: str) -> None:
    """Under-replicated warns; fewer in sync than are needed, or no leader, is a problem."""
    options = KafkaOptions((_servers(three_nodes)[0],), prefix=prefix, partitions=1, replication_factor=3)
    needs = Needs([TopicNeed("sms.dr", "ingest.callbacks", _WRITE)])
    await topics.create(options, ["sms.dr"])
    three_nodes.node(3).kill()

    async def is_told() -> bool:
        return any("has 2 of 3 replicas in sync" in one for one in told(await look(options, needs), "warning"))

    # A broker is fenced some seconds after its death, and nothing signals it to a client.
    await until(is_told, look_s=0.2)
    await asyncio.to_thread(three_nodes.node(3).start)


async def test_a_clock_that_is_off_is_measured(kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the millisecond of an answer, ahead or behind; this machine's clock is the one that is moved here."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=1)
    real = time.time
    for off_s, said in ((-90.0, "s ahead of this machine's"), (90.0, "s behind this machine's")):
        monkeypatch.setattr(diagnosis.time, "time", lambda off_s=off_s: real() + off_s)
        text = next(one for one in told(await look(options), "warning") if "clock" in one)
        assert said in text
        assert 85.0 < float(text.partition(" is ")[2].partition(" s ")[0]) <= 90.1
