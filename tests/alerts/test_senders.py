from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import orjson
import pytest
from standardwebhooks import Webhook

from gateway.alerts.rules import Key, Notice, State
from gateway.alerts.senders import NotSent, send
from gateway.config.sections import Alert
from tests.alerts.receivers import http_receiver, mail_server
from tests.fanout.authority import Authority
from tests.ports import free_port

SECRET = "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"


def alert(**way: Any) -> Alert:
    return Alert.model_validate({"name": "ops", **way})


def notices(*states: State) -> list[Notice]:
    return [
        Notice(Key("subscriber_down", f"s{number}"), state, f"Subscriber s{number} is down.", 1_770_000_000.0)
        for number, state in enumerate(states)
    ]


async def test_a_webhook_is_json_and_signed_by_standard_webhooks() -> None:
    async with http_receiver() as receiver:
        way = {"url": receiver.url, "secrets": [SECRET], "headers": {"Authorization": "Bearer x"}}
        await send(alert(webhook=way), notices("firing", "resolved"))
    ((headers, body),) = receiver.posts
    document = Webhook(SECRET).verify(body.decode(), {name.lower(): value for name, value in headers.items()})
    assert headers["Authorization"] == "Bearer x"
    assert document["receiver"] == "ops"
    assert document["alerts"][0] == {
        "rule": "subscriber_down",
        "subject": "s0",
        "state": "firing",
        "since": "2026-02-02T02:40:00+00:00",
        "text": "Subscriber s0 is down.",
    }


async def test_slack_gets_one_text_of_bounded_size() -> None:
    """A hundred subscribers at once are one message."""
    async with http_receiver() as receiver:
        await send(alert(slack={"url": receiver.url}), notices(*["firing"] * 100))
    text = orjson.loads(receiver.posts[0][1])["text"]
    assert "100 firing" in text.splitlines()[0]
    assert text.splitlines()[-1] == "and 70 more"


@pytest.mark.parametrize("status", [301, 404, 500])
async def test_what_is_not_accepted_is_a_sentence_without_the_address(status: int) -> None:
    """It may hold a secret. Redirects are not followed."""
    async with http_receiver() as receiver:
        receiver.status = status
        with pytest.raises(NotSent) as raised:
            await send(alert(slack={"url": receiver.url}), notices("test"))
    assert str(raised.value) == f"127.0.0.1 answered {status}"


async def test_nobody_listens() -> None:
    for way in (
        {"slack": {"url": f"http://127.0.0.1:{free_port()}/x"}},
        {"email": {"host": "127.0.0.1", "port": free_port(), "tls": "none", "from": "a@b.c", "to": "d@e.f"}},
    ):
        with pytest.raises(NotSent, match="cannot be reached"):
            await send(alert(**way), notices("test"))


async def test_a_mail_in_clear() -> None:
    async with mail_server() as (box, port):
        way = {
            "host": "127.0.0.1",
            "port": port,
            "tls": "none",
            "from": "gateway@example.com",
            "to": ["ops@example.com"],
        }
        await send(alert(email=way), notices("firing"))
        await send(alert(email={**way, "to": ["a@example.com", "b@example.com"]}), notices("firing", "resolved"))
        box.refused = "nobody@example.com"
        with pytest.raises(NotSent, match=r"refuses nobody@example\.com"):
            await send(alert(email={**way, "to": "nobody@example.com"}), notices("firing"))
    first, second = box.mails
    assert first["Subject"].endswith(": firing: subscriber down (s0)")
    assert "FIRING Subscriber s0 is down. (since 2026-02-02 02:40 UTC)" in first.get_payload(decode=True).decode()
    assert second["Subject"].endswith(": 1 firing, 1 resolved")
    assert box.envelopes[1] == ("gateway@example.com", ["a@example.com", "b@example.com"])


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_a_mail_by_tls(tls: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate is checked; after STARTTLS it logs in."""
    authority = Authority(tmp_path, "authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.issue("mail"))
    way: dict[str, Any] = {"host": "127.0.0.1", "tls": tls, "from": "gateway@example.com", "to": "ops@example.com"}
    if tls == "starttls":
        way |= {"user": "gateway", "password": "pass-word"}
    async with mail_server(tls=context, is_implicit=tls == "implicit") as (box, port):
        with pytest.raises(NotSent, match="TLS failed"):
            await send(alert(email={**way, "port": port}), notices("firing"))
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        await send(alert(email={**way, "port": port}), notices("firing"))
        if tls == "starttls":
            with pytest.raises(NotSent, match="SMTP server answered 535"):
                await send(alert(email={**way, "port": port, "password": "wrong"}), notices("firing"))
    assert len(box.mails) == 1
