"""Only signed bytes make an event, whatever the callback and the scheme."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.callbacks import CALLBACKS, CallbackRequest, DecodeContext
from gateway.callbacks.credentials import Credentials
from gateway.callbacks.generic import DecodedEvent, DecoderCallback, GenericCallback, JsonPath
from gateway.callbacks.rejected import TOPIC, rejected_event, request_from
from gateway.callbacks.sender_signatures import verify
from gateway.callbacks.signature import SignaturePolicy, callbot_signature, general_signature
from gateway.errors import CallbackRejected, SenderError, Unauthenticated
from gateway.event import Event, from_json
from gateway.ingest.bodies import decompressed
from gateway.ingest.endpoints import Decodes
from tests.callbacks.samples import all_samples
from tests.effort import examples
from tests.rows import rows
from tests.senders.signing import signed_headers

NOW = datetime(2025, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
POLICIES = {
    "general": SignaturePolicy("general", ("s3cret",)),
    "general-sha256": SignaturePolicy("general", ("old", "s3cret"), algorithm="sha256", access_key="k"),
    "callbot": SignaturePolicy("callbot", ("s3cret",)),
    "hex": SignaturePolicy("hmac", ("s3cret",), header="X-Hub-Signature-256", prefix="sha256="),
    "base64": SignaturePolicy("hmac", ("s3cret",), header="sign", digest="sha1", encoding="base64"),
    "standard-webhooks": SignaturePolicy(
        "standard-webhooks", ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",), window_s=300, header="webhook"
    ),
    "stripe": SignaturePolicy("stripe", ("old", "s3cret"), window_s=300),
    "slack": SignaturePolicy("slack", ("s3cret",), window_s=300),
    "twilio": SignaturePolicy("twilio", ("s3cret",), url="https://hooks.example.com/callbacks/x?account=main"),
}


def _everything(request: CallbackRequest, context: DecodeContext) -> list[DecodedEvent]:
    """A decoder of one's own that puts all it can see into the event."""
    if b"no-key" in request.body:
        raise CallbackRejected("no key")
    seen = {"method": request.method, "path": request.path, "query": request.query.hex(), "peer": request.peer}
    return [DecodedEvent("k", {**seen, "headers": {**request.headers}, "body": request.body.hex()})]


def _callbacks() -> Iterator[tuple[Decodes, DecodeContext, bytes]]:
    """Each callback with bodies that it understands, and some that it does not."""
    for sample in all_samples():
        if sample.request.body:
            yield CALLBACKS[sample.callback], sample.context, sample.request.body
    others: tuple[Decodes, ...] = (
        GenericCallback("j", "json", "t", JsonPath("$.id"), time=JsonPath("$.at")),
        GenericCallback("e", "json", "t", JsonPath("$.id"), each="$"),
        GenericCallback("f", "form", "t", JsonPath("$.id"), id=JsonPath("$.event"), time=JsonPath("$.at")),
        DecoderCallback("d", _everything, "t"),
    )
    multipart = b"--B\r\nContent-Disposition: form-data; name=id\r\n\r\n7\r\n--B--\r\n"
    for callback in others:
        for body in (
            b'{"id":7,"at":1}',
            b"id=7&at=1&event=9",
            multipart,
            b"no-key=1",
            b"messageId:1,content:x",
            b'[{"id":1},{"id":2}]',
            b'[{"id":1},{}]',
        ):
            yield callback, DecodeContext(credential_fields=frozenset({"token"})), body


CASES = list(_callbacks())
#: The names of all of them, so that a query or a header can speak of any field.
NAMES = sorted(
    {name for _, _, body in CASES for name in body.decode("latin-1").replace('"', "&").replace(":", "=").split("&")
     if name.isidentifier()} | {"id", "event", "at", "token"}
)  # fmt: skip


def signed(policy: SignaturePolicy, body: bytes, action: str = "mo", ts: str = "1735787045") -> dict[str, str]:
    """The headers of a rightly signed request."""
    secret = policy.secrets[-1]
    if policy.scheme == "general":
        values = {"access_key": "k", "action": action, "biz_type": "4", "ts": ts}
        sign = general_signature(secret, **values, body=body, algorithm=policy.algorithm or "md5")
        return {"accesskey": "k", "action": action, "biztype": "4", "ts": ts, "sign": sign}
    if policy.scheme == "callbot":
        sign = callbot_signature(secret, request_id="r", uuid="u", create_ts=ts, body=body)
        return {"requestid": "r", "uuid": "u", "createts": ts, "sign": sign}
    return signed_headers(policy, body, ts=int(ts))


def can_sign(policy: SignaturePolicy, body: bytes) -> bool:
    """Whether a sender of this scheme sends such a body: Twilio's are plain forms and compact JSON."""
    return policy.scheme != "twilio" or signed(policy, body)["x-twilio-signature"] != "none"


def events(policy: SignaturePolicy, callback: Decodes, context: DecodeContext, request: CallbackRequest) -> list[Event]:
    """What the gateway makes of a request: events, or the one that keeps it."""
    coding = request.headers.get("content-encoding")
    if coding:
        request = request._replace(body=decompressed(request.body, coding, 1 << 20))
    credentials = Credentials(signature=policy)
    authentic = credentials.check(request, NOW)
    try:
        return list(callback.decode(authentic, context).events)
    except CallbackRejected as exc:
        return [rejected_event(callback.name, context.account, request, exc, credentials)]


def made(policy: SignaturePolicy, callback: Decodes, context: DecodeContext, request: CallbackRequest) -> object:
    """What tells two outcomes apart; of a request that is kept, its id and all that can be decoded from it later."""
    found = events(policy, callback, context, request)
    if found[0].topic == TOPIC:
        return found[0].id, found[0].data["reason"], request_from(from_json(found[0].to_json(), TOPIC))
    return [event.to_json() for event in found]


def made_or_refused(
    policy: SignaturePolicy, callback: Decodes, context: DecodeContext, request: CallbackRequest
) -> object:
    """The same; None where the request is refused."""
    try:
        return made(policy, callback, context, request)
    except Unauthenticated:
        return None


TYPES = st.sampled_from(
    ["multipart/form-data; boundary=B", "multipart/form-data", "application/json", "application/json; charset=gbk",
     "application/x-www-form-urlencoded", "text/plain; charset=utf-16", ""]
)  # fmt: skip
VALUES = st.sampled_from(["EVIL", "1", "0", "dr", "mo", "", "%00", "+62811"])
#: Fields of all callbacks, with other values than the body has.
FIELDS = st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=6)
QUERIES = st.builds(lambda pairs: "&".join(map("=".join, pairs)).encode(), FIELDS) | st.binary(max_size=20)
HEADERS = st.dictionaries(
    st.sampled_from([*map(str.lower, NAMES), "x-forwarded-for", "x-http-method-override", "x-original-url", "host"]),
    VALUES,
    max_size=4,
)


@rows("scheme", sorted(POLICIES))
@settings(max_examples=examples(30))
@given(case=st.sampled_from(CASES), data=st.data())
def test_unsigned_parts_change_nothing(
    scheme: str, case: tuple[Decodes, DecodeContext, bytes], data: st.DataObject
) -> None:
    """Method, path, query, address, and every header that is not signed: the same events with the same ids."""
    policy = POLICIES[scheme]
    callback, context, body = case
    assume(scheme != "callbot" or b"\0" not in body)  # refused; see the test of a text that was continued
    request = CallbackRequest("POST", f"/callbacks/{callback.name}", b"", signed(policy, body), body, NOW, "1.2.3.4")
    expected = made_or_refused(policy, callback, context, request)
    assert expected is not None or not can_sign(policy, body)
    headers = {**data.draw(HEADERS), "content-type": data.draw(TYPES), **request.headers}
    changed = request._replace(
        method=data.draw(st.sampled_from(["POST", "GET", "PUT"])),
        path=request.path + data.draw(st.sampled_from(["/", "/token", "/%6d", "?x", ";a=b"])),
        query=data.draw(QUERIES),
        headers=headers,
        peer="203.0.113.9",
    )
    assert expected == made_or_refused(policy, callback, context, changed)


CODINGS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": bytes,
    "GZIP ": gzip.compress,
    "identity": bytes,
}


@given(
    st.sampled_from(CASES),
    st.sampled_from(sorted(POLICIES)),
    st.sampled_from(sorted(CODINGS)),
    st.sampled_from(sorted(CODINGS)),
    st.sampled_from(["", "sha256", "SHA256", "md5", "none"]),
)
def test_a_coding_changes_nothing_or_is_refused(
    case: tuple[Decodes, DecodeContext, bytes], scheme: str, applied: str, named: str, algorithm: str
) -> None:
    """Whichever bytes were signed, compressed or not, and whatever coding or hash is announced over them later."""
    policy, (callback, context, body) = POLICIES[scheme], case
    assume(scheme != "callbot" or b"\0" not in body)
    wire = CODINGS[applied](body)
    for authentic in (body, wire):
        request = CallbackRequest("POST", "/", b"", signed(policy, authentic), authentic, NOW)
        expected = made_or_refused(policy, callback, context, request)
        assert expected is not None or authentic != body or not can_sign(policy, body)
        headers = {**request.headers, "content-encoding": named, "algorithm": algorithm}
        for sent in (body, wire):
            found = made_or_refused(policy, callback, context, request._replace(headers=headers, body=sent))
            assert found in (expected, None)


@rows("scheme", sorted(POLICIES))
@rows("name", ["did-sms", "sms-dr", "ota", "whatsapp"])
def test_a_signature_without_a_body_is_refused(scheme: str, name: str) -> None:
    """Fields in the query are never signed, so a request that has nothing else is refused, and says why."""
    policy = POLICIES[scheme]
    query = b"messageId=EVIL&messageid=EVIL&toPhone=1&fromPhone=2&content=x&type=0&requestId=1&id=7"
    for method in ("GET", "POST"):
        request = CallbackRequest(method, f"/callbacks/{name}", query, signed(policy, b""), b"", NOW)
        verify(policy, request, NOW)
        with pytest.raises(Unauthenticated, match="body is empty"):
            Credentials(signature=policy).check(request, NOW)


PIECES = st.lists(
    st.sampled_from(
        ["a", "1", "&", "=", "&action=", "&bizType=", "&ts=", "&body=", "&accessSecret=", "&createTs=", "&uuid=",
         "&requestID=", "&ts=1", "&createTs=1&requestID=", "s3cret", "body="]
    ),
    max_size=4,
).map("".join)  # fmt: skip
DIGITS = st.sampled_from(["1", "17", "1735787045"])


def splits(text: str, separator: str) -> Iterator[tuple[str, str]]:
    """Each way to take a text apart at a separator."""
    at = text.find(separator)
    while at >= 0:
        yield text[:at], text[at + len(separator) :]
        at = text.find(separator, at + 1)


def general_readings(text: str) -> Iterator[tuple[str, str, str, str, str]]:
    """Each way to read the general scheme's text, without the secret: accessKey, action, bizType, ts, body."""
    for key, rest in splits(text.removeprefix("accessKey="), "&action="):
        for action, beyond in splits(rest, "&bizType="):
            for biz_type, last in splits(beyond, "&ts="):
                yield key, action, biz_type, last, ""
                for ts, body in splits(last, "&body="):
                    yield key, action, biz_type, ts, body


@given(PIECES, PIECES, PIECES, DIGITS, PIECES)
def test_the_text_of_the_general_scheme_has_one_reading(
    access_key: str, action: str, biz_type: str, ts: str, body: str
) -> None:
    """Of all headers and bodies that have the same signed text, one is accepted at the most."""
    text = f"accessKey={access_key}&action={action}&bizType={biz_type}&ts={ts}" + (f"&body={body}" if body else "")
    sign = general_signature(
        "s3cret", access_key=access_key, action=action, biz_type=biz_type, ts=ts, body=body.encode()
    )
    accepted = []
    for reading in {*general_readings(text)}:
        headers = dict(zip(("accesskey", "action", "biztype", "ts"), reading, strict=False))
        request = CallbackRequest("POST", "/", b"", {**headers, "sign": sign}, reading[4].encode(), NOW)
        try:
            accepted.append(verify(POLICIES["general"], request, NOW))
        except Unauthenticated:
            continue
    assert len(accepted) <= 1


def callbot_readings(text: str) -> Iterator[tuple[str, str, str, str]]:
    """The same of Callbot's text, behind the secret: body, createTs, requestID, uuid."""
    for body, rest in splits(text.removeprefix("&body="), "&createTs="):
        for ts, beyond in splits(rest, "&requestID="):
            for request_id, uuid in splits(beyond, "&uuid="):
                yield body, ts, request_id, uuid


@given(PIECES, DIGITS, PIECES, PIECES)
def test_the_text_of_callbot_has_one_reading(body: str, ts: str, request_id: str, uuid: str) -> None:
    """The same of Callbot, where the body comes first."""
    sign = callbot_signature("s3cret", request_id=request_id, uuid=uuid, create_ts=ts, body=body.encode())
    accepted = []
    for reading in {*callbot_readings(f"&body={body}&createTs={ts}&requestID={request_id}&uuid={uuid}")}:
        headers = {"createts": reading[1], "requestid": reading[2], "uuid": reading[3], "sign": sign}
        request = CallbackRequest("POST", "/", b"", headers, reading[0].encode(), NOW)
        try:
            accepted.append(verify(POLICIES["callbot"], request, NOW))
        except Unauthenticated:
            continue
    assert len(accepted) <= 1


SAFE = st.text('abc019&=+/._-{}":, é', max_size=12).filter(lambda text: text == text.strip())


@given(SAFE, SAFE, SAFE, st.text("0123456789", min_size=1, max_size=20), st.binary(min_size=1, max_size=40))
def test_what_the_vendor_can_sign_is_accepted(a: str, b: str, c: str, ts: str, body: bytes) -> None:
    """Any values in the signed headers, ``&`` and ``=`` included, as long as they have one reading; empty ones too."""
    sign = general_signature("s3cret", access_key=a, action=b, biz_type=c, ts=ts, body=body)
    headers = {"accesskey": a, "action": b, "biztype": c, "ts": ts, "sign": sign}
    assert body == verify(POLICIES["general"], CallbackRequest("POST", "/", b"", headers, body, NOW), NOW).body
    assume(b"\0" not in body)
    sign = callbot_signature("s3cret", request_id=a, uuid=b, create_ts=ts, body=body)
    headers = {"requestid": a, "uuid": b, "createts": ts, "sign": sign}
    assert body == verify(POLICIES["callbot"], CallbackRequest("POST", "/", b"", headers, body, NOW), NOW).body


@rows("ts", ["", "soon", "-1", "1.5", "1e3", "٣", "1&body={}", "1 2", "0x1"])
@rows("scheme", ["general", "callbot"])
def test_a_signed_time_is_digits(scheme: str, ts: str) -> None:
    """A time stamp that could hold more than a time is refused, however it is signed."""
    policy = POLICIES[scheme]
    request = CallbackRequest("POST", "/", b"", signed(policy, b"{}", ts=ts), b"{}", NOW)
    with pytest.raises(Unauthenticated, match=r"number|another member"):
        verify(policy, request, NOW)


def test_a_text_that_was_continued_is_refused() -> None:
    """A hash that begins with the secret can be continued behind its padding, which has NUL bytes."""
    policy = POLICIES["callbot"]
    body = b"a=1&createTs=1&requestID=r&uuid=u\x80" + bytes(30) + b"\x40&taskID=EVIL"
    with pytest.raises(Unauthenticated, match="NUL"):
        verify(policy, CallbackRequest("POST", "/", b"", signed(policy, body), body, NOW), NOW)


@rows("scheme", sorted(POLICIES))
def test_what_is_kept_is_decoded_again_by_the_same_rule(scheme: str) -> None:
    """A kept request says what was signed, lacks the signature, and its query makes no event later either."""
    policy, callback = POLICIES[scheme], CALLBACKS["did-sms"]
    body = b"content=hello"
    headers = {**signed(policy, body, action="dr"), "content-type": "text/plain"}
    request = CallbackRequest("POST", "/callbacks/did-sms", b"messageId=EVIL", headers, body, NOW)
    (kept,) = events(policy, callback, DecodeContext(), request)
    assert list(policy.signed_headers) == kept.data["signed_headers"]
    assert b"EVIL" in orjson.dumps(kept.data["query"])
    assert policy.signature_header not in kept.data["headers"]
    back = request_from(from_json(kept.to_json(), TOPIC))
    assert {name: headers[name] for name in policy.signed_headers} == back.headers
    with pytest.raises(CallbackRejected, match="identifying field"):
        callback.decode(back, DecodeContext())


def test_a_signed_action_counts_when_decoded_again() -> None:
    """What was kept for a fault that is mended since becomes the event that the request itself would be."""
    policy, callback = POLICIES["general"], CALLBACKS["did-sms"]
    body = b'{"messageId":"m-1","toPhone":"1","fromPhone":"2","content":"x"}'
    request = CallbackRequest("POST", "/callbacks/did-sms", b"", signed(policy, body, action="dr"), body, NOW)
    kept = rejected_event("did-sms", None, request, CallbackRejected("a fault"), Credentials(signature=policy))
    (again,) = callback.decode(request_from(from_json(kept.to_json(), TOPIC)), DecodeContext()).events
    (first,) = events(policy, callback, DecodeContext(), request)
    assert ("nxcloud.did.dr", first.to_json()) == (again.type, again.to_json())


def test_a_request_of_another_signature_is_refused() -> None:
    """The property says something: with a changed body, and with the wrong secret, nothing is made."""
    for policy in POLICIES.values():
        request = CallbackRequest("POST", "/", b"", signed(policy, b"id=7"), b"id=8", NOW)
        with pytest.raises(SenderError):
            Credentials(signature=policy).check(request, NOW)
        with pytest.raises(SenderError):
            Credentials(signature=replace(policy, secrets=("other",))).check(request._replace(body=b"id=7"), NOW)
