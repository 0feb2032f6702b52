"""Each row of the table "HTTP in" of the contract, over a real socket."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import zlib

import orjson
import pytest

from gateway.errors import JournalFull
from gateway.log import Entry
from gateway.log.journal import EVENTS, Retention
from tests.ingest.conftest import Serve, read_reply, request_bytes

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
DR = (
    b"result=DELIVRD&size=2&phone=15550100200&rate=7.05&price=0.031&messageid=0f1e2d3c4b5a69788796a5b4c3d2e1f0"
    b"&drtime=2024-01-02 03:04:09&currency=USD&sendtime=2024-01-02 03:04:05&status=2&ext=order-42"
)
TASK = (
    b'{"callbackType":1,"userTaskID":"ut-0001","taskID":"t-9001","sceneID":"sc-77","taskStatus":3,"createTs":1735000000,'
    b'"taskStat":{"answerOrderCount":6,"finishOrderCount":10,"totalOrderCount":10,"finishRate":1.0,"totalAnswerCall":6,'
    b'"totalCall":14,"answerRate":0.43}}'
)
TASK_HEADERS = {
    **JSON,
    "requestID": "5f0c1d2e3a4b4c5d8e9f001122334455",
    "createTs": "1735000300",
    "uuid": "demoUuid0001",
    "sign": "06B5259CBC9DC3432952C6DB1CB30FDD",
}
SIGNED = {"callbot-task": {"auth": {"signature": {"secret": "demoSecretKey0001", "algorithm": "md5"}}}}
NXLINK = b'{"callId":"7b1e0c52","callee":"15550100200","caller":"15550100100","direction":1,"endTime":1735000019000}'


async def test_accepted_is_answered_in_the_vendors_words_and_stored_before(serve: Serve) -> None:
    """200 and ``success`` for SMS; the event is in the journal when the answer is here."""
    gateway = await serve()
    reply = await gateway.post("/callbacks/sms-dr", DR, FORM)
    assert (200, b"success") == (reply.status, reply.body)
    (event,) = await gateway.events()
    assert ("nxcloud.sms.dr", "0f1e2d3c4b5a69788796a5b4c3d2e1f0") == (event["type"], event["subject"])
    assert event["data"]["raw"]["drtime"] == "2024-01-02 03:04:09"


async def test_callbot_is_answered_with_signed_json(serve: Serve) -> None:
    """``retCode`` 0, the request's id and account echoed, and a signature over the answer's own body."""
    gateway = await serve(callbacks=SIGNED)
    reply = await gateway.post("/callbacks/callbot-task", TASK, TASK_HEADERS)
    assert (200, 0) == (reply.status, orjson.loads(reply.body)["retCode"])
    assert TASK_HEADERS["requestID"] == reply.headers["requestid"]
    text = (
        b"demoSecretKey0001&body=" + reply.body + b"&createTs=" + reply.headers["createts"].encode()
        + b"&requestID=" + TASK_HEADERS["requestID"].encode() + b"&uuid=demoUuid0001"
    )  # fmt: skip
    assert hashlib.md5(text).hexdigest().upper() == reply.headers["sign"]
    (event,) = await gateway.events()
    assert ("nxcloud.callbot.task", "completed") == (event["type"], event["data"]["status"])


async def test_other_families_are_answered_with_code_0(serve: Serve) -> None:
    gateway = await serve()
    reply = await gateway.post("/callbacks/nxlink-call", NXLINK, JSON)
    assert (200, {"code": 0, "message": "success"}) == (reply.status, orjson.loads(reply.body))


async def test_repeat_is_answered_the_same_and_stored_once(serve: Serve) -> None:
    """Also when both arrive at the same time, and when one has its fields in the query."""
    gateway = await serve()
    query = "/callbacks/sms-dr?" + DR.decode().replace(" ", "%20")
    replies = await asyncio.gather(
        *(gateway.post("/callbacks/sms-dr", DR, FORM) for _ in range(8)), gateway.post(query), gateway.post(query)
    )
    assert {(200, b"success")} == {(reply.status, reply.body) for reply in replies}
    assert len(await gateway.stored()) == 1


async def test_repeat_past_the_window_is_stored_again_with_the_same_id(serve: Serve) -> None:
    gateway = await serve(dedup_window=2)
    for number in (1, 2, 3, 4, 5, 1):
        await gateway.post("/callbacks/sms-dr", DR.replace(b"order-42", b"order-%d" % number), FORM)
    ids = [record.id for record in await gateway.stored()]
    assert len(ids) == 6
    assert ids[0] == ids[5]


@pytest.mark.parametrize(
    ("path", "body", "headers", "failure"),
    [
        ("/callbacks/sms-dr", DR.replace(b"messageid", b"msgid"), FORM, b"error"),
        ("/callbacks/nxlink-call", b'{"callId": "x"', JSON, None),
        ("/callbacks/whatsapp", b'{"something": "else"}', JSON, None),
    ],
    ids=["identifying field missing", "not the declared format", "unknown shape"],
)
async def test_not_understood_is_400_and_kept_whole(
    serve: Serve, path: str, body: bytes, headers: dict[str, str], failure: bytes | None
) -> None:
    """The vendor's failure body; the request, with the reason, goes to ``callbacks.rejected``; credentials do not."""
    gateway = await serve(callbacks={path.rpartition("/")[2]: {"auth": {"token": "s3cret-token"}}})
    reply = await gateway.post(
        path + "?token=s3cret-token&x=1", body, {**headers, "Authorization": "Bearer s3cret-token"}
    )
    assert reply.status == 400
    if failure is not None:
        assert failure == reply.body
    else:
        assert orjson.loads(reply.body)["code"] != 0
    (record,) = await gateway.stored()
    assert record.topic == "callbacks.rejected"
    assert b"s3cret-token" not in record.value
    data = orjson.loads(record.value)["data"]
    assert (body.decode(), "POST", path, "x=1") == (data["body"], data["method"], data["path"], data["query"])
    assert data["reason"]


async def test_unknown_codes_unknown_fields_and_absent_optional_fields_are_accepted_and_kept(serve: Serve) -> None:
    gateway = await serve()
    reply = await gateway.post("/callbacks/sms-dr", b"messageid=m-1&status=77&brandnew=1", FORM)
    assert (200, b"success") == (reply.status, reply.body)
    (event,) = await gateway.events()
    assert {"messageid": "m-1", "status": "77", "brandnew": "1"} == event["data"]["raw"]
    assert ("unknown", "77") == (event["data"]["status"], event["data"]["status_code"])


@pytest.mark.parametrize(
    ("callbacks", "target", "headers", "body", "status"),
    [
        ({"sms-dr": {"auth": {"token": "right"}}}, "/callbacks/sms-dr?token=wrong", FORM, DR, 401),
        ({"sms-dr": {"auth": {"token": "right"}}}, "/callbacks/sms-dr", FORM, DR, 401),
        ({"sms-dr": {"auth": {"allow_ips": ["203.0.113.0/24"]}}}, "/callbacks/sms-dr", FORM, DR, 403),
        (SIGNED, "/callbacks/callbot-task", {**TASK_HEADERS, "sign": "0" * 32}, TASK, 401),
        (SIGNED, "/callbacks/callbot-task", JSON, TASK, 401),
        (SIGNED, "/callbacks/callbot-task", TASK_HEADERS, TASK.replace(b"1.0", b"1"), 401),
    ],
    ids=["wrong token", "no token", "wrong address", "wrong signature", "no signature", "other bytes"],
)
async def test_wrong_credentials_are_refused_and_never_stored(
    serve: Serve,
    capsys: pytest.CaptureFixture[str],
    callbacks: dict[str, object],
    target: str,
    headers: dict[str, str],
    body: bytes,
    status: int,
) -> None:
    """401 or 403 with the failure body; nothing of the payload in the log."""
    gateway = await serve(callbacks=callbacks)
    reply = await gateway.post(target, body, headers)
    assert status == reply.status
    assert b"success" not in reply.body
    assert not await gateway.stored()
    captured = capsys.readouterr()
    assert "15550100200" not in captured.out + captured.err
    assert "t-9001" not in captured.out + captured.err


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/callbacks/sms-dr?token=right", {}),
        ("/callbacks/sms-dr/right", {}),
        ("/callbacks/sms-dr/right/", {}),
        ("/callbacks/sms-dr", {"Authorization": "Bearer right"}),
        ("/callbacks/sms-dr", {"token": "right"}),
    ],
    ids=["query", "path", "path and slash", "bearer", "header"],
)
async def test_right_token_opens_wherever_it_stands_and_is_never_stored(
    serve: Serve, target: str, headers: dict[str, str]
) -> None:
    gateway = await serve(callbacks={"sms-dr": {"auth": {"token": "right"}}})
    assert (await gateway.post(target, DR, {**FORM, **headers})).status == 200
    (record,) = await gateway.stored()
    assert b"right" not in record.value


async def test_forwarded_address_counts_behind_a_trusted_proxy_only(serve: Serve) -> None:
    auth = {"sms-dr": {"auth": {"allow_ips": ["203.0.113.7"]}}}
    forwarded = {**FORM, "X-Forwarded-For": "203.0.113.7"}
    trusting = await serve(callbacks=auth, trusted_proxies=["127.0.0.0/8"])
    assert (await trusting.post("/callbacks/sms-dr", DR, forwarded)).status == 200
    trusts_nobody = await serve(callbacks=auth)
    assert (await trusts_nobody.post("/callbacks/sms-dr", DR, forwarded)).status == 403


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_too_large_is_413_and_the_connection_ends(serve: Serve, encoding: str) -> None:
    """Also for a small body that unfolds to a large one."""
    gateway = await serve(max_body_bytes=10_000)
    body = b"ext=" + b"x" * 2_000_000
    headers = dict(FORM)
    if encoding == "gzip":
        body = gzip.compress(body)
        headers["Content-Encoding"] = "gzip"
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(
        request_bytes("POST", b"/callbacks/sms-dr", body[:20_000], {**headers, "Content-Length": str(len(body))})
    )
    reply = await read_reply(reader)
    assert (413, b"error") == (reply.status, reply.body)
    writer.close()
    assert not await gateway.stored()


_CALL = b'{"callId":"c-1","fromPhone":"+15550100200"}'


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (gzip.compress(_CALL), "gzip"),
        (gzip.compress(_CALL[:9]) + gzip.compress(_CALL[9:]), "GZip"),
        (zlib.compress(_CALL), "deflate"),
        (zlib.compress(_CALL)[2:-4], "deflate"),
        (_CALL, "gzip"),
        (_CALL, "identity"),
        (_CALL, "br"),
    ],
    ids=[
        "gzip",
        "two members",
        "deflate",
        "bare deflate",
        "only said to be gzip",
        "identity",
        "only said to be brotli",
    ],
)
async def test_compressed_bodies(serve: Serve, body: bytes, coding: str) -> None:
    """Unfolded; where only the header says so, the body counts."""
    gateway = await serve()
    assert (await gateway.post("/callbacks/nxlink-call", body, {"Content-Encoding": coding})).status == 200
    (event,) = await gateway.events()
    assert event["data"]["raw"] == orjson.loads(_CALL)


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (gzip.compress(_CALL * 9)[:-9], "gzip"),
        (gzip.compress(_CALL) + b"garbage", "gzip"),
        (gzip.compress(b"") * 100 + gzip.compress(_CALL), "gzip"),
        (b"\x0b\x02\x80" + _CALL[:3], "br"),
    ],
    ids=["cut", "garbage behind it", "members without end", "brotli"],
)
async def test_a_body_that_does_not_unfold_is_kept_as_it_came(serve: Serve, body: bytes, coding: str) -> None:
    """400 with the vendor's failure body; the request in ``callbacks.rejected``, as all that is not understood."""
    gateway = await serve()
    reply = await gateway.post("/callbacks/nxlink-call", body, {"Content-Encoding": coding})
    assert (reply.status, orjson.loads(reply.body)["code"]) == (400, 400)
    (event,) = await gateway.events()
    assert base64.b64decode(event["data"]["body_base64"]) == body
    assert event["data"]["headers"]["content-encoding"] == coding


async def test_slow_body_is_408_and_slow_head_is_closed(serve: Serve) -> None:
    """A sender that dribbles holds a connection for ``read_timeout`` at the most."""
    gateway = await serve(read_timeout=0.2)
    reply = await gateway.raw(request_bytes("POST", b"/callbacks/sms-dr", DR, FORM)[:-5])
    assert reply.status == 408
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"POST /callbacks/sms-dr HTTP/1.1\r\nHost: test\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"POST /callb")
    assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
    writer.close()
    assert not await gateway.stored()


async def test_wrong_method_is_405_and_unknown_path_404(serve: Serve) -> None:
    gateway = await serve()
    reply = await gateway.raw(request_bytes("DELETE", b"/callbacks/sms-dr"))
    assert (405, "GET, POST") == (reply.status, reply.headers["allow"])
    assert (await gateway.raw(request_bytes("GET", b"/callbacks/nxlink-call"))).status == 405
    assert (await gateway.raw(request_bytes("GET", b"/callbacks/sms-dr?" + DR.replace(b" ", b"+")))).status == 200
    for target in (b"/", b"/callbacks/", b"/callbacks/none", b"/callbacks/sms-dr/more", b"//callbacks/sms-dr"):
        assert (await gateway.raw(request_bytes("POST", target, DR, FORM))).status == 404
    assert ["sms.dr", *["callbacks.rejected"] * 4] == [record.topic for record in await gateway.stored()]


async def test_full_journal_is_503_with_retry_after_and_accepts_again_once_there_is_room(serve: Serve) -> None:
    gateway = await serve(retention=Retention(1024 * 1024, 3600.0, protected="publisher"))
    await gateway.journal.cursors.load("publisher", ["sms.dr"], [EVENTS], start="earliest")
    for size in (8000, 10):
        with pytest.raises(JournalFull):
            for number in range(1000):
                await gateway.journal.append([Entry("sms.dr", "k", f"{number:032x}", b"x" * size)])
    reply = await gateway.post("/callbacks/sms-dr", DR, FORM)
    assert (503, b"error") == (reply.status, reply.body)
    assert int(reply.headers["retry-after"]) >= 1
    gateway.journal.cursors.commit("publisher", EVENTS, gateway.journal.head(EVENTS))
    await gateway.journal.flush()
    assert (await gateway.post("/callbacks/sms-dr", DR, FORM)).status == 200


async def test_closed_journal_is_503(serve: Serve) -> None:
    """What cannot be stored is never answered with success."""
    gateway = await serve()
    await gateway.journal.stop()
    reply = await gateway.post("/callbacks/callbot-task", TASK, TASK_HEADERS)
    assert reply.status == 503
    assert orjson.loads(reply.body)["retCode"] != 0
    assert int(reply.headers["retry-after"]) >= 1


async def test_whatsapp_with_several_items_is_one_unit(serve: Serve) -> None:
    """Two statuses in one callback are two events in one answer; sent again, none is stored twice."""
    gateway = await serve()
    statuses = [{"id": f"wamid.{n}", "status": "read", "timestamp": "1735000010", "recipient_id": "1"} for n in (1, 2)]
    body = orjson.dumps({"statuses": statuses, "business_phone": "15550100100"})
    for _ in range(2):
        assert (await gateway.post("/callbacks/whatsapp", body, JSON)).status == 200
    assert ["wamid.1", "wamid.2"] == [event["subject"] for event in await gateway.events()]
