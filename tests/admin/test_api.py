from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest

from gateway.callbacks import CALLBACKS, Callback, CallbackRequest, DecodeContext, Decoded
from gateway.callbacks.signature import general_signature
from gateway.event import from_json
from tests.admin.running import Running, running
from tests.gateway.subscriber import Subscriber, accept


async def first_event(gateway: Running, text: str) -> str:
    await gateway.indexed()
    return str((await gateway.get("/api/search", q=text))["events"][0]["id"])


async def given_up(gateway: Running, count: int) -> list[dict[str, object]]:
    found = await gateway.until("/api/dead-letters", lambda found: len(found["letters"]) >= count, subscriber="broken")
    return list(found["letters"])


async def test_overview_tells_everything_that_the_first_look_needs(gateway: Running) -> None:
    """Rates, quantiles, journal, topics, subscribers with state, lag, success share and last error; points."""
    for number in range(20):
        await gateway.sms(number)
    await gateway.sms(99, messageid="")
    await given_up(gateway, 20)
    found = await gateway.until(
        "/api/overview",
        lambda found: (
            any(one["outcomes"].get("accepted", 0) >= 20 for one in found["intake"]["callbacks"])
            and found["subscribers"][1]["last_error"]
            and found["subscribers"][0]["p99"]
            and found["subscribers"][0]["lag"] == 0
            and found["subscribers"][1]["dead_letters"] == 20
            and found["subscribers"][1]["success_share"] is not None
            and any(topic["name"] == "sms.dr" for topic in found["topics"])
        ),
    )
    assert (found["role"], found["mode"], found["ready"], found["kafka"]) == ("run", "embedded", True, None)
    (callback,) = [one for one in found["intake"]["callbacks"] if one["name"] == "sms-dr"]
    assert callback["outcomes"]["accepted"] >= 20
    assert callback["outcomes"]["rejected"] >= 1
    assert callback["p99"] >= callback["p50"] > 0
    assert found["journal"]["records"] == 21
    assert found["journal"]["oldest_at"] <= found["now"]
    billing, broken, picky, feed = found["subscribers"]
    assert (billing["state"], billing["success_share"], billing["lag"], billing["last_error"]) == (
        "healthy",
        1,
        0,
        None,
    )
    assert (broken["last_error"]["result"], broken["success_share"], broken["dead_letters"]) == ("422", 0, 20)
    assert "it refuses this event" in broken["last_error"]["sentence"]
    assert (broken["state"], broken["reason"].startswith("20 dead letters are open;")) == ("degraded", True)
    assert (picky["state"], feed["state"], feed["is_here"]) == ("healthy", None, True)
    names = {name for point in found["points"] for name in point["values"]}
    assert {"callback:sms-dr:rate", "intake:all:p99", "topic:sms.dr:rate", "subscriber:billing:delivered"} <= names
    later = await gateway.get("/api/overview", since=found["points"][-1]["at"])
    assert all(point["at"] > found["points"][-1]["at"] for point in later["points"])


async def test_search_by_anything_and_page_by_page(gateway: Running) -> None:
    for number in range(7):
        await gateway.sms(number)
    await gateway.send("voice-dr", 2)
    await gateway.indexed()
    assert len((await gateway.get("/api/search", q="0812 3456 7890"))["events"]) == 7
    assert [one["subject"] for one in (await gateway.get("/api/search", q="M-3"))["events"]] == ["m-3"]
    assert {one["callback"] for one in (await gateway.get("/api/search", callback="voice-dr"))["events"]} == {
        "voice-dr"
    }
    first = await gateway.get("/api/search", topic="sms.dr", limit=4)
    second = await gateway.get("/api/search", topic="sms.dr", limit=4, before=first["next"])
    assert [one["subject"] for one in first["events"] + second["events"]] == [f"m-{n}" for n in range(6, -1, -1)]
    assert second["next"] is None
    (event,) = (await gateway.get("/api/search", q="m-0"))["events"]
    assert event["fields"]["to"] == "+6281234567890"


async def test_story_of_an_event(gateway: Running, well: Subscriber) -> None:
    """Received, stored, answered; delivered, given up after each attempt, left out by a filter, and why."""
    await gateway.sms(1)
    event_id = await first_event(gateway, "m-1")
    await given_up(gateway, 1)
    story = await gateway.until(
        f"/api/events/{event_id}", lambda story: all(len(one["attempts"]) for one in story["subscribers"][:2])
    )
    assert (story["answered"]["status"], story["published"]) == (200, {"state": "no_kafka"})
    assert story["event"]["data"]["raw"]["messageid"] == "m-1"
    billing, broken, picky, feed = story["subscribers"]
    assert (billing["outcome"], [one["result"] for one in billing["attempts"]]) == ("delivered", ["200"])
    assert broken["outcome"] == "dead_lettered"
    assert [(one["number"], one["outcome"]) for one in broken["attempts"]] == [(1, "retried"), (2, "dead_lettered")]
    assert broken["dead_letter"]["reason"] == "attempts"
    assert (picky["outcome"], picky["filter"]) == ("skipped", {"exact": {"type": "no.such"}})
    assert picky["why"].startswith("its filter.exact.type leaves this event out")
    assert (feed["name"], feed["outcome"]) == ("feed", "fetched")


async def test_stories_that_there_are_not(gateway: Running) -> None:
    for event_id, status in (("0" * 32, 404), ("nonsense", 400), ("g" * 32, 400)):
        assert (await gateway.get(f"/api/events/{event_id}", status))["error"]


async def test_pause_and_resume(gateway: Running, well: Subscriber) -> None:
    """What comes while a subscriber is paused waits, is told as waiting, and comes when it is resumed."""
    assert (await gateway.post("/api/subscribers/billing/pause", {}))["state"] == "paused"
    await gateway.sms(1)
    event_id = await first_event(gateway, "m-1")
    story = await gateway.get(f"/api/events/{event_id}")
    assert (story["subscribers"][0]["outcome"], "paused" in story["subscribers"][0]["why"]) == ("waiting", True)
    assert well.ids == {}
    assert (await gateway.post("/api/subscribers/billing/resume", {}))["state"] != "paused"
    await gateway.until("/api/subscribers", lambda found: found["subscribers"][0]["state"] == "healthy")
    await well.until(lambda: event_id in well.ids)
    assert (await gateway.post("/api/subscribers/nobody/pause", {}, 404))["error"]


async def test_dead_letters_are_listed_shown_and_replayed(gateway: Running, refusing: Subscriber) -> None:
    """After the subscriber was mended, what was given up goes out again, chosen by id or by reason."""
    for number in range(3):
        await gateway.sms(number)
    letters = await given_up(gateway, 3)
    assert {(one["reason"], one["attempts"], one["last_status"]) for one in letters} == {("attempts", 2, "422")}
    assert (await gateway.get("/api/dead-letters", subscriber="broken", reason="age"))["letters"] == []
    shown = await gateway.get(f"/api/dead-letters/broken/{letters[0]['id']}")
    assert (shown["event"]["id"], len(shown["steps"])) == (letters[0]["id"], 2)
    assert (await gateway.get(f"/api/dead-letters/billing/{letters[0]['id']}", 404))["error"]
    refusing.behave = accept
    by_reason = {"subscriber": "broken", "from_dlq": True, "reasons": ["attempts"]}
    counted = await gateway.post("/api/replay", {**by_reason, "dry_run": True})
    assert (counted["events"], refusing.ids) == (3, {})
    one = {"subscriber": "broken", "from_dlq": True, "ids": [letters[1]["id"]]}
    job = await gateway.post("/api/replay", one, 202)
    ended = await gateway.until(f"/api/replays/{job['number']}", lambda job: job["state"] != "running")
    assert (ended["state"], ended["events"], ended["stored"]) == ("done", 1, 1)
    await refusing.until(lambda: dict(refusing.ids) == {letters[1]["id"]: 1})
    assert refusing.headers[-1]["gateway-replay"] == "true"
    assert (await gateway.get("/api/replays"))["replays"][0]["number"] == job["number"]


async def test_replay_from_the_log_by_id_time_and_type(gateway: Running, well: Subscriber) -> None:
    for number in range(5):
        await gateway.sms(number)
    await well.until(lambda: len(well.ids) == 5)
    event_id = await first_event(gateway, "m-2")
    for selection, count in (
        ({"ids": [event_id]}, 1),
        ({"since": 0}, 5),
        ({"since": 0, "types": ["no.such"]}, 0),
        ({"since": 1e10}, 0),
    ):
        counted = await gateway.post("/api/replay", {"subscriber": "billing", "dry_run": True, **selection})
        assert counted["events"] == count
    filtered = {"subscriber": "picky", "since": 0, "dry_run": True}
    assert (await gateway.post("/api/replay", filtered))["events"] == 0
    assert (await gateway.post("/api/replay", {**filtered, "all": True}))["events"] == 5
    await gateway.post("/api/replay", {"subscriber": "billing", "ids": [event_id]}, 202)
    await well.until(lambda: well.ids[event_id] == 2)


async def test_replays_that_cannot_be(gateway: Running) -> None:
    """A misspelt or missing selection replays nothing, and the answer names what is wrong."""
    billing = {"subscriber": "billing"}
    for body, status in (
        (billing, 400),
        ({**billing, "since": "yesterday"}, 400),
        ({**billing, "since": 0, "sinse": 1}, 400),
        ({**billing, "since": 0, "rate": 0}, 400),
        ({**billing, "since": 0, "reasons": ["age"]}, 400),
        ({"subscriber": "nobody", "since": 0}, 404),
        ({"subscriber": "feed", "since": 0}, 409),
        ([], 400),
    ):
        assert (await gateway.post("/api/replay", body, status))["error"]


async def test_rejected_callbacks_are_decoded_again(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a fix the same request becomes its event, with the id it would have had, however often it is asked."""
    assert await gateway.sms(1, messageid="") == 400
    assert await gateway.sms(2) == 200
    await gateway.indexed()
    listed = await gateway.get("/api/rejected", callback="sms-dr")
    assert [one["fields"]["field"] for one in listed["rejected"]] == ["messageid"]
    assert (await gateway.get("/api/rejected", callback="voice-dr"))["rejected"] == []
    still = await gateway.post("/api/rejected/replay", {})
    assert (still["looked_at"], still["decoded"], still["still_rejected"]) == (1, 0, 1)
    fixed = _fix(gateway, monkeypatch)
    dry = await gateway.post("/api/rejected/replay", {"dry_run": True})
    assert (dry["decoded"], dry["events"]) == (1, 1)
    assert (await gateway.get("/api/search", q=fixed))["events"] == []
    done = await gateway.post("/api/rejected/replay", {"callback": "sms-dr"})
    assert (done["decoded"], done["events"], done["already_stored"]) == (1, 1, 0)
    await gateway.indexed()
    (event,) = (await gateway.get("/api/search", q=fixed))["events"]
    assert event["topic"] == "sms.dr"
    again = await gateway.post("/api/rejected/replay", {})
    assert (again["decoded"], again["events"], again["already_stored"]) == (1, 0, 1)


async def test_a_signed_request_is_decoded_again_by_what_was_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its signature, which was not kept; its query counts as little as before, its signed action as much."""
    auth = {"signature": {"secret": "s3cret"}}
    paths = [{"auth": auth}, {"path": "/second", "timezone": "UTC", "auth": auth}]
    async with running(tmp_path, ingest={"callbacks": {"did-sms": paths}}) as gateway:
        body = b'{"messageId":"","toPhone":"1","fromPhone":"2","receiveTime":"2025-01-02 03:04:05"}'
        sign = general_signature("s3cret", access_key="k", action="dr", biz_type="4", ts="1", body=body)
        headers = {"accessKey": "k", "action": "dr", "bizType": "4", "ts": "1", "sign": sign}
        url = f"{gateway.ingest_url}/second?messageId=EVIL&receiveTime=2000-01-01"
        async with gateway.session.post(url, data=body, headers=headers) as response:
            assert response.status == 400
        await gateway.indexed()
        still = await gateway.post("/api/rejected/replay", {})
        assert (still["looked_at"], still["decoded"], still["still_rejected"]) == (1, 0, 1)
        ordinary = type(CALLBACKS["did-sms"]).decode

        def decode(self: Callback, request: CallbackRequest, context: DecodeContext) -> Decoded:
            assert (b"", {"accesskey", "action", "biztype", "ts"}) == (request.query, set(request.headers))
            mended = request.body.replace(b'"messageId":""', b'"messageId":"mended"')
            return ordinary(self, request._replace(body=mended), context)

        monkeypatch.setattr(type(CALLBACKS["did-sms"]), "decode", decode)
        done = await gateway.post("/api/rejected/replay", {})
        assert (done["decoded"], done["events"]) == (1, 1)
        await gateway.indexed()
        assert (await gateway.get("/api/search", q="EVIL"))["events"] == []
        (event,) = (await gateway.get("/api/search", q="mended"))["events"]
        assert ("sms.dr", "nxcloud.did.dr") == (event["topic"], event["type"])
        stored = (await gateway.get(f"/api/events/{event['id']}"))["event"]
        assert "2025-01-02T03:04:05.000000Z" == stored["data"]["sent_at"]


def _fix(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> str:
    """A later version that understands receipts without a message id; what the event is then about."""

    endpoint = next(one for one in gateway.app._parts.endpoints or () if one.callback.name == "sms-dr")
    ordinary = type(endpoint.callback).decode

    def decode(self: object, request: object, context: object) -> Decoded:
        mended = request._replace(body=request.body.replace(b"messageid=&", b"messageid=mended&"))  # type: ignore[attr-defined,type-var]
        return ordinary(self, mended, context)  # type: ignore[arg-type]

    monkeypatch.setattr(type(endpoint.callback), "decode", decode)
    return "mended"


async def lines(response: object, wanted: int) -> list[tuple[str, bytes]]:
    """The next server-sent events: name and data."""
    found: list[tuple[str, bytes]] = []
    name = ""
    async with asyncio.timeout(20):
        async for line in response.content:  # type: ignore[attr-defined]
            if line.startswith(b"event: "):
                name = line[7:].decode().strip()
            elif line.startswith(b"data: "):
                found.append((name, line[6:].strip()))
                if len(found) == wanted:
                    break
    return found


async def test_live_tail_shows_what_is_wanted_as_it_comes(gateway: Running) -> None:
    """Whole events, or briefly; filtered by topic, type and callback; nothing from before."""
    await gateway.sms(0)
    url = f"{gateway.url}/api/events"
    async with (
        gateway.session.get(url, params={"topic": "sms.dr"}) as whole,
        gateway.session.get(url, params={"brief": "1", "callback": "voice-dr"}) as brief,
    ):
        assert whole.headers["Content-Type"] == "text/event-stream"
        assert (await whole.content.readline(), await brief.content.readline()) == (b": connected\n",) * 2
        await gateway.sms(1)
        await gateway.send("voice-dr", 1)
        await gateway.sms(2)
        (first, second), ((name, data),) = await lines(whole, 2), await lines(brief, 1)
    assert [from_json(value).subject for _, value in (first, second)] == ["m-1", "m-2"]
    assert (first[0], name, orjson.loads(data)["callback"]) == ("nxcloud.sms.dr", "event", "voice-dr")


async def test_stream_subscriber_is_read_and_resumed(gateway: Running) -> None:
    """A client that comes back with the last id gets what follows it."""
    for number in range(3):
        await gateway.sms(number)
    url = f"{gateway.url}/api/streams/feed"
    async with gateway.session.get(url) as response:
        block = await response.content.readuntil(b"\n\n")
        while not block.startswith(b"id: "):
            block = await response.content.readuntil(b"\n\n")
    last = block.split(b"\n")[0][4:].decode()
    async with gateway.session.get(url, headers={"Last-Event-ID": last}) as response:
        found = await lines(response, 2)
    assert [from_json(value).subject for _, value in found] == ["m-1", "m-2"]
    async with gateway.session.get(url, headers={"Last-Event-ID": "nonsense"}) as response:
        assert response.status == 400
    assert (await gateway.get("/api/streams/billing", 404))["error"]


async def test_open_streams_do_not_hold_up_the_stop(gateway: Running) -> None:
    async with gateway.session.get(f"{gateway.url}/api/events") as response:
        await response.content.readline()
        async with asyncio.timeout(5):
            await gateway.app.stop()


async def test_what_is_unknown_is_told_as_json(gateway: Running) -> None:
    assert (await gateway.get("/api/nothing", 404))["error"]
    assert (await gateway.get("/api/replay", 405))["error"]
    assert (await gateway.get("/api/search", 400, limit="many"))["error"]
    assert (await gateway.get("/api/dead-letters", 404, subscriber="nobody"))["error"]
