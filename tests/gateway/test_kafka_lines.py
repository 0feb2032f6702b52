"""What the log of a gateway with Kafka says, and what it does not: a first start, and the broker away for a while."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from gateway.app import App
from gateway.callbacks import CALLBACKS
from gateway.config.settings import Settings
from gateway.log.kafka import outage
from gateway.log.kafka.errors import AWAY
from tests.broker.cluster import Cluster
from tests.gateway.process import GatewayProcess
from tests.gateway.subscriber import Subscriber
from tests.waiting import until

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(300)]
_TOKEN = "a-token"


def _config(cluster: Cluster, receiver: Subscriber, subscribers: int) -> dict[str, Any]:
    """All paths ask for a token: one that is open is warned of at each start."""
    return {
        "kafka": {"bootstrap_servers": cluster.bootstrap, "partitions": 2},
        "ingest": {"port": 0, "workers": 1, "callbacks": {name: {"auth": {"token": _TOKEN}} for name in CALLBACKS}},
        "log": {"format": "json", "level": "info"},
        "subscribers": [
            {
                "name": f"s{number}",
                "topics": ["sms.dr"],
                "url": receiver.url,
                "allow_private": True,
                "start": "earliest",
            }
            for number in range(subscribers)
        ],
    }


async def _send(address: str, number: int) -> None:
    form = {"messageid": f"m{number}", "phone": "15550100200", "status": "2", "result": "DELIVRD"}
    headers = {"Authorization": f"Bearer {_TOKEN}"}
    url = f"{address}/callbacks/sms-dr"
    async with aiohttp.ClientSession() as session, session.post(url, data=form, headers=headers) as response:
        assert response.status == 200, await response.text()


def _loud(gateway: GatewayProcess) -> list[dict[str, Any]]:
    return [line for line in gateway.lines if line.get("level") not in {"info", "debug"}]


async def test_a_first_start_on_a_fresh_cluster_warns_of_nothing(broker: Cluster, tmp_path: Path) -> None:
    """Nor does the stop: no line above info from anybody, while topics and groups come into being."""
    async with Subscriber() as receiver:
        gateway = GatewayProcess(tmp_path, _config(broker, receiver, 3))
        await gateway.start()
        try:
            await _send(gateway.url, 1)
            await receiver.until(lambda: sum(receiver.ids.values()) >= 3, 90)
        finally:
            assert await gateway.terminate() == 0
    assert _loud(gateway) == []


async def test_an_outage_is_one_line_at_its_begin_one_a_period_and_one_at_its_end(
    broker: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With five subscribers and a publisher: lines grow with time, and not with the clients."""
    monkeypatch.setattr(outage, "OUTAGES", outage.OutageLog(every_s=5.0))
    async with Subscriber() as receiver:
        config = _config(broker, receiver, 5)
        config |= {"journal": {"dir": str(tmp_path / "data")}, "admin": {"port": 0}}
        app = App(Settings.model_validate(config))
        await app.start()
        try:
            address = f"http://127.0.0.1:{app.ingest.port}"
            await _send(address, 1)
            await receiver.until(lambda: sum(receiver.ids.values()) >= 5, 90)
            caplog.clear()
            with capture_logs() as lines:
                await asyncio.to_thread(broker.node(1).stop)
                await _send(address, 2)  # the publisher notices at once, the readers when they look
                await _count(lines, "kafka.still_unavailable", 4)
                await asyncio.to_thread(broker.node(1).start)
                await receiver.until(lambda: sum(receiver.ids.values()) >= 10, 90)
                await _count(lines, "kafka.available", 1)
        finally:
            await app.stop()
    loud = [line for line in lines if line["log_level"] in {"warning", "error"}]
    counts = Counter(line["event"] for line in loud)
    assert counts.pop("kafka.still_unavailable") >= 4
    assert counts == {"kafka.unavailable": 1}
    begin, *_, last = loud
    (end,) = [line for line in lines if line["event"] == "kafka.available"]
    assert (begin["event"], begin["word"], end["word"]) == ("kafka.unavailable", AWAY, AWAY)
    assert begin["client"]
    assert begin["advice"]
    assert last["words"] == {AWAY: last["clients"]}
    met = max(line["clients"] for line in loud[1:])
    assert met >= 2  # the one reading of all subscribers, and the publisher
    assert end["clients"] >= met
    assert end["lasted_s"] >= 20
    assert len(loud) <= 2 + end["lasted_s"] / 5
    assert caplog.records == []


async def _count(lines: list[dict[str, Any]], event: str, count: int) -> None:
    """Wait for so many lines of this name: a log has no event for those who read it."""
    await until(lambda: sum(line["event"] == event for line in lines) >= count, within_s=90)
