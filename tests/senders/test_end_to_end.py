"""Through the whole gateway: one verifies another's deliveries, and what came to an unknown path is decoded again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from gateway.callbacks.signature import general_signature
from gateway.event import from_json
from tests.admin.running import Running, running, webhook
from tests.admin.test_commands import run
from tests.senders.samples import SECRETS, documented, documented_callbacks

SECRET = SECRETS["OTHER_GATEWAY_SECRET"]
FORM = {"messageid": "m-1", "phone": "6281234567890", "result": "DELIVRD", "status": "1"}


async def events(gateway: Running, topic: str, count: int = 1) -> list[dict[str, Any]]:
    """The events of a topic as they are in the journal, as soon as there are so many."""
    journal = gateway.app.journal
    reader = await journal.browse(f"test-{topic}", [topic], start="earliest")
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            found += [orjson.loads(record.value) for record in await reader.fetch(max_records=10, wait_s=1)]
    await reader.close()
    return found


async def test_one_gateway_verifies_anothers_deliveries(tmp_path: Path) -> None:
    """With the documented section: the event of the first is the raw of the second's, with type, time, subject."""
    section = documented_callbacks()["other-gateway"]
    (tmp_path / "b").mkdir()
    (tmp_path / "a").mkdir()
    async with running(tmp_path / "b", ingest={"callbacks": {"other-gateway": section}}) as second:
        url = f"{second.ingest_url}/callbacks/other-gateway"
        to_second = webhook("second", url, secrets=[SECRET])
        forger = webhook("forger", url, secrets=["whsec_" + "c2VjcmV0" * 4])
        async with running(tmp_path / "a", subscribers=[to_second, forger]) as first:
            assert 200 == await first.sms(1, drtime="2024-01-02 03:04:05")
            (sent,) = await events(first, "sms.dr")
            (got,) = await events(second, "other.events")
            refused = await first.until("/api/dead-letters", lambda found: found["letters"], subscriber="forger")
            assert "401" in orjson.dumps(refused["letters"]).decode()
    assert sent == got["data"]["raw"]
    assert (sent["type"], sent["time"], sent["subject"], sent["partitionkey"]) == tuple(
        got[name] for name in ("type", "time", "subject", "partitionkey")
    )
    assert ("/callbacks/other-gateway", "other.events") == (got["source"], "other.events")
    assert got["id"] != sent["id"]


@pytest.mark.parametrize("name", sorted(documented().callbacks))
async def test_a_body_is_sent_as_its_sender_would(tmp_path: Path, name: str) -> None:
    """``gateway send NAME --body FILE`` signs for each documented section, and knows the word for success."""
    body = next(Path(__file__).parent.glob(f"{name}/[!u]*/body"))
    section = documented_callbacks()
    async with running(tmp_path, ingest={"callbacks": section}) as gateway:
        config = {"ingest": {"callbacks": section, "port": gateway.app.ingest.port}}
        (tmp_path / "send.yaml").write_text(yaml.safe_dump(config))
        sent = await run(tmp_path / "send.yaml", "send", name, "--body", str(body))
        assert 0 == sent.exit_code, sent.output
        assert 1 <= len(await events(gateway, section[name]["topic"]))
        assert 2 == (await run(tmp_path / "send.yaml", "send", name)).exit_code


async def replayed(gateway: Running, **more: object) -> dict[str, Any]:
    found: dict[str, Any] = await gateway.post("/api/rejected/replay", {"callback": "unknown-path", **more})
    return found


async def test_a_request_to_an_unknown_path_is_decoded_again(tmp_path: Path) -> None:
    """As the callback that is named, if its path is open or has accepted the request; else only on demand."""
    callbacks = {"sms-dr": {"auth": {"token": "token-of-sms"}}}
    async with running(tmp_path, ingest={"callbacks": callbacks}) as gateway:
        for number, headers in enumerate(({}, {"token": "token-of-sms"})):
            form = {**FORM, "messageid": f"m-{number}"}
            url = f"{gateway.ingest_url}/callbacks/smsdr"
            async with gateway.session.post(url, data=form, headers=headers) as response:
                assert 404 == response.status
        await gateway.indexed()
        unnamed = await replayed(gateway)
        assert (0, 2) == (unnamed["decoded"], unnamed["still_rejected"])
        assert ["unknown-path: its path is unknown; say with --as which callback it is, perhaps /callbacks/sms-dr"] == [
            *unnamed["reasons"]
        ]
        assert "0 paths are configured for nope" in str((await replayed(gateway, **{"as": "nope"}))["reasons"])
        one = await replayed(gateway, **{"as": "sms-dr"})
        assert (1, 1, 1) == (one["decoded"], one["events"], one["still_rejected"])
        assert "did not show what /callbacks/sms-dr asks for" in str(one["reasons"])
        (event,) = await events(gateway, "sms.dr")
        assert "m-1" == event["subject"]
        both = await replayed(gateway, unauthenticated=True, **{"as": "/callbacks/sms-dr"})
        assert (2, 1, 1) == (both["decoded"], both["events"], both["already_stored"])
        url, form = f"{gateway.ingest_url}/callbacks/sms-dr", {**FORM, "messageid": "m-0"}
        async with gateway.session.post(url, data=form, headers={"token": "token-of-sms"}) as response:
            assert 200 == response.status
        assert ["m-1", "m-0"] == [event["subject"] for event in await events(gateway, "sms.dr", 2)]


async def test_it_is_decoded_by_what_was_signed(tmp_path: Path) -> None:
    """A path with a signature decodes nothing of the request but what its signature covers, here as elsewhere."""
    auth = {"signature": {"secret": "s3cret"}}
    async with running(tmp_path, ingest={"callbacks": {"did-sms": {"auth": auth}}}) as gateway:
        body = b'{"messageId":"m-1","toPhone":"1","fromPhone":"2","content":"x"}'
        sign = general_signature("s3cret", access_key="k", action="dr", biz_type="4", ts="1", body=body)
        headers = {"accessKey": "k", "action": "dr", "bizType": "4", "ts": "1", "sign": sign}
        url = f"{gateway.ingest_url}/callbacks/did_sms?messageId=EVIL"
        async with gateway.session.post(url, data=body, headers=headers) as response:
            assert 404 == response.status
        async with gateway.session.post(url, data=body.replace(b"m-1", b"m-2"), headers=headers) as response:
            assert 404 == response.status
        await gateway.indexed()
        done = await replayed(gateway, **{"as": "did-sms"})
        assert (1, 1, 1) == (done["decoded"], done["events"], done["still_rejected"])
        (event,) = await events(gateway, "sms.dr")
        assert ("nxcloud.did.dr", "m-1") == (event["type"], event["subject"])


async def test_a_path_that_is_configured_since(tmp_path: Path) -> None:
    """Without a name the request's own path counts, once it is known."""
    async with running(tmp_path) as gateway:
        response = await gateway.session.post(f"{gateway.ingest_url}/callbacks/hong-kong", data=FORM)
        assert 404 == response.status
    paths = {"path": "/callbacks/hong-kong", "account": "hk"}
    async with running(tmp_path, ingest={"callbacks": {"sms-dr": paths}}) as gateway:
        await gateway.indexed()
        done = await replayed(gateway)
        assert (1, 1) == (done["decoded"], done["events"])
        (event,) = await events(gateway, "sms.dr")
        assert "hk" == event["account"]
        assert "sms.dr" == from_json(orjson.dumps(event), "sms.dr").topic


@pytest.mark.parametrize("body", [{"as": 7}, {"unauthenticated": "yes"}])
async def test_bad_questions(tmp_path: Path, body: dict[str, object]) -> None:
    """A wrong type is the asker's fault."""
    async with running(tmp_path) as gateway:
        assert (await gateway.post("/api/rejected/replay", body, 400))["error"]
