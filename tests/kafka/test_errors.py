"""Each error has its word, and belongs to the client that met it: on real brokers with passwords, rights and quotas."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka import errors as aiokafka_errors
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from structlog.testing import capture_logs

from gateway.config.sections import Kafka, Topics
from gateway.errors import Transient
from gateway.log.kafka import GroupReader, KafkaLog, KafkaOptions, ReaderPolicy, StandaloneReader, topics
from gateway.log.kafka.errors import (
    AUTHENTICATION,
    AUTHORISATION,
    AWAY,
    CODEC,
    NOT_ENOUGH_REPLICAS,
    REFUSED,
    THROTTLED,
    UNKNOWN_TOPIC,
    UNREADABLE,
    WORDS,
    KafkaAway,
    problem_of,
)
from gateway.log.kafka.health import ClientHealth
from gateway.log.kafka.options import WriterPolicy
from gateway.publisher import Publisher
from gateway.telemetry.metrics import METRICS
from tests.broker import quotas, security
from tests.broker.cluster import Cluster
from tests.kafka.joined import GROUP, joined
from tests.kafka.traffic import TOPIC, event, journal, published
from tests.waiting import pause, until

_QUICK = ReaderPolicy(session_s=6.0, probe_s=0.5, request_s=5.0)
_IMPATIENT = WriterPolicy(stalled_s=1.0, look_s=0.1)


@pytest.mark.parametrize(
    ("exc", "word"),
    [
        (aiokafka_errors.SaslAuthenticationFailed("Invalid username or password"), AUTHENTICATION),
        (aiokafka_errors.UnsupportedSaslMechanismError(), AUTHENTICATION),
        (ssl.SSLCertVerificationError("self-signed certificate"), AUTHENTICATION),
        (aiokafka_errors.TopicAuthorizationFailedError("sms.dr"), AUTHORISATION),
        (aiokafka_errors.GroupAuthorizationFailedError("gateway.billing"), AUTHORISATION),
        (aiokafka_errors.NotEnoughReplicasError(), NOT_ENOUGH_REPLICAS),
        (aiokafka_errors.InvalidReplicationFactorError("3 > 1"), NOT_ENOUGH_REPLICAS),
        (aiokafka_errors.UnknownTopicOrPartitionError(), UNKNOWN_TOPIC),
        (aiokafka_errors.UnsupportedCodecError("snappy"), CODEC),
        (aiokafka_errors.CorruptRecordException(), UNREADABLE),
        (aiokafka_errors.MessageSizeTooLargeError(), REFUSED),
        (aiokafka_errors.KafkaConnectionError("Unable to bootstrap"), AWAY),
        (ConnectionRefusedError(111, "Connect call failed"), AWAY),
        (TimeoutError(), AWAY),
        (AssertionError(), AWAY),
    ],
)
def test_each_error_has_its_word(exc: Exception, word: str) -> None:
    """Also behind an error that says less; each word has an advice, and the sentence has all three parts."""
    assert problem_of(exc).word == word
    wrapped = aiokafka_errors.KafkaError("Unexpected error during coordination")
    wrapped.__cause__ = exc
    problem = problem_of(wrapped)
    assert problem.word == word
    assert str(problem) == f"{word}: {problem.text}; {WORDS[word]}"
    assert problem.text
    assert problem_of(KafkaAway(str(problem), problem)) == problem


def test_the_run_book_has_every_word_with_its_advice() -> None:
    """In the order in which they are shown."""
    text = (Path(__file__).parents[2] / "deploy/docs/operations.md").read_text()
    section = text.partition("## Kafka error words\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    assert [(word.strip("`"), advice) for word, _, advice in rows] == list(WORDS.items())


class _Client:
    def __init__(self) -> None:
        self.health = ClientHealth()


def test_a_vague_error_is_explained_by_what_its_own_client_met() -> None:
    """And not by what another one met; an address that works again explains nothing."""
    one, other = _Client(), _Client()
    one.health.failed("k1:9092", ConnectionRefusedError(111, "Connect call failed"))
    one.health.failed("k2:9092", aiokafka_errors.SaslAuthenticationFailed("Invalid username or password"))
    vague = aiokafka_errors.KafkaConnectionError("Unable to bootstrap")
    assert problem_of(vague, one).word == AUTHENTICATION
    assert problem_of(vague, one).text == "k2:9092: SaslAuthenticationFailed: Invalid username or password"
    assert problem_of(vague, other).word == AWAY
    one.health.connected("k2:9092")
    assert problem_of(vague, one) == (AWAY, "k1:9092: connection refused")
    one.health.connected("k1:9092")
    assert problem_of(vague, one) == problem_of(vague, other)


def _secure(cluster: Cluster, prefix: str, **more: Any) -> KafkaOptions:
    given = {"username": security.USER, "password": security.PASSWORD, "sasl_mechanism": "PLAIN", **more}
    settings = Kafka.model_validate(
        {
            "bootstrap_servers": cluster.secure_bootstrap,
            "partitions": 2,
            "security": {"protocol": "SASL_SSL", "ca_file": str(cluster.ca_file), **given},
        }
    )
    return KafkaOptions.of(settings, Topics(prefix=prefix))


async def _reading(
    reader: GroupReader | StandaloneReader, condition: Callable[[], bool], *, within_s: float = 60.0
) -> None:
    """Read, as a subscriber does, until something holds."""
    async with asyncio.timeout(within_s):
        while not condition():
            try:
                await reader.fetch(max_records=100, wait_s=0.2)
            except Transient:
                await pause(0.1, "a reader that tries again")


def _scram(cluster: Cluster, password: str) -> None:
    made = UserScramCredentialUpsertion(
        security.USER, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), password.encode()
    )
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    for one in admin.alter_user_scram_credentials([made]).values():
        one.result(30)


@pytest.mark.kafka
async def test_a_password_that_is_changed_while_connected(secure_kafka: Cluster, prefix: str, tmp_path: Path) -> None:
    """Publisher and reader say authentication, with address and advice; a client with another login does not."""
    options = _secure(secure_kafka, prefix, sasl_mechanism="SCRAM-SHA-256")
    log = KafkaLog(options, reader_policy=_QUICK)
    plain = KafkaLog(KafkaOptions((secure_kafka.bootstrap,), prefix=prefix))
    async with journal(tmp_path) as events:
        publisher = Publisher(events, options, writer_policy=_IMPATIENT)
        await publisher.start()
        await events.append([event(1, "k")])
        await published(publisher)
        reader = await joined(log, [TOPIC])
        other = await plain.browse("look", [TOPIC], start="earliest")
        await _reading(reader, lambda: reader.state.is_ready)
        await asyncio.to_thread(_scram, secure_kafka, "another-one")
        await asyncio.to_thread(secure_kafka.node(1).stop)
        await events.append([event(2, "k")])
        await asyncio.to_thread(secure_kafka.node(1).start)
        said: set[str] = set()
        watching = asyncio.create_task(_reading(other, lambda: bool(said.add(other.state.word))))
        await _reading(reader, lambda: reader.state.word == AUTHENTICATION)
        await until(lambda: publisher.state.word == AUTHENTICATION)
        for state in (reader.state, publisher.state):
            assert secure_kafka.secure_bootstrap in state.reason
            assert "check kafka.security" in state.reason
            assert security.PASSWORD not in state.reason
        await until(lambda: other.state.is_ready)
        watching.cancel()
        assert AUTHENTICATION not in said
        await asyncio.to_thread(_scram, secure_kafka, security.PASSWORD)
        await published(publisher)
        await _reading(reader, lambda: reader.state.is_ready)
        await publisher.stop()
    await log.stop()
    await plain.stop()


def _grant(cluster: Cluster, kind: ResourceType, name: str, operation: AclOperation) -> None:
    binding = AclBinding(
        kind, name, ResourcePatternType.LITERAL, f"User:{security.STRANGER}", "*", operation, AclPermissionType.ALLOW
    )
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    for made in admin.create_acls([binding]).values():
        made.result(30)


@pytest.mark.kafka
async def test_rights_to_read_that_are_missing(secure_kafka: Cluster, prefix: str) -> None:
    """Of the group, then of one topic: that one is named, the other is read, and both go on when they are granted."""
    plain = KafkaLog(KafkaOptions((secure_kafka.bootstrap,), prefix=prefix, partitions=1))
    await plain.start()
    await plain.append([event(1, "k"), event(2, "k", topic="call.event")])
    who = {"username": security.STRANGER, "password": security.STRANGER_PASSWORD}
    log = KafkaLog(_secure(secure_kafka, prefix, **who), reader_policy=_QUICK, creates=None)
    grant = lambda *what: asyncio.to_thread(_grant, secure_kafka, *what)  # noqa: E731
    for topic in (TOPIC, "call.event"):
        await grant(ResourceType.TOPIC, prefix + topic, AclOperation.DESCRIBE)
    await grant(ResourceType.TOPIC, prefix + "call.event", AclOperation.READ)
    with pytest.raises(KafkaAway) as refused:
        await joined(log, [TOPIC, "call.event"])
    assert refused.value.problem.word == AUTHORISATION
    assert GROUP in refused.value.problem.text
    for group in (GROUP, "gateway.billing"):
        await grant(ResourceType.GROUP, prefix + group, AclOperation.READ)
    reader = await joined(log, [TOPIC, "call.event"])
    await _reading(reader, lambda: TOPIC in reader.state.problems)
    assert reader.state.problems.keys() == {TOPIC}
    assert reader.state.word == AUTHORISATION
    assert _problems(GROUP, AUTHORISATION) == 1
    await grant(ResourceType.TOPIC, prefix + TOPIC, AclOperation.READ)
    await _reading(reader, lambda: reader.state.is_ready)
    assert _problems(GROUP, AUTHORISATION) is None
    await log.stop()
    await plain.stop()


def _problems(client: str, word: str) -> float | None:
    return METRICS.registry.get_sample_value("gateway_kafka_problems", {"client": client, "word": word})


@pytest.mark.kafka
async def test_a_replication_that_the_cluster_cannot_have(kafka: str, prefix: str) -> None:
    """Creating topics says so, with the topic."""
    with pytest.raises(KafkaAway, match=f"topic {prefix}sms.dr: {NOT_ENOUGH_REPLICAS}: ") as refused:
        await topics.create(KafkaOptions((kafka,), prefix=prefix, replication_factor=3), [TOPIC])
    assert refused.value.problem.word == NOT_ENOUGH_REPLICAS


@pytest.mark.kafka
async def test_a_topic_that_does_not_exist(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Where the gateway may not create it, it is named, and waited for."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=1, create_topics=False)
    async with journal(tmp_path) as events:
        publisher = Publisher(events, options, writer_policy=_IMPATIENT)
        await publisher.start()
        await events.append([event(1, "k")])
        await until(lambda: publisher.state.word == UNKNOWN_TOPIC)
        assert "kafka.create_topics" in publisher.state.reason
        await topics.create(options, [TOPIC])
        await published(publisher)
        await publisher.stop()


@pytest.mark.kafka
async def test_a_codec_that_is_not_installed(
    kafka: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The publisher names it and what to install, and publishes when it is there; see test_codecs for readers."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=1, compression="zstd")
    known = AIOKafkaProducer._COMPRESSORS
    async with journal(tmp_path) as events:
        publisher = Publisher(events, options, writer_policy=_IMPATIENT)
        with monkeypatch.context() as patch:
            patch.setattr(AIOKafkaProducer, "_COMPRESSORS", {**known, "zstd": (lambda: False, known["zstd"][1])})
            await publisher.start()
            await events.append([event(1, "k")])
            await until(lambda: publisher.state.word == CODEC)
            assert "zstd" in publisher.state.reason
            assert "cramjam" in publisher.state.reason
        await published(publisher)
        await publisher.stop()


@pytest.mark.kafka
async def test_a_quota_delays_and_is_no_outage(kafka: str, prefix: str, tmp_path: Path) -> None:
    """The delays are longer than a request may take; the publisher stays available, and says throttled once."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=1, client_id=f"{prefix}slow")
    await topics.create(options, [TOPIC])
    delays = METRICS.counter("gateway_kafka_throttled_seconds").labels("publisher")
    before = delays._value.get()
    with capture_logs() as logs:
        async with journal(tmp_path) as events:
            publisher = Publisher(events, options, writer_policy=_IMPATIENT)
            await publisher.start()
            await until(lambda: publisher.state.is_ready)
            await asyncio.to_thread(quotas.limit, kafka, options.client_id, producer_byte_rate=5_000.0)
            began = time.monotonic()
            unready = 0
            for number in range(4):
                await events.append([event(number * 100 + at, f"k{at}", filling=600) for at in range(100)])
                async with asyncio.timeout(120):
                    while await publisher.lag():
                        unready += not publisher.state.is_ready
                        await pause(0.02, "each look is counted")
            took_s = time.monotonic() - began
            assert publisher.state.word == THROTTLED
            assert "kafka-configs.sh" in publisher.state.reason
            await publisher.stop()
    assert unready == 0
    assert took_s > 12
    assert delays._value.get() - before > 12
    said = [line["event"] for line in logs if line["log_level"] == "warning"]
    assert said == ["kafka.throttled"]
