"""``/api/doctor/events`` and ``gateway doctor events``: what the platform changed is found with a sample."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import orjson
import yaml

from tests.admin.running import Running, running


async def callback_of(gateway: Running, name: str, **query: object) -> dict[str, Any]:
    found = await gateway.get("/api/doctor/events", callback=name, **query)
    (one,) = found["callbacks"]
    assert one["name"] == name
    return dict(one)


async def test_new_fields_and_codes_are_named_with_a_sample(gateway: Running) -> None:
    """Each label with its count, the newest event that has it, and what to do."""
    await gateway.sms(1, status="2")
    await gateway.sms(2, status="2", carrier="one")
    await gateway.sms(3, status="999", carrier="two")
    one = await callback_of(gateway, "sms-dr")
    assert (3, {"nxcloud.sms.dr": 3}, True) == (one["events"], one["types"], one["is_complete"])
    drift = {line["what"]: line for line in one["drift"]}
    assert {"field:carrier", "status:999"} == set(drift)
    assert (2, 1) == (drift["field:carrier"]["count"], drift["status:999"]["count"])
    story = await gateway.get(f"/api/events/{drift['field:carrier']['id']}")
    assert "two" == story["event"]["data"]["raw"]["carrier"]
    assert "data.raw has it" in drift["field:carrier"]["advice"]
    assert "unknown" in drift["status:999"]["advice"]


async def test_fields_that_never_come_are_named_once_there_are_enough_events(gateway: Running) -> None:
    """A handful of events says nothing about a field; twenty without it do."""
    for number in range(19):
        await gateway.sms(number)
    assert [] == (await callback_of(gateway, "sms-dr"))["never_seen"]
    await gateway.sms(19)
    fields = {line["field"] for line in (await callback_of(gateway, "sms-dr"))["never_seen"]}
    assert "ext" in fields
    assert fields.isdisjoint({"message_id", "to", "status", "result"})


async def test_rejected_callbacks_are_counted_by_reason(gateway: Running) -> None:
    """Beside the events of the same callback, with the id of the newest."""
    await gateway.sms(1)
    for number in (2, 3):
        await gateway.sms(number, messageid="", ext=str(number))
    one = await callback_of(gateway, "sms-dr")
    assert 1 == one["events"]
    (rejected,) = one["rejected"]
    assert (2, True) == (rejected["count"], rejected["reason"].startswith("messageid: "))
    assert 32 == len(rejected["id"])


async def test_platforms_own_traffic_has_nothing_new(gateway: Running) -> None:
    """Every callback that the simulator plays decodes again from what is stored, without drift."""
    await gateway.send_all(3)
    found = await gateway.get("/api/doctor/events")
    seen = [one for one in found["callbacks"] if one["events"]]
    assert len(seen) > 15
    assert {} == {one["name"]: one["drift"] for one in seen if one["drift"]}
    assert {} == {one["name"]: one["not_decoded_again"] for one in seen if one["not_decoded_again"]}


async def test_only_the_newest_of_many_events_are_looked_at(tmp_path: Path) -> None:
    """The work is bounded, and the answer says so."""
    async with running(tmp_path) as gateway:
        await gateway.send("email-dr", 1300)
        one = await callback_of(gateway, "email-dr")
    assert (False, True) == (one["is_complete"], 1000 <= one["events"] < 1300)


async def test_wrong_questions_are_refused(gateway: Running) -> None:
    """An unknown callback is named, and so is a time that is none."""
    assert "'sms'" in (await gateway.get("/api/doctor/events", 404, callback="sms"))["error"]
    assert "since" in (await gateway.get("/api/doctor/events", 400, since="x"))["error"]


async def test_command_prints_what_is_new(gateway: Running, tmp_path: Path) -> None:
    """A person sees the label, the count, the event's id and the callbacks that are silent."""
    await gateway.sms(1, carrier="one")
    await gateway.indexed()
    config = tmp_path / "empty.yaml"
    config.write_text(yaml.safe_dump({"journal": {"dir": str(tmp_path)}}))
    arguments = ("doctor", "events", "-c", str(config), "--admin", gateway.url)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert 0 == process.returncode
    said = out.decode()
    assert "field:carrier  1 times, in " in said
    assert "nothing came since" in said
    assert "voice-dr" in said.partition("nothing came since")[2]
    assert orjson.dumps("one") not in out
