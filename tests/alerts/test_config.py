"""The section ``alerts``: every problem with its key path, and no secret in a sentence."""

from __future__ import annotations

import pytest

from gateway.config.loading import loads
from gateway.errors import ConfigError

MAIL = "{host: mail.example.com, from: gateway@example.com, to: ops@example.com"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("{name: ops}", "alerts[0].webhook"),
        ("{name: ops, slack: {url: 'https://a.example'}, email: " + MAIL + "}}", "alerts[0].webhook"),
        ("{name: ops, slack: {url: 'secret words'}}", "alerts[0].slack.url"),
        ("{name: ops, webhook: {url: 'https://a.example', secrets: [secret]}}", "alerts[0].webhook.secrets[0]"),
        ("{name: ops, email: " + MAIL + ", user: me, password: secret, tls: none}}", "alerts[0].email.tls"),
        ("{name: ops, slack: {url: 'https://a.example'}, rules: [subscriber_gone]}", "alerts[0].rules[0]"),
        ("{name: ops, slack: {url: 'https://a.example'}, thresholds: {dead_leters: 2}}", "did you mean 'dead_letters'"),
        (
            "[{name: a, slack: {url: 'https://a.example'}}, {name: a, slack: {url: 'https://a.example'}}]",
            "alerts[1].name",
        ),
    ],
)
def test_what_cannot_be_used(text: str, path: str) -> None:
    with pytest.raises(ConfigError) as raised:
        loads("alerts: " + (text if text.startswith("[") else f"[{text}]"), {})
    assert path in str(raised.value)
    assert "secret words" not in str(raised.value)


def test_one_receiver_needs_no_list_and_has_defaults() -> None:
    (alert,) = loads("alerts: {name: ops, email: " + MAIL + "}}", {}).alerts
    assert alert.email is not None
    assert (alert.email.sender, alert.email.to, alert.email.port) == ("gateway@example.com", ["ops@example.com"], 587)
    assert (len(alert.rules), alert.repeat, alert.interval) == (5, 14_400, 60)
