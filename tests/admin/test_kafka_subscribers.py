"""With Kafka: a subscriber that is added at one machine is delivered by all, and Kafka away changes nothing."""

from __future__ import annotations

import asyncio
import base64
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.fanout.subscriber_store import TOPIC
from gateway.log.kafka import KafkaLog, KafkaOptions
from tests.admin.running import webhook
from tests.admin.test_kafka import Admin
from tests.broker.cluster import Cluster
from tests.gateway.process import GatewayProcess
from tests.gateway.subscriber import Subscriber
from tests.waiting import until

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(300)]

_PREFIX = "runtime."
_SECRET = "whsec_" + base64.b64encode(b"another one to look for, 32 byte").decode()


def _by_name(found: Any) -> dict[str, Any]:
    return {one["name"]: one for one in found["subscribers"]}


async def _started(bootstrap: str, folder: Path) -> dict[str, GatewayProcess]:
    """Three machines, by name: one that stores, and two that deliver."""
    machines = {}
    for name, command in (("in", "serve"), ("here", "fanout"), ("there", "fanout")):
        (folder / name).mkdir()
        config = {
            "kafka": {"bootstrap_servers": bootstrap, "partitions": 2, "instance_id": name},
            "topics": {"prefix": _PREFIX},
            "admin": {"port": 0, "secrets_key": base64.b64encode(bytes(32)).decode()},
        }
        machines[name] = GatewayProcess(folder / name, config, command)
    await asyncio.gather(*(machine.start() for machine in machines.values()))
    return machines


async def test_what_one_machine_adds_all_deliver(broker: Cluster, tmp_path: Path) -> None:
    """Within seconds, in each process; ``serve`` shows it and sends to ``fanout``; restarts keep it; Kafka away is 503.

    Two changes at the same moment from two machines end in the same subscriber on both.
    """
    machines = await _started(broker.bootstrap, tmp_path)
    async with aiohttp.ClientSession() as session, Subscriber() as receiver:
        serve, here, there = (Admin(session, machine.admin_url) for machine in machines.values())
        await asyncio.gather(
            *(one.until("/api/subscribers", lambda found: not found["subscribers"]) for one in (here, there))
        )
        crm = webhook("crm", receiver.url, secrets=[_SECRET])
        assert "gateway fanout" in (await serve.post("/api/subscribers", crm, 409))["error"]
        await _posted(here, crm)
        for other in (there, serve):  # the first write creates the topic, which followers look for every five seconds
            found = await other.until("/api/subscribers", lambda found: "crm" in _by_name(found))
            assert "api" == _by_name(found)["crm"]["source"]
        await _patched(here, {"concurrency": 7})
        asked = time.monotonic()
        for other in (there, serve):
            await other.until("/api/subscribers", lambda found: _by_name(found)["crm"].get("concurrency") == 7)
        # It is pushed: followers look by themselves every five seconds only.
        assert time.monotonic() - asked < 4.0
        for number in range(20):
            form = {"messageid": f"m-{number}", "phone": "6281234567890", "result": "DELIVRD", "status": "1"}
            async with session.post(f"{machines['in'].url}/callbacks/sms-dr", data=form) as response:
                assert 200 == response.status
        await receiver.until(lambda: len(receiver.ids) == 20)
        assert "webhook-signature" in {name.lower() for name in receiver.headers[0]}

        await asyncio.gather(*(_patched(one, {"concurrency": 2 + number}) for number, one in enumerate((here, there))))

        async def agree() -> bool:
            one, other = [await admin.get("/api/subscribers/crm") for admin in (here, there)]
            return bool(one["etag"] == other["etag"] and one["settings"] == other["settings"])

        await until(agree, within_s=20)

        assert 0 == await machines["there"].terminate()
        await _patched(here, {"concurrency": 9})
        await machines["there"].start()
        there = Admin(session, machines["there"].admin_url)
        await there.until("/api/subscribers", lambda found: _by_name(found).get("crm", {}).get("concurrency") == 9)

        broker.node(1).kill()
        await here.until("/api/overview", lambda found: not found["kafka"]["is_ready"])
        refused = (await here.post("/api/subscribers", webhook("late", receiver.url), 503))["error"]
        assert "nothing was changed" in refused
        broker.node(1).start()
        await asyncio.gather(*(one.until("/api/overview", _is_ready) for one in (here, there)))
        for one in (here, there):
            assert ["crm"] == list(_by_name(await one.get("/api/subscribers")))
        await _posted(there, webhook("late", receiver.url))
        await here.until("/api/subscribers", lambda found: "late" in _by_name(found))
        actions = [one["action"] for one in (await here.get("/api/audit"))["records"]]
        assert ["add", *["set"] * 4, "add"] == actions
    values = await _values(broker)
    assert values
    assert not any(_SECRET.encode() in value or receiver.url.encode() in value for value in values)
    assert [0, 0, 0] == [await machine.terminate() for machine in machines.values()]


def _is_ready(found: Any) -> bool:
    return bool(found["kafka"]["is_ready"])


async def _posted(admin: Admin, body: dict[str, Any]) -> None:
    """Once the process knows what is stored."""

    async def look() -> bool:
        async with admin.session.post(admin.url + "/api/subscribers", json=body) as response:
            assert response.status in (201, 503), await response.text()
            return response.status == 201

    await until(look, look_s=0.2)


async def _patched(admin: Admin, patch: dict[str, Any]) -> None:
    async with admin.session.patch(admin.url + "/api/subscribers/crm", json=patch) as response:
        assert response.status == 200, await response.text()


async def _values(broker: Cluster) -> list[bytes]:
    """What stands in the topics of the gateway's own about subscribers."""
    log = KafkaLog(KafkaOptions((broker.bootstrap,), prefix=_PREFIX, partitions=2), creates=None)
    await log.start()
    found: list[bytes] = []
    for topic in (TOPIC, "fanout.audit", "fanout.state"):
        reader = await log.browse("test", [topic], start="earliest")
        ends = await reader.ends()
        async with asyncio.timeout(60):
            while any(at < ends[partition] for partition, at in (await reader.positions()).items()):
                found += [record.value for record in await reader.fetch(max_records=500, wait_s=1.0)]
        await reader.close()
    await log.stop()
    return found
