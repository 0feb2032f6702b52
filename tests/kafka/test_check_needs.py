"""What ``gateway check`` asks for is what the gateway uses: with these rights, and no others, all of it works."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from gateway.app import App, Role
from gateway.cli.checking import needs_of
from gateway.config.settings import Settings
from gateway.fanout import retry_records, subscriber_state
from gateway.log.kafka import KafkaLog, KafkaOptions, topics
from gateway.log.kafka.diagnosis import diagnose
from tests.broker import security
from tests.broker.cluster import Cluster
from tests.fanout.receiver import Receiver, status
from tests.kafka.test_check import grant
from tests.log.contract import read


def configuration(**more: Any) -> Settings:
    return Settings.model_validate(
        {
            "ingest": {"port": 0, "workers": 1},
            "admin": {"port": 0},
            "kafka": {"bootstrap_servers": "127.0.0.1:9092"},
            "subscribers": [
                {"name": "billing", "topics": ["sms.dr", "shop.order"], "url": "https://example.com/"},
                {"name": "screen", "topics": ["call.event"], "kind": "stream"},
            ],
            **more,
        }
    )


def used(settings: Settings, role: Role) -> dict[str, set[str]]:
    return {need.name: set(need.operations) for need in needs_of(settings, role).topics}


def test_each_role_needs_what_it_uses() -> None:
    """``serve`` writes events, ``fanout`` reads those of its subscribers and has its own topics, ``run`` does both."""
    serve, fanout, both = (used(configuration(), role) for role in ("serve", "fanout", "run"))
    assert ({"WRITE"}, {"READ"}, {"READ", "WRITE"}) == (serve["sms.dr"], fanout["sms.dr"], both["sms.dr"])
    assert ("shop.order" in serve, {"READ"}) == (False, fanout["shop.order"])
    assert {"READ"} == fanout["call.event"]
    assert "email.dr" not in fanout
    assert {"READ", "WRITE"} == serve[subscriber_state.TOPIC] == fanout[subscriber_state.TOPIC]
    assert serve.keys() | fanout.keys() == both.keys()
    assert [] == list(needs_of(configuration(), "serve").groups)
    assert "gateway.billing" in needs_of(configuration(), "fanout").groups
    assert not any("screen" in name for name in (*both, *needs_of(configuration(), "run").groups))


def test_topics_of_others_are_not_ours_and_states_are_compacted() -> None:
    """What the creation of topics does, and what the check expects, are one list."""
    found = {need.name: need for need in needs_of(configuration(), "run").topics}
    assert (True, False) == (found["sms.dr"].is_ours, found["shop.order"].is_ours)
    assert topics.COMPACTED == {name for name, need in found.items() if need.holds == "latest"}
    assert "subscribers[0].topics[1]" == found["shop.order"].path


def test_a_record_waits_in_its_retry_topic_until_the_next_one_would_take_it() -> None:
    """Or, in the last one, for the longest wait that there is."""
    found = {need.name: need.longest_wait_s for need in needs_of(configuration(), "run").topics}
    tiers = [found[retry_records.retry_topic(tier)] for tier in (60.0, 600.0, 3600.0)]
    assert [600.0, 3600.0, 21600.0] == tiers
    assert 0.0 == found["sms.dr"]


@pytest.mark.kafka
async def test_the_rights_that_are_asked_for_are_enough(secure_kafka: Cluster, prefix: str, tmp_path: Path) -> None:
    """A callback is taken, published, delivered, retried and given up by a user who has them and no others."""
    async with Receiver(status(400)) as receiver:
        settings = configuration(
            journal={"dir": str(tmp_path)},
            topics={"prefix": prefix},
            kafka={
                "bootstrap_servers": secure_kafka.secure_bootstrap,
                "partitions": 1,
                "security": {
                    "protocol": "SASL_SSL",
                    "sasl_mechanism": "PLAIN",
                    "ca_file": str(secure_kafka.ca_file),
                    "username": security.STRANGER,
                    "password": security.STRANGER_PASSWORD,
                },
            },
            subscribers=[
                {
                    "name": "billing",
                    "topics": ["sms.dr"],
                    "url": receiver.url,
                    "allow_private": True,
                    "start": "earliest",
                    "retry": {"attempts": 2, "first_delay_s": 1, "max_delay_s": 1, "tiers": [0.001]},
                }
            ],
        )
        needs = needs_of(settings, "run")
        await asyncio.to_thread(_grant_all, secure_kafka, prefix, settings)
        assert settings.kafka is not None
        found = await diagnose(KafkaOptions.of(settings.kafka, settings.topics), needs, 10.0)
        assert [] == [one for one in found if one.level == "problem"]
        app = App(settings)
        await app.start()
        url = f"http://127.0.0.1:{app.ingest.port}/callbacks/sms-dr?messageid=1&to=6281200000000&status=0"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert 200 == response.status
        await receiver.until(lambda: len(receiver.posts) == 2, within_s=90)
        everyone = KafkaLog(KafkaOptions((secure_kafka.bootstrap,), prefix=prefix, partitions=1))
        async with asyncio.timeout(60):
            letters = await everyone.browse("look", [retry_records.dlq_topic("billing")], start="earliest")
            (letter,) = await read(letters, 1)
        await app.stop()
        await everyone.stop()
    assert receiver.posts[0].id == receiver.posts[1].id == letter.id


def _grant_all(cluster: Cluster, prefix: str, settings: Settings) -> None:
    needs = needs_of(settings, "run")
    for need in needs.topics:
        for operation in (*need.operations, *(["CREATE"] if need.is_ours else [])):
            grant(cluster, ResourceType.TOPIC, prefix + need.name, AclOperation[operation])
    for group in needs.groups:
        grant(cluster, ResourceType.GROUP, prefix + group, AclOperation.READ)
