"""A gateway with a receiver of alerts: what goes wrong is told once, and that it is over."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from click.testing import CliRunner

from gateway.cli import main
from tests.admin.running import webhook
from tests.alerts.receivers import HttpReceiver, http_receiver
from tests.gateway.process import GatewayProcess
from tests.gateway.subscriber import Subscriber, accept, refuse
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)


async def broken(_: dict[str, Any]) -> int:
    return 500


def config(receiver: HttpReceiver, *subscribers: dict[str, Any]) -> dict[str, Any]:
    alert = {
        "name": "ops",
        "webhook": {"url": receiver.url},
        "thresholds": {"down_for": 1},
        "interval": 1,
        "resolve_after": 1,
    }
    return {"alerts": [alert], "subscribers": list(subscribers)}


async def sms(session: aiohttp.ClientSession, process: GatewayProcess, number: int) -> None:
    form = {"messageid": f"m-{number}", "phone": "6281234567890", "result": "DELIVRD", "status": "1"}
    async with session.post(f"{process.url}/callbacks/sms-dr", data=form) as response:
        assert response.status == 200


def told(receiver: HttpReceiver, rule: str, subject: str) -> list[str]:
    return [one["state"] for one in receiver.alerts if (one["rule"], one["subject"]) == (rule, subject)]


async def test_what_goes_wrong_is_told_once_and_so_is_its_end(tmp_path: Path) -> None:
    """Down and dead letters, also while the receiver fails at first; deliveries go on; the end of what ends."""
    async with (
        http_receiver() as receiver,
        Subscriber() as well,
        Subscriber(broken) as failing,
        Subscriber(refuse) as refusing,
        aiohttp.ClientSession() as session,
    ):
        receiver.status = 500
        breaker = {"min_attempts": 3, "first_open": 0.5, "max_open": 0.5}
        process = GatewayProcess(
            tmp_path,
            config(
                receiver,
                webhook("billing", well.url),
                webhook("warehouse", failing.url, breaker=breaker, retry={"attempts": 50, "first_delay_s": 0.1}),
                webhook("crm", refusing.url, breaker={"min_attempts": 100_000}),
            ),
        )
        await process.start()
        for number in range(5):
            await sms(session, process, number)
        await well.until(lambda: len(well.ids) == 5)
        line = await process.logged("alert.not_sent")
        assert (line["receiver"], "answered 500" in line["error"], "key=secret" in str(line)) == ("ops", True, False)
        assert receiver.refused
        await sms(session, process, 5)
        await well.until(lambda: len(well.ids) == 6)
        receiver.status = 200
        await receiver.until(lambda: bool(told(receiver, "subscriber_down", "warehouse")))
        await receiver.until(lambda: bool(told(receiver, "dead_letters", "crm")))
        failing.behave = accept
        await receiver.until(lambda: "resolved" in told(receiver, "subscriber_down", "warehouse"))
        assert told(receiver, "subscriber_down", "warehouse") == ["firing", "resolved"]
        assert told(receiver, "dead_letters", "crm") == ["firing"]
        assert {one["subject"] for one in receiver.alerts} == {"warehouse", "crm"}

        async def counted() -> bool:
            async with session.get(f"{process.admin_url}/metrics") as response:
                text = await response.text()
            wanted = ('gateway_alerts_firing{process="deliver",receiver="ops",rule="dead_letters"} 1.0',)
            failed = [line for line in text.splitlines() if line.startswith("gateway_alert_messages_total")]
            return all(line in text for line in wanted) and len(failed) == 2

        await until(counted, within_s=30)
        assert await process.terminate() == 0
        assert len([line for line in process.lines if line["event"] == "alert.not_sent"]) == 1
        assert (tmp_path / "data" / "callback-rhythms.json").exists()


async def test_receivers_follow_the_configuration(tmp_path: Path) -> None:
    """A new one needs no restart, changed settings repeat nothing that was told, one that is gone counts nothing."""

    async def applied(process: GatewayProcess, alerts: list[Any], count: int) -> None:
        process.config["alerts"] = alerts
        process.write()
        os.kill(process.pid, signal.SIGHUP)
        await process.logged("config.applied", count=count)

    async with http_receiver() as receiver, Subscriber(refuse) as crm, aiohttp.ClientSession() as session:
        given = config(receiver, webhook("crm", crm.url, breaker={"min_attempts": 100_000}))
        (alert,) = given.pop("alerts")
        process = GatewayProcess(tmp_path, given)
        await process.start()
        await sms(session, process, 1)
        await applied(process, [alert], 1)
        await receiver.until(lambda: told(receiver, "dead_letters", "crm") == ["firing"])
        other = alert | {"thresholds": {"down_for": 1, "dead_letters": 2}, "resolve_after": 0}
        await applied(process, [other], 2)
        await receiver.until(lambda: told(receiver, "dead_letters", "crm") == ["firing", "resolved"])
        await applied(process, [], 3)

        async def is_gone() -> bool:
            async with session.get(f"{process.admin_url}/metrics") as response:
                return 'gateway_alerts_firing{process="deliver",receiver="ops"' not in await response.text()

        await until(is_gone, within_s=30)
        assert not [line for line in process.lines if line["event"] == "config.restart_needed"]
        assert await process.terminate() == 0


async def test_the_command_sends_a_sample(tmp_path: Path) -> None:
    """Accepted, refused, and a name that there is not: each one sentence."""
    import asyncio

    path = tmp_path / "config.yaml"

    async def run(*arguments: str) -> tuple[int, str]:
        found = await asyncio.to_thread(CliRunner().invoke, main, ["alerts", "test", *arguments, "-c", str(path)])
        return found.exit_code, found.output

    async with http_receiver() as receiver:
        path.write_text(yaml.safe_dump(config(receiver)))
        assert await run("ops") == (0, "ops accepted the sample\n")
        assert [one["state"] for one in receiver.alerts] == ["test"]
        receiver.status = 403
        assert await run("ops") == (1, "Error: 127.0.0.1 answered 403\n")
        code, said = await run("opps")
        assert (code, "did you mean 'ops'?" in said) == (1, True)
