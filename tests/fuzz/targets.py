"""The targets: each takes any bytes and raises only when a promise is broken."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Final

import orjson

from gateway.callbacks import CALLBACKS, CallbackRequest, DecodeContext
from gateway.callbacks.credentials import Credentials
from gateway.callbacks.rejected import rejected_event
from gateway.callbacks.signature import SignaturePolicy, callbot_signature, general_signature
from gateway.config.settings import Ingest
from gateway.errors import CallbackRejected, ConfigError, JournalDamaged, SenderError
from gateway.fanout.filters import compile_filter
from gateway.ingest.endpoints import endpoints
from gateway.ingest.plain_http import PlainHeads, mended
from gateway.log import Entry
from gateway.log.journal import batch_format
from tests.senders.signing import signed_headers

NOW: Final = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
_CONTEXT: Final = DecodeContext(credential_fields=frozenset({"token"}), own_numbers=frozenset({"15550100001"}))
_NAMES: Final = sorted(CALLBACKS)
_TYPES: Final = (
    "application/x-www-form-urlencoded",
    "application/json",
    "application/json; charset=utf-8",
    "text/plain",
    "",
    "application/x-www-form-urlencoded; charset=gbk",
)
_ID: Final = re.compile(r"[0-9a-f]{32}")


def decoders(data: bytes) -> None:
    """Any request at any callback: events or a rejection, the same each time, and both can be stored.

    Layout: callback, content type, length of the query (2 bytes), query, body.
    """
    if len(data) < 4:
        return
    name = _NAMES[data[0] % len(_NAMES)]
    length = int.from_bytes(data[2:4], "big")
    request = CallbackRequest(
        "POST" if data[1] & 0x80 == 0 else "GET",
        f"/callbacks/{name}",
        data[4 : 4 + length],
        {"content-type": _TYPES[data[1] % len(_TYPES)], "host": "gateway"},
        data[4 + length :],
        NOW,
        "203.0.113.7",
    )
    first, second = _decoded(name, request), _decoded(name, request)
    assert [entry.id for entry in first] == [entry.id for entry in second]
    for entry in first:
        _check_entry(entry)


def _decoded(name: str, request: CallbackRequest) -> list[Entry]:
    callback = CALLBACKS[name]
    try:
        events = callback.decode(request, _CONTEXT).events
        assert events, "neither events nor a rejection"
        callback.answers.success(request, None, NOW)
    except CallbackRejected as exc:
        events = (rejected_event(name, None, request, exc, Credentials(tokens=("secret",))),)
        callback.answers.failure(exc.status_hint, str(exc), request, None, NOW)
    return [Entry(event.topic, event.partitionkey, event.id, event.to_json()) for event in events]


def _check_entry(entry: Entry) -> None:
    assert _ID.fullmatch(entry.id), entry.id
    event = orjson.loads(entry.value)
    assert (entry.id, entry.key) == (event["id"], event["partitionkey"])
    assert entry.key, "an event without a key"
    (read,) = batch_format.decode(batch_format.encode(entry), partition="events", base=0, count=1, appended_at=0.0)
    assert entry == Entry(read.topic, read.key, read.id, read.value, read.headers)


_POLICIES: Final = (
    SignaturePolicy("callbot", ("secret",), algorithm="md5", window_s=3600),
    SignaturePolicy("general", ("secret", "another"), algorithm=None, access_key="key", window_s=3600),
    SignaturePolicy("hmac", ("secret",), header="x-signature", digest="sha256", encoding="hex", prefix="sha256="),
    SignaturePolicy("hmac", ("secret",), header="x-signature", digest="sha1", encoding="base64", prefix=""),
    SignaturePolicy("standard-webhooks", ("whsec_" + "c2VjcmV0" * 4,), header="webhook", window_s=300),
    SignaturePolicy("stripe", ("secret",), window_s=300),
    SignaturePolicy("slack", ("secret",), window_s=300),
    SignaturePolicy("twilio", ("secret",), url="https://hooks.example.com/callbacks/x"),
)
_HEADERS: Final = (
    "authorization", "token", "x-gateway-token", "x-signature", "sign", "accesskey", "action", "biztype", "ts",
    "requestid", "uuid", "createts", "algorithm", "content-type", "webhook-id", "webhook-timestamp",
    "webhook-signature", "stripe-signature", "x-slack-signature", "x-slack-request-timestamp", "x-twilio-signature",
)  # fmt: skip


def signatures(data: bytes) -> None:
    """Any headers, query, path and body against every scheme: refused as the sender's fault, and by nothing else.

    Layout: a byte of choices (2 bits scheme, then: all credentials, the peer from the path, signed rightly, the second
    four schemes), lines
    ``n:value`` of the headers above by number, then path, query and body, separated by NUL. What is signed rightly by
    us may pass, and then the signed part comes out; nothing else ever does.
    """
    if not data:
        return
    choice = data[0]
    head, _, rest = data[1:].partition(b"\x00")
    path, _, rest = rest.partition(b"\x00")
    query, _, body = rest.partition(b"\x00")
    headers: dict[str, str] = {}
    for line in head.split(b"\n"):
        if len(line) > 1:
            headers[_HEADERS[line[0] % len(_HEADERS)]] = line[1:].decode("utf-8", "surrogateescape")
    policy = _POLICIES[choice & 3 | choice >> 3 & 4]
    if choice & 16:
        _sign(policy, headers, body)
    credentials = (
        Credentials(("token",), (ip_network("10.0.0.0/8"),), policy) if choice & 4 else Credentials(signature=policy)
    )
    peer = path.decode("latin-1")[:64] if choice & 8 else "10.1.2.3"
    request = CallbackRequest("POST", path.decode("utf-8", "surrogateescape"), query, headers, body, NOW, peer)
    checked = _checked(credentials, request)
    if isinstance(checked, str):
        assert "secret" not in checked
        return
    assert choice & 16, "forged"
    assert body == checked.body, "a body that is not the signed one"
    assert (b"", "", "") == (checked.query, checked.path, checked.peer)
    assert set(policy.signed_headers) == set(checked.headers)


def _sign(policy: SignaturePolicy, headers: dict[str, str], body: bytes) -> None:
    """As the vendor would, so that what comes behind the signature is reached."""

    def of(name: str) -> str:
        return headers.get(name, "")

    if policy.scheme not in ("callbot", "general"):
        headers |= signed_headers(policy, body, ts=int(NOW.timestamp()))
    elif policy.scheme == "callbot":
        headers["sign"] = callbot_signature(
            "secret", request_id=of("requestid"), uuid=of("uuid"), create_ts=of("createts"), body=body, algorithm="md5"
        )
    else:
        headers["sign"] = general_signature(
            "secret", access_key=of("accesskey"), action=of("action"), biz_type=of("biztype"), ts=of("ts"),
            body=body, algorithm="sha256" if of("algorithm") == "sha256" else "md5",
        )  # fmt: skip


def _checked(credentials: Credentials, request: CallbackRequest) -> CallbackRequest | str:
    """The signed part, or why the request is refused."""
    try:
        return credentials.check(request, NOW)
    except SenderError as exc:
        return str(exc)


_EVENT: Final = {
    "id": "0" * 32, "source": "/nxcloud/sms-dr", "type": "nxcloud.sms.dr", "subject": "m-1", "partitionkey": "m-1",
    "data": {"to": "+6281", "delivered": True, "segments": 2, "price": {"total": "0.5"}, "list": [1, {"a": "b"}]},
}  # fmt: skip


def filters(data: bytes) -> None:
    """Any document as a filter: problems in sentences, or a filter that says yes or no of any event, and why."""
    source, _, other = data.partition(b"\x00")
    try:
        document = json.loads(source)
        event = json.loads(other) if other else _EVENT
    except (ValueError, RecursionError):
        return
    problems: list[str] = []
    compiled = None
    try:
        compiled = compile_filter(document)
    except ConfigError as exc:
        problems = exc.problems
    assert all(problem.startswith("filter") for problem in problems), problems
    if compiled is None:
        return
    for one in (_EVENT, event):
        if isinstance(one, dict):
            assert compiled.matches(one) == (compiled.mismatch(one) is None)


_HEADS: Final = PlainHeads(endpoints(Ingest()), 65536)


def heads(data: bytes) -> None:
    """Any bytes as the beginning of a request: mended in its first line at the most, once, and into something plain."""
    result = mended(data)
    if result != data:
        before, after = data.partition(b"\n"), result.partition(b"\n")
        assert before[2] == after[2]
        assert after[0].count(b" ") == 2
        assert after[0].isascii()
        assert mended(result) == result
    end = data.find(b"\r\n\r\n")
    if end >= 0:
        plain = _HEADS.read(data[:end])
        if plain is not None:
            assert 0 <= plain.length <= 65536
            assert b"\n" not in plain.query
            assert b" " not in plain.query
            assert "transfer-encoding" not in plain.headers
            assert int(plain.headers["content-length"]) == plain.length


def segments(data: bytes) -> None:
    """Any bytes as a segment: damage that is told, or records that are written and read back as they are."""
    if not data:
        return
    count = data[0]
    try:
        records = batch_format.decode(data[1:], partition="events", base=7, count=count, appended_at=1.0)
    except JournalDamaged:
        return
    assert len(records) == count
    entries = [Entry(r.topic, r.key, r.id, r.value, r.headers) for r in records]
    blob = b"".join(map(batch_format.encode, entries))
    assert batch_format.decode(blob, partition="events", base=7, count=count, appended_at=1.0) == records


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    "decoders": decoders,
    "signatures": signatures,
    "filters": filters,
    "heads": heads,
    "segments": segments,
}
