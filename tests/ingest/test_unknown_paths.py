"""POSTs to unknown paths below /callbacks/: 404, kept within a daily bound, reported with the nearest path."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.callbacks import CALLBACKS, CallbackRequest
from gateway.callbacks.rejected import SCHEMA, request_from
from gateway.config.settings import Ingest
from gateway.event import from_json
from gateway.ingest import endpoints as served
from gateway.ingest.endpoints import UnknownPaths, endpoints
from tests.ingest.conftest import Serve, request_bytes
from tests.ingest.wire import Outcome, talk
from tests.rows import rows

BODY = b"messageid=m-1&phone=6281234567890&result=DELIVRD&status=1"
AUTH = {
    "sms-dr": {"auth": {"token": "token-of-sms"}},
    "ota": {"auth": {"tokens": ["second-token-of-ota"], "allow_ips": ["198.51.100.0/24"]}},
    "email-dr": {"enabled": False},
    "whatsapp": {"auth": {"verify_token": "verify-token"}},
}
SECTION = Ingest.model_validate({"callbacks": AUTH})
PATHS = endpoints(SECTION)
ways = pytest.mark.parametrize("is_fast", [True, False], ids=["fast", "ordinary"])


def post(target: str, body: bytes = BODY, **headers: str) -> bytes:
    return request_bytes("POST", target.encode(), body, {name.replace("_", "-"): v for name, v in headers.items()})


def kept(outcome: Outcome) -> list[dict[str, Any]]:
    events = [orjson.loads(entry[3]) for entry in outcome.stored]
    assert {"callbacks.rejected"} >= {entry[0] for entry in outcome.stored}
    return [event["data"] for event in events]


def unknown(**settings: Any) -> UnknownPaths:
    most = settings.pop("most_kept", 1000)
    return UnknownPaths(PATHS, most_kept=most, clock=settings.pop("clock", lambda: datetime(2026, 1, 2, tzinfo=UTC)))


@ways
async def test_a_mistyped_address_loses_nothing(is_fast: bool) -> None:
    """404; the whole request is kept as not authenticated; one warning names the path that was meant."""
    with capture_logs() as logs:
        outcome = await talk(PATHS, [post("/callbacks/smsdr?a=1"), b"", post("/callbacks/smsdr?a=2")], is_fast=is_fast)
    assert 2 == outcome.answered.count(b"HTTP/1.1 404")
    first, second = kept(outcome)
    assert (
        "unknown-path",
        "unknown path",
        "/callbacks/smsdr",
        "a=1",
        BODY.decode(),
        False,
        "/callbacks/sms-dr",
    ) == tuple(first[name] for name in ("callback", "reason", "path", "query", "body", "authenticated", "nearest"))
    assert "a=2" == second["query"]
    assert set(SCHEMA["properties"]) >= set(first)
    (line,) = [line for line in logs if line["event"] == "callback.unknown_path"]
    assert ("warning", "/callbacks/sms-dr", 16) == (line["log_level"], line["nearest"], line["characters"])
    assert line["id"] == orjson.loads(outcome.stored[0][3])["id"]
    event = from_json(outcome.stored[0][3], "callbacks.rejected")
    assert BODY == request_from(event).body


@ways
@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/callbacks/smsdr"),
        ("PUT", "/callbacks/smsdr"),
        ("POST", "/"),
        ("POST", "/wp-login.php"),
        ("POST", "/callback/sms-dr"),
        ("POST", "/callbacks/email-dr"),
        ("POST", "//callbacks//Email-DR"),
    ],
)
async def test_what_is_not_kept(method: str, target: str, is_fast: bool) -> None:
    """Another method, a path elsewhere, and a callback that is switched off: 404 and nothing else."""
    with capture_logs() as logs:
        outcome = await talk(PATHS, [request_bytes(method, target.encode(), BODY)], is_fast=is_fast)
    assert outcome.answered.startswith(b"HTTP/1.1 404")
    assert ([], []) == (outcome.stored, [line for line in logs if line["event"] == "callback.unknown_path"])


async def test_the_bound_of_requests() -> None:
    """Beyond it requests are answered 404 and counted; 0 keeps none."""
    requests = [chunk for number in range(5) for chunk in (post(f"/callbacks/x{number}"), b"")]
    outcome = await talk(PATHS, requests, is_fast=True, keep_unknown_paths=3)
    assert 5 == outcome.answered.count(b"HTTP/1.1 404")
    assert ["/callbacks/x0", "/callbacks/x1", "/callbacks/x2"] == [data["path"] for data in kept(outcome)]
    assert 5 == outcome.counted["gateway_http_refused_total[('reason', 'not_found')]"]
    assert [] == (await talk(PATHS, requests, is_fast=True, keep_unknown_paths=0)).stored


def test_the_bounds_hold_for_a_day_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests, bytes and logged paths of a day, whatever a scanner sends; the next day begins anew."""
    monkeypatch.setattr(served, "_MOST_BYTES", 5000)
    monkeypatch.setattr(served, "_MOST_LOGGED", 7)
    now = datetime(2026, 1, 2, tzinfo=UTC)
    paths = unknown(most_kept=100, clock=lambda: now)
    for _ in range(2):
        with capture_logs() as logs:
            events = []
            for number in range(300):
                path = f"/callbacks/{number}"
                if paths.may_keep("POST", path):
                    request = CallbackRequest("POST", path, b"", {}, b"x" * 400, now)
                    event = paths.event(request)
                    events.append(event if paths.takes(path, event) else None)
        found = [event for event in events if event is not None]
        assert 3 < len(found) < 15
        assert sum(len(event.to_json()) for event in found) <= 5000
        assert len(events) <= 100
        assert 7 == len([line for line in logs if line["event"] == "callback.unknown_path"])
        assert len(paths._logged) <= 7
        now += timedelta(days=1)


@ways
async def test_tokens_of_all_paths_are_cut_out(is_fast: bool) -> None:
    """Whichever path's token it is and wherever it stands; the verify token of Meta too."""
    secrets = ["token-of-sms", "second-token-of-ota", "verify-token"]
    for secret in secrets:
        target = f"/callbacks/sms-drr/{secret}?token={secret}&t={secret}"
        sent = post(target, b'{"a": "' + secret.encode() + b'"}', X_Original_Url=target, Token=secret)
        outcome = await talk(PATHS, [sent], is_fast=is_fast)
        assert secret.encode() not in outcome.stored[0][3]
        assert 1 == len(kept(outcome))


def test_the_paths_that_would_have_accepted_it_are_noted() -> None:
    """By token or address; open paths are not among them, as they accept anything."""
    paths = unknown()
    for headers, peer, expected in (
        ({}, "", []),
        ({"token": "token-of-sms"}, "", ["/callbacks/sms-dr"]),
        ({"token": "second-token-of-ota"}, "203.0.113.9", []),
        ({"token": "second-token-of-ota"}, "198.51.100.7", ["/callbacks/ota"]),
    ):
        event = paths.event(CallbackRequest("POST", "/callbacks/x", b"", headers, BODY, datetime.now(UTC), peer))
        assert expected == event.data["authentic_for"]


@rows("name", [name for name in CALLBACKS if name != "email-dr"])
def test_the_nearest_path(name: str) -> None:
    """Letter case, another separator, a letter more or less, a token behind it: the callback is found."""
    paths, meant = unknown(), f"/callbacks/{name}"
    for typed in (name.upper(), name.replace("-", "_") + "_", name + "s", name + "/some-token", name + "x/"):
        assert meant == paths.nearest(f"/callbacks/{typed}"), typed
    for typed in (f"//callbacks/{name}", f"/callbacks//{name}", f"/Callbacks/{name}", f"/CALLBACKS/{name.upper()}"):
        assert paths.may_keep("POST", typed), typed
        assert meant == paths.nearest(typed), typed


@given(st.text(max_size=300))
def test_any_path_can_be_compared(text: str) -> None:
    """The nearest path is a known one or none; a path like none is not given one."""
    assert unknown().nearest("/callbacks/" + text) in {"", *(row.path for row in PATHS)}


def test_nothing_is_near_to_something_else() -> None:
    """A suggestion is worth something."""
    assert ["", "", ""] == [unknown().nearest(f"/callbacks/{name}") for name in ("qqqqqq", "", "4a7d")]


async def test_a_large_body_is_kept_whole(serve: Serve) -> None:
    """Also one that is worked on in the thread, without the token of another path."""
    running = await serve(callbacks=AUTH)
    body = b"x=" + b"x" * 500_000 + b"&token=token-of-sms"
    assert 404 == (await running.post("/callbacks/smsdr", body)).status
    (event,) = await running.events()
    assert event["data"]["body"].startswith("x=" + "x" * 500_000)
    assert "token-of-sms" not in event["data"]["body"]


def test_the_event_names_its_schema() -> None:
    """The published one, where an address is configured."""
    paths = UnknownPaths(
        endpoints(SECTION, "https://schemas.example.com/"), most_kept=1, clock=lambda: datetime(2026, 1, 2, tzinfo=UTC)
    )
    event = paths.event(CallbackRequest("POST", "/callbacks/x", b"", {}, BODY, datetime.now(UTC), ""))
    assert "https://schemas.example.com/v1/callbacks.rejected.json" == event.dataschema


async def test_a_body_that_is_too_large_is_not_kept() -> None:
    """As on known paths, but the answer is that of an unknown one."""
    outcome = await talk(PATHS, [post("/callbacks/smsdr", b"x" * 2000)], is_fast=True, max_body_bytes=1000)
    assert (True, [], True) == (outcome.answered.startswith(b"HTTP/1.1 404"), outcome.stored, outcome.is_closed)


async def test_a_body_that_does_not_come_is_not_kept(serve: Serve) -> None:
    """404 after ``ingest.read_timeout``, and the connection ends."""
    running = await serve(read_timeout=0.2)
    reply = await running.raw(post("/callbacks/smsdr", b"x" * 100)[:-50])
    assert (404, "close") == (reply.status, reply.headers["connection"])
    assert [] == await running.stored()


@rows(("most", "processes", "expected"), [(1000, 3, 333), (2, 4, 1), (0, 4, 0), (7, 1, 7)])
def test_processes_share_the_bound(most: int, processes: int, expected: int) -> None:
    """Each has its part, and of a bound that is not 0 at least one request."""
    paths = UnknownPaths(PATHS, most_kept=most, processes=processes, clock=lambda: datetime(2026, 1, 2, tzinfo=UTC))
    assert expected == [paths.may_keep("POST", "/callbacks/x") for _ in range(1200)].count(True)


async def test_a_full_journal_says_so() -> None:
    """What could not be kept may be sent again."""
    outcome = await talk(PATHS, [post("/callbacks/smsdr", b"log-is-full")], is_fast=True)
    assert (True, []) == (outcome.answered.startswith(b"HTTP/1.1 503"), outcome.stored)
