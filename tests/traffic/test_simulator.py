"""Every generated request is one that the decoders and the signatures accept."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from itertools import islice
from random import Random

from gateway.callbacks import CALLBACKS, CallbackRequest, DecodeContext
from gateway.callbacks.sender_signatures import verify
from gateway.callbacks.signature import SignaturePolicy
from gateway.config.settings import Auth
from gateway.ingest.plain_http import mended
from gateway.traffic.client import RequestSigner, Target, encode
from gateway.traffic.simulator import TrafficRequest, mixed, requests, samples
from tests.rows import rows

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
CONTEXT = DecodeContext(own_numbers=frozenset({"15550100001"}))
MANY = 400


def clock() -> datetime:
    return NOW


def played(name: str, seed: int = 1, count: int = MANY) -> list[TrafficRequest]:
    return list(islice(requests(name, Random(seed), clock), count))


def arrived(request: TrafficRequest, headers: dict[str, str] | None = None) -> CallbackRequest:
    found = {"content-type": request.content_type} if request.content_type else {}
    return CallbackRequest(
        "POST", f"/callbacks/{request.callback}", request.query, found | (headers or {}), request.body, NOW
    )


def test_every_callback_has_samples() -> None:
    """Each callback can be played, each sample has its own name, and the first one begins a sequence."""
    for name in CALLBACKS:
        found = samples(name)
        assert len({sample.name for sample in found}) == len(found) > 1
        assert found[0].weight


def test_replays_differ_where_they_should() -> None:
    """States of one call keep its id and come in order of time; another call has another id; times are recent."""
    calls: dict[str, list[str]] = {}
    for request in played("call-status"):
        (event,) = CALLBACKS["call-status"].decode(arrived(request), CONTEXT).events
        calls.setdefault(event.subject, []).append(event.time)
    assert {4} == {len(times) for times in calls.values()}
    for times in calls.values():
        assert sorted(times) == times
        assert "2026-03-04T05:03:00" < times[0] < times[-1] <= "2026-03-04T05:06:07.999999Z"


@rows("name", CALLBACKS)
def test_every_request_is_understood(name: str) -> None:
    """Many of each: events of a known type, each id once."""
    callback = CALLBACKS[name]
    ids: list[str] = []
    types: set[str] = set()
    for request in played(name):
        headers = {"action": request.action, "biztype": request.biz_type} if request.action else {}
        decoded = callback.decode(arrived(request, headers), CONTEXT)
        ids += [event.id for event in decoded.events]
        types |= {event.type for event in decoded.events}
    assert len(ids) == len(set(ids)) >= MANY
    assert types <= set(callback.types)


def test_every_documented_type_is_played() -> None:
    """All event types of all callbacks come up, each in the traffic of some callback."""
    found = set()
    for name, callback in CALLBACKS.items():
        for request in played(name, count=1500):
            headers = {"action": request.action} if request.action else {}
            found |= {event.type for event in callback.decode(arrived(request, headers), CONTEXT).events}
    assert {kind for callback in CALLBACKS.values() for kind in callback.types} == found


@rows("name", CALLBACKS)
def test_seed_plays_the_same_again(name: str) -> None:
    """Same seed, same bytes; another seed, other bytes."""
    assert played(name, 7, 50) == played(name, 7, 50)
    assert played(name, 7, 50) != played(name, 8, 50)


@rows("name", [name for name, callback in CALLBACKS.items() if callback.signature is not None])
@rows("algorithm", ["md5", "sha256"])
def test_signed_requests_verify(name: str, algorithm: str) -> None:
    """With the secret of the configuration, and not with another."""
    scheme = CALLBACKS[name].signature
    assert scheme is not None
    auth = Auth.model_validate({"signature": {"secret": "demoAS01", "algorithm": algorithm}, "token": "t0ken"})
    signer = RequestSigner(auth, scheme, Random(1), clock)
    policy = SignaturePolicy(scheme, ("demoAS01",), window_s=60.0)
    for request in played(name, count=40):
        headers = dict(signer.headers(request))
        assert headers["token"] == "t0ken"
        signed = verify(policy, arrived(request, headers), NOW)
        assert CALLBACKS[name].decode(signed, CONTEXT).events


def test_other_senders_hmac_verifies() -> None:
    """A webhook of one's own can be played with its signature."""
    auth = Auth.model_validate(
        {"signature": {"secret": "s", "algorithm": "sha512", "header": "X-Sig", "encoding": "base64", "prefix": "v="}}
    )
    request = TrafficRequest("shop", b"", "application/json", b'{"order":{"id":1}}')
    headers = dict(RequestSigner(auth, "hmac", Random(1), clock).headers(request))
    policy = SignaturePolicy("hmac", ("s",), header="x-sig", digest="sha512", encoding="base64", prefix="v=")
    verify(policy, arrived(request, headers), NOW)


def test_receipts_come_in_every_layout() -> None:
    """Form body, raw query with blanks, escaped query, all content types, and ids of multi-number sends."""
    found = Counter[str]()
    for request in played("sms-dr", count=1000):
        found["body"] += bool(request.body)
        found["raw blank"] += b" " in request.query
        found["escaped"] += b"+" in request.query
        found["no type"] += bool(request.body) and request.content_type is None
        found["odd type"] += request.content_type == "x-www-form-urlencoded"
        found["several"] += b"-" in request.body.partition(b"messageid=")[2][:29]
    assert min(found.values()) > 10


def test_mix_holds_every_callback() -> None:
    """``all`` plays each about as often as the others."""
    found = Counter(
        request.callback
        for request in islice(mixed([requests(name, Random(1), clock) for name in CALLBACKS], Random(1)), 2100)
    )
    assert set(CALLBACKS) == set(found)
    assert min(found.values()) > 60


@rows("name", CALLBACKS)
def test_request_lines_are_what_the_edge_mends(name: str) -> None:
    """What goes on the wire has one request line that the gateway's edge can read."""
    target = Target.parse("http://127.0.0.1:8080")
    for request in played(name, count=100):
        message = mended(encode(target, f"/callbacks/{name}", request, []))
        line = message.partition(b"\r\n")[0]
        assert line.count(b" ") == 2
        assert message.endswith(request.body)
