"""Requests that were captured and changed, over real sockets: they make no other event than the first one."""

from __future__ import annotations

import gzip
import hashlib
import hmac
from collections.abc import Callable

import orjson
import pytest

from gateway.callbacks.signature import callbot_signature, general_signature
from tests.ingest.conftest import Running, Serve, request_bytes

SECRET = "demoAS01"
SIGNED = {"auth": {"signature": {"secret": SECRET}}}
CALLBACKS = {
    "did-sms": SIGNED,
    "whatsapp": SIGNED,
    "callbot-task": SIGNED,
    "shop-orders": {
        "decoder": "form",
        "topic": "shop.order",
        "key": "$.id",
        "auth": {"signature": {"secret": SECRET, "header": "X-Shop-Signature", "prefix": "sha256="}},
    },
}
DID = b"messageId=m-1&type=0&toPhone=%2B15550100001&fromPhone=%2B15550100002&content=hello&size=1&smsStatus=DELIVRD"
STATUS = b'{"statuses":[{"id":"%s","status":"sent","timestamp":"1735000000","recipient_id":"15550100200"}]}'
TASK = b'{"taskID":"t-1","taskStatus":3}'
EVIL = "messageId=EVIL&id=EVIL&taskID=EVIL"


def general(body: bytes, action: str = "mo", ts: str = "1735000011000") -> dict[str, str]:
    sign = general_signature(SECRET, access_key="k", action=action, biz_type="4", ts=ts, body=body)
    return {"accesskey": "k", "action": action, "biztype": "4", "ts": ts, "sign": sign}


def callbot(body: bytes) -> dict[str, str]:
    sign = callbot_signature(SECRET, request_id="r", uuid="u", create_ts="1", body=body)
    return {"requestID": "r", "uuid": "u", "createTs": "1", "sign": sign}


def shop(body: bytes) -> dict[str, str]:
    return {"X-Shop-Signature": "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()}


#: Path, how it is signed, and a body.
PATHS: dict[str, tuple[Callable[[bytes], dict[str, str]], bytes]] = {
    "did-sms": (general, DID),
    "whatsapp": (general, STATUS % b"wa-1"),
    "callbot-task": (callbot, TASK),
    "shop-orders": (shop, b"id=7&total=10"),
}


async def stored_ids(gateway: Running) -> list[str]:
    return [record.id for record in await gateway.stored()]


@pytest.mark.parametrize("name", PATHS)
async def test_a_captured_request_makes_one_event_whatever_is_changed_around_it(serve: Serve, name: str) -> None:
    """Fields in the query, other types and methods, a compressed body, more headers: a repeat, or refused."""
    gateway = await serve(callbacks=CALLBACKS)
    sign, body = PATHS[name]
    path, headers, zipped = f"/callbacks/{name}", sign(body), gzip.compress(body)
    first = await gateway.post(path, body, headers)
    (record,) = await gateway.stored()
    assert (200, b"EVIL" in record.value) == (first.status, False)
    for method, target, sent, more in (
        ("POST", f"{path}?{EVIL}", body, {}),
        ("POST", f"{path}/?{EVIL}&token=x", body, {"Content-Type": "text/plain"}),
        ("POST", path, body, {"Content-Type": "multipart/form-data; boundary=B"}),
        ("POST", path, body, {"Content-Type": "application/json; charset=utf-16"}),
        ("POST", path, zipped, {"Content-Encoding": "gzip"}),
        ("POST", path, zipped, {}),
        ("POST", path, body, {"Content-Encoding": "gzip"}),
        ("POST", path, body, {"action": "dr", "X-Action": "dr"}),
        ("POST", f"{path}?{EVIL}", b"", {}),
        ("POST", path, EVIL.encode(), {"Content-Type": "multipart/form-data"}),
        ("GET", f"{path}?{EVIL}", b"", {}),
        ("GET", f"{path}?{EVIL}", body, {}),
    ):
        reply = await gateway.raw(request_bytes(method, target.encode(), sent, {**more, **headers}))
        assert reply.status in ((200, 401, 405) if sent in (body, zipped) else (401, 405)), target
        assert [record.id] == await stored_ids(gateway)


@pytest.mark.parametrize("content_type", ["multipart/form-data; boundary=B", "application/json"])
@pytest.mark.parametrize("place", ["ts", "biztype", "action", "accesskey"])
async def test_a_captured_body_cannot_be_moved_into_a_header(serve: Serve, content_type: str, place: str) -> None:
    """The signed text is the captured one; the body is another, which the text does not hold."""
    gateway = await serve(callbacks=CALLBACKS)
    captured = STATUS % b"wa-1"
    headers = general(captured)
    names = {"accesskey": "accessKey", "action": "action", "biztype": "bizType", "ts": "ts"}
    rest = list(names)[list(names).index(place) + 1 :]
    moved = "".join(f"&{names[name]}={headers[name]}" for name in rest) + f"&body={captured.decode()}"
    forged = {**headers, place: headers[place] + moved, "Content-Type": content_type}
    for body in (STATUS % b"EVIL", b'--B\r\nContent-Disposition: form-data; name="id"\r\n\r\nEVIL\r\n--B--\r\n', b""):
        reply = await gateway.post("/callbacks/whatsapp", body, forged)
        assert reply.status == 401
    assert [] == await stored_ids(gateway)


async def test_a_signed_query_is_refused_with_a_reason(serve: Serve) -> None:
    """Where a signature is configured, fields in the query alone are not enough: they are not signed."""
    gateway = await serve(callbacks=CALLBACKS)
    reply = await gateway.post(f"/callbacks/shop-orders?{EVIL}", b"", shop(b""))
    assert (401, "the body is empty: fields in the query are not signed") == (
        reply.status,
        orjson.loads(reply.body)["message"],
    )
    assert [] == await stored_ids(gateway)


async def test_what_is_refused_is_answered_without_a_signature(serve: Serve) -> None:
    """Ours over values of a stranger's choice would let that stranger in: the answer itself could be sent back."""
    gateway = await serve(callbacks=CALLBACKS, max_body_bytes=1000)
    accepted = await gateway.post("/callbacks/callbot-task", TASK, callbot(TASK))
    assert (200, True) == (accepted.status, "sign" in accepted.headers)
    strange = {**callbot(TASK), "sign": "0" * 32}
    for body, status in ((TASK, 401), (b"x" * 2000, 413)):
        reply = await gateway.post("/callbacks/callbot-task", body, strange)
        assert (status, False) == (reply.status, "sign" in reply.headers)
        assert orjson.loads(reply.body)["retCode"] != 0


async def test_a_rejected_request_of_a_signature_is_kept_once(serve: Serve) -> None:
    """However its unsigned parts are varied, one captured request takes the disk of one; its signature is not kept."""
    gateway = await serve(callbacks=CALLBACKS)
    body = b"content=hello"
    headers = general(body)
    for number in range(3):
        reply = await gateway.post(f"/callbacks/did-sms?messageId=EVIL{number}", body, {**headers, "X-N": str(number)})
        assert (400, b"error") == (reply.status, reply.body)
    (record,) = await gateway.stored()
    data = orjson.loads(record.value)["data"]
    assert ("callbacks.rejected", "messageId=EVIL0") == (record.topic, data["query"])
    assert ["accesskey", "action", "biztype", "ts"] == data["signed_headers"]
    assert headers["sign"].encode() not in record.value
    await gateway.post("/callbacks/did-sms", body, general(body, ts="1735000011001"))
    assert len(await gateway.stored()) == 2


async def test_rejected_requests_that_differ_in_a_header_are_both_kept(serve: Serve) -> None:
    """A later decoder may tell them apart; the same request again is kept once."""
    gateway = await serve()
    for event in ("created", "deleted", "created"):
        reply = await gateway.post("/callbacks/did-sms", b"content=hello", {"X-Event": event})
        assert reply.status == 400
    kept = [orjson.loads(record.value)["data"]["headers"]["x-event"] for record in await gateway.stored()]
    assert ["created", "deleted"] == kept
