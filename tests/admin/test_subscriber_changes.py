"""Subscribers at run time, through the interface of a gateway with its journal: life, secrets, roles, audit record."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.admin.auth import CHANGES
from gateway.admin.openapi import READS, openapi_admin
from gateway.config.settings import Settings
from gateway.fanout.subscriber_records import fingerprint
from gateway.signing import verify
from tests.admin.running import Running, running, webhook
from tests.gateway.subscriber import Subscriber, accept
from tests.waiting import until

KEY = base64.b64encode(bytes(range(32))).decode()
SIGNING = "whsec_" + base64.b64encode(b"a secret to look for, 32 bytes..").decode()
HEADER = "header-secret-5b1e77"
PATH = "path-secret-90c4d2"
TOKENS = {"read": "reader-7c11", "operate": "operator-2f08", "admin": "chief-9aa3"}


@pytest.fixture
async def receiver() -> AsyncIterator[Subscriber]:
    async with Subscriber(accept) as one:
        yield one


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path, admin={"secrets_key": KEY}) as started:
        yield started


async def ask(
    gateway: Running, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, dict[str, Any], Mapping[str, str]]:
    """Status, document and headers of an answer."""
    given = {**gateway.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
    url, data = gateway.url + path, None if method == "GET" else orjson.dumps(body or {})
    given |= {} if data is None else {"Content-Type": "application/json"}
    async with gateway.session.request(method, url, data=data, headers=given) as response:
        return response.status, orjson.loads(await response.read()), response.headers


async def done(gateway: Running, method: str, path: str, body: Any = None, **headers: str) -> dict[str, Any]:
    status, found, _ = await ask(gateway, method, path, body, **headers)
    assert status < 300, found
    return found


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_a_life(gateway: Running, receiver: Subscriber) -> None:
    """Added, gets what comes after it; changed, signed, tested, paused, removed; and who did it is recorded."""
    await gateway.sms(0)
    added = await done(gateway, "POST", "/api/subscribers", webhook("crm", receiver.url))
    assert ("api", "crm", []) == (added["source"], added["settings"]["name"], added["secrets"])
    await gateway.sms(1)
    await receiver.until(lambda: len(receiver.ids) == 1)
    assert {"m-1": 1} == dict(receiver.subjects)  # what came before it was added is not for it
    listed = (await gateway.get("/api/subscribers"))["subscribers"]
    assert [("crm", "api")] == [(one["name"], one["source"]) for one in listed]

    changed = await done(gateway, "PATCH", "/api/subscribers/crm", {"timeout_s": "3s", "retry": {"attempts": 7}})
    assert ("3s", 7, 0.02) == (
        changed["settings"]["timeout_s"],
        changed["settings"]["retry"]["attempts"],
        changed["settings"]["retry"]["first_delay_s"],
    )
    rotated = await done(gateway, "POST", "/api/subscribers/crm/rotate-secret")
    assert rotated["secret"].startswith("whsec_")
    tested = await done(gateway, "POST", "/api/subscribers/crm/test", {"type": "nxcloud.sms.dr"})
    headers = dict(tested["request"]["headers"])
    body = orjson.dumps(tested["request"]["body"])
    verify([rotated["secret"]], headers, body, float(headers["webhook-timestamp"]), 1.0)
    assert (200, "nxcloud.sms.dr", "true") == (
        tested["answer"]["status"],
        tested["request"]["body"]["type"],
        headers["gateway-test"],
    )
    assert tested["event_id"] in receiver.ids
    await done(gateway, "POST", "/api/subscribers/crm/pause")
    await done(gateway, "POST", "/api/subscribers/crm/resume")
    await done(gateway, "DELETE", "/api/subscribers/crm")
    assert [] == (await gateway.get("/api/subscribers"))["subscribers"]
    assert 404 == (await ask(gateway, "GET", "/api/subscribers/crm"))[0]
    records = (await gateway.get("/api/audit", subject="crm"))["records"]
    assert ["remove", "resume", "pause", "test", "rotate", "set", "add"] == [one["action"] for one in records]
    assert {"anonymous"} == {one["who"] for one in records}
    assert ["retry.attempts", "timeout_s"] == records[5]["changed"]


async def test_what_is_added_outlives_the_gateway(tmp_path: Path, receiver: Subscriber) -> None:
    """Also without the key, as far as it is not sealed; and a changed one as it was changed last."""
    async with running(tmp_path) as gateway:
        await done(gateway, "POST", "/api/subscribers", webhook("crm", receiver.url))
        await done(gateway, "POST", "/api/subscribers", webhook("gone", receiver.url))
        await done(gateway, "DELETE", "/api/subscribers/gone")
        await done(gateway, "PATCH", "/api/subscribers/crm", {"concurrency": 3})
    async with running(tmp_path) as gateway:
        found = await gateway.get("/api/subscribers")
        assert [("crm", 3)] == [(one["name"], one["concurrency"]) for one in found["subscribers"]]
        await gateway.sms(1)
        await receiver.until(lambda: receiver.subjects["m-1"] == 1)


async def test_secrets_are_nowhere(tmp_path: Path, receiver: Subscriber) -> None:
    """Neither on disk nor in a log line, an answer, or the record of changes: what was given and what was made."""
    secret = webhook("crm", f"{receiver.url}/{PATH}", secrets=[SIGNING], headers={"X-Team": HEADER})
    said: list[str] = []
    tokens = [{"name": name, "role": name, "token": text} for name, text in TOKENS.items()]
    with structlog.testing.capture_logs() as lines:
        async with running(tmp_path, admin={"secrets_key": KEY, "tokens": tokens}) as gateway:
            gateway.headers["Authorization"] = f"Bearer {TOKENS['admin']}"
            made = []
            for method, path, body in (
                ("POST", "/api/subscribers", secret),
                ("POST", "/api/subscribers", {**secret, "timeout_s": "never"}),
                ("PATCH", "/api/subscribers/crm", {"headers": {"X-Other": HEADER}}),
                ("POST", "/api/subscribers/crm/rotate-secret", {}),
                ("POST", "/api/subscribers/crm/test", {}),
                ("GET", "/api/subscribers/crm", None),
                ("GET", "/api/subscribers", None),
                ("GET", "/api/overview", None),
                ("GET", "/api/audit", None),
            ):
                _, found, _ = await ask(gateway, method, path, body)
                made += [found.pop("secret")] if found.get("secret") else []
                said.append(orjson.dumps(found).decode())
            await gateway.sms(1)
            await receiver.until(lambda: receiver.subjects["m-1"] == 1)
            assert HEADER == receiver.headers[-1]["x-other"]
            # An address is shown to who may set it, and to nobody else.
            assert PATH in said[5]
            gateway.headers["Authorization"] = f"Bearer {TOKENS['operate']}"
            for method, path in (("GET", "/api/subscribers/crm"), ("POST", "/api/subscribers/crm/test")):
                assert PATH not in orjson.dumps((await ask(gateway, method, path))[1]).decode()
    assert 1 == len(made)
    assert [fingerprint(made[0]), fingerprint(SIGNING)] == re.findall(r'"fingerprint":"(\w+)"', said[5])
    on_disk = everything_in(tmp_path)
    assert b"crm" in on_disk
    for hidden in (SIGNING, HEADER, made[0], SIGNING.removeprefix("whsec_"), KEY):
        assert hidden not in "".join(said)
        assert hidden not in str(lines)
        assert hidden.encode() not in on_disk
    assert PATH.encode() not in on_disk


async def test_without_a_key_no_secret_is_taken(tmp_path: Path, receiver: Subscriber) -> None:
    """The sentence says how to make one; a subscriber without secrets needs none."""
    async with running(tmp_path) as gateway:
        for more in ({"secrets": [SIGNING]}, {"headers": {"X-Team": HEADER}}):
            status, found, _ = await ask(gateway, "POST", "/api/subscribers", webhook("crm", receiver.url, **more))
            assert 422 == status
            assert "openssl rand -base64 32" in found["error"]
            assert "admin.secrets_key" in found["error"]
        await done(gateway, "POST", "/api/subscribers", webhook("crm", receiver.url))
        assert 422 == (await ask(gateway, "POST", "/api/subscribers/crm/rotate-secret"))[0]


async def test_the_rules_are_those_of_the_file(gateway: Running, receiver: Subscriber) -> None:
    """Every problem with its key path, all at once; nothing is added, and nothing of the environment is read."""
    good = webhook("crm", receiver.url)
    for wrong, sentence in (
        ({**good, "topics": ["sms.rd"]}, "topics[0]: no callback has the topic 'sms.rd'; did you mean 'sms.dr'?"),
        ({**good, "time_out": 3}, "time_out: unknown key; did you mean 'timeout_s'?"),
        ({**good, "name": "Ä"}, "name: use lower-case letters"),
        ({**good, "name": "fanout"}, "name: 'fanout' is the name of a place in the log of the gateway's own"),
        ({**good, "filter": {"exakt": {}}}, "filter"),
        ({**good, "secrets": ["x"]}, "secrets[0]: "),
        ({**good, "secrets": ["${HOME}"]}, "secrets[0]: "),
        ({**good, "headers": {"Host": "x"}}, "headers.Host: this header is the gateway's own"),
        ({**good, "url": "ftp://x"}, "url: "),
        ({"name": "crm", "topics": ["sms.dr"]}, "url: a webhook needs an address"),
        ({**good, "retry": {"attempts": 0}}, "retry.attempts: must be at least 1"),
        ({**good, "tls": {"cert_file": "/no/such"}}, "tls.cert_file"),
        ({"name": "crm", "topics": ["sms.dr"], "kind": "file", "path": "x"}, "kind: a file is written by"),
    ):
        status, found, _ = await ask(gateway, "POST", "/api/subscribers", wrong)
        assert (422, True) == (status, sentence in found["error"]), found
    two = {**good, "timeout_s": 0, "concurrency": 0}
    assert 2 == len((await ask(gateway, "POST", "/api/subscribers", two))[1]["error"].splitlines())
    deep: Any = "x"
    for _ in range(120):
        deep = {"all": [deep]}
    assert 400 == (await ask(gateway, "POST", "/api/subscribers", {**good, "filter": deep}))[0]
    assert 400 == (await ask(gateway, "POST", "/api/subscribers", ["no object"]))[0]
    assert [] == (await gateway.get("/api/subscribers"))["subscribers"]
    assert [] == (await gateway.get("/api/audit"))["records"]


async def test_those_of_the_file_are_read_only_and_win(tmp_path: Path, receiver: Subscriber) -> None:
    async with running(tmp_path) as gateway:
        await done(gateway, "POST", "/api/subscribers", webhook("crm", receiver.url, concurrency=1))
    of_file = webhook("crm", receiver.url, concurrency=9, secrets=[SIGNING])
    async with running(tmp_path, subscribers=[of_file]) as gateway:
        (listed,) = (await gateway.get("/api/subscribers"))["subscribers"]
        assert ("file", 9) == (listed["source"], listed["concurrency"])
        shown = await gateway.get("/api/subscribers/crm")
        assert ("file", [fingerprint(SIGNING)]) == (shown["source"], [one["fingerprint"] for one in shown["secrets"]])
        for method, path in (
            ("POST", "/api/subscribers"), ("PATCH", "/api/subscribers/crm"), ("DELETE", "/api/subscribers/crm"),
            ("POST", "/api/subscribers/crm/rotate-secret"),
        ):  # fmt: skip
            status, found, _ = await ask(
                gateway, method, path, webhook("crm", receiver.url) if method == "POST" and path.endswith("s") else {}
            )
            assert (409, True) == (status, "configuration file" in found["error"])
    async with running(tmp_path) as gateway:  # it is no longer in the file
        (listed,) = (await gateway.get("/api/subscribers"))["subscribers"]
        assert ("api", 1) == (listed["source"], listed["concurrency"])


async def test_a_change_of_what_was_changed_meanwhile_is_refused(gateway: Running, receiver: Subscriber) -> None:
    """``If-Match`` with an old entity tag: 412, and nothing is changed. The current one, and none: it is."""
    *_, headers = await ask(gateway, "POST", "/api/subscribers", webhook("crm", receiver.url))
    path, etag = headers["Location"], headers["ETag"]
    assert etag == (await ask(gateway, "GET", path))[2]["ETag"]
    await done(gateway, "PATCH", path, {"concurrency": 2}, If_Match=etag)
    for method in ("PATCH", "DELETE"):
        status, found, _ = await ask(
            gateway, method, path, {} if method == "DELETE" else {"concurrency": 3}, If_Match=etag
        )
        assert (412, True) == (status, "read it again" in found["error"])
    assert 2 == (await gateway.get(path))["settings"]["concurrency"]
    _, _, headers = await ask(gateway, "PATCH", path, {"concurrency": None})
    assert "concurrency" not in (await gateway.get(path))["settings"]
    assert headers["ETag"] == (await ask(gateway, "PATCH", path, {}))[2]["ETag"]  # nothing to change
    assert 422 == (await ask(gateway, "PATCH", path, {"name": "other"}))[0]
    assert 409 == (await ask(gateway, "POST", "/api/subscribers", webhook("crm", receiver.url)))[0]
    await done(gateway, "DELETE", path, If_Match="*")
    assert 404 == (await ask(gateway, "PATCH", path, {"concurrency": 3}))[0]


async def test_a_secret_signs_until_it_ends(gateway: Running, receiver: Subscriber) -> None:
    """Two signatures during the overlap, one after it; an own secret is taken and not shown; one can be ended."""
    await done(gateway, "POST", "/api/subscribers", webhook("crm", receiver.url, secrets=[SIGNING]))
    path, other = "/api/subscribers/crm", "whsec_" + base64.b64encode(b"x" * 32).decode()
    found = await done(gateway, "POST", f"{path}/rotate-secret", {"secret": other, "overlap_s": 2})
    assert (None, fingerprint(other)) == (found["secret"], found["fingerprint"])
    assert [False, True] == [one["ends_at"] is not None for one in found["secrets"]]
    await gateway.sms(1)
    await receiver.until(lambda: receiver.subjects["m-1"] == 1)
    assert 2 == len(receiver.headers[-1]["webhook-signature"].split())
    await gateway.until(path, lambda found: len(found["secrets"]) == 1)

    async def is_signed_once() -> bool:
        headers = dict((await done(gateway, "POST", f"{path}/test"))["request"]["headers"])
        return len(headers["webhook-signature"].split()) == 1

    await until(is_signed_once, within_s=10, look_s=0.2)
    await gateway.sms(2)
    await receiver.until(lambda: receiver.subjects["m-2"] == 1)
    assert 1 == len(receiver.headers[-1]["webhook-signature"].split())
    assert 404 == (await ask(gateway, "DELETE", f"{path}/secrets/{fingerprint(SIGNING)}"))[0]
    await done(gateway, "DELETE", f"{path}/secrets/{fingerprint(other)}")
    await gateway.sms(3)
    await receiver.until(lambda: receiver.subjects["m-3"] == 1)
    assert "webhook-signature" not in receiver.headers[-1]
    assert 422 == (await ask(gateway, "POST", f"{path}/rotate-secret", {"secret": "short"}))[0]


async def test_a_post_sent_again_with_its_key_is_not_done_again(gateway: Running, receiver: Subscriber) -> None:
    """The same answer, the secret included; another body is refused; another key is another request."""
    body = webhook("crm", receiver.url)
    first = await ask(gateway, "POST", "/api/subscribers", body, Idempotency_Key="one")
    again = await ask(gateway, "POST", "/api/subscribers", body, Idempotency_Key="one")
    assert (201, first[1]) == again[:2]
    assert ("true", first[2]["ETag"]) == (again[2]["Idempotency-Replayed"], again[2]["ETag"])
    assert 422 == (await ask(gateway, "POST", "/api/subscribers", {**body, "name": "x"}, Idempotency_Key="one"))[0]
    path = "/api/subscribers/crm/rotate-secret"
    secrets = [(await done(gateway, "POST", path, Idempotency_Key=key))["secret"] for key in ("a", "a", "b")]
    assert secrets[0] == secrets[1] != secrets[2]
    assert ["rotate", "rotate", "add"] == [one["action"] for one in (await gateway.get("/api/audit"))["records"]]


async def test_a_test_shows_what_went_wrong(gateway: Running, receiver: Subscriber) -> None:
    """A private address that is not permitted, a port where nobody listens, a refusal, a filter, another type."""
    await done(gateway, "POST", "/api/subscribers", webhook("crm", receiver.url, filter={"exact": {"type": "no.such"}}))
    path = "/api/subscribers/crm"
    found = await done(gateway, "POST", f"{path}/test")
    assert (True, "filter.exact.type") == (found["is_success"], found["filtered_by"])
    receiver.behave = refuse_with_422
    found = await done(gateway, "POST", f"{path}/test")
    assert (False, 422) == (found["is_success"], found["answer"]["status"])
    await done(gateway, "PATCH", path, {"url": "http://127.0.0.1:1/"})
    found = await done(gateway, "POST", f"{path}/test")
    assert (None, True) == (found["answer"], "connect" in found["error"])
    await done(gateway, "PATCH", path, {"allow_private": False})
    found = await done(gateway, "POST", f"{path}/test")
    assert (None, True) == (found["answer"], "private" in found["error"] or "loopback" in found["error"]), found[
        "error"
    ]
    status, found, _ = await ask(gateway, "POST", f"{path}/test", {"type": "nxcloud.sms.rd"})
    assert (400, True) == (status, "did you mean 'nxcloud.sms.dr'" in found["error"])
    await done(gateway, "POST", "/api/subscribers", {"name": "feed", "topics": ["sms.dr"], "kind": "stream"})
    assert 409 == (await ask(gateway, "POST", "/api/subscribers/feed/test"))[0]


async def refuse_with_422(_: dict[str, Any]) -> int:
    return 422


async def test_each_role_may_what_the_table_says(tmp_path: Path) -> None:
    """Every route that changes something, with every token: 403 names the role that is needed, and nothing else is."""
    tokens = [{"name": name, "role": name, "token": text} for name, text in TOKENS.items()]
    async with running(tmp_path, admin={"tokens": tokens, "token": "root-1"}) as gateway:
        routes = {
            (route.method, route.resource.canonical)
            for route in gateway.app.admin.application().router.routes()
            if route.resource is not None and route.method not in ("GET", "HEAD")
        }
        assert routes == CHANGES.keys()
        ranks = list(TOKENS)
        for (method, path), change in CHANGES.items():
            concrete = re.sub(r"\{\w+\}", "nobody", path)
            for name, token in TOKENS.items():
                status, found, _ = await ask(gateway, method, concrete, Authorization=f"Bearer {token}")
                if ranks.index(name) < ranks.index(change.role):
                    assert (403, True) == (status, f"the role '{change.role}'" in found["error"])
                else:
                    assert status in (200, 400, 404, 422), (method, path, name, found)
            assert 401 == (await ask(gateway, method, concrete, Authorization="Bearer wrong"))[0]
        for name, token in TOKENS.items():
            gateway.headers["Authorization"] = f"Bearer {token}"
            assert {"name": name, "role": name} == await gateway.get("/api/me")
            await gateway.get("/api/subscribers")
        gateway.headers["Authorization"] = "Bearer root-1"
        assert {"name": "admin", "role": "admin"} == await gateway.get("/api/me")


async def test_the_document_has_every_route(gateway: Running) -> None:
    """OpenAPI of the admin port: valid, and neither a route too many nor one too few."""
    document = openapi_admin(Settings())
    OpenAPIV31SpecValidator(document).validate()
    routes = gateway.app.admin.application().router.routes()
    served = {
        (route.method, route.resource.canonical)
        for route in routes
        if route.resource is not None and route.resource.canonical.startswith("/api/") and route.method != "HEAD"
    }
    described = {(method.upper(), path) for path, row in document["paths"].items() for method in row}
    assert served == described
    assert len(READS) > 10
