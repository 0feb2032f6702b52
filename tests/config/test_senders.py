"""What the section of another sender may say, and the sentence for what it may not."""

from __future__ import annotations

import pytest

from gateway.config.loading import loads
from gateway.errors import ConfigError
from tests.rows import rows

SIGNATURES = [
    ("scheme: twilio, secret: x", "url: is needed with scheme: twilio"),
    ("url: 'https://a.example/x', secret: x", "url: only with scheme: twilio"),
    ("scheme: meta, secret: x, header: y", "header: only with scheme: hmac; meta has its own"),
    ("scheme: stripe, secret: x, algorithm: sha1", "algorithm: only with scheme: hmac"),
    ("scheme: shopify, secret: x, prefix: y", "prefix: only with scheme: hmac"),
    ("scheme: slack, secret: x, encoding: base64", "encoding: only with scheme: hmac"),
    ("scheme: github, secret: x, window: 1m", "window: github signs no time"),
    ("scheme: standard-webhooks, secret: x", "secret: a secret is whsec_ followed by base64"),
    ("scheme: standard-webhooks, secrets: [whpk_AAAA]", "secrets[0]: whpk_ must be followed by"),
    ("scheme: standard-webhooks, header: X-Sign", "begin with webhook (the default) or svix"),
    ("scheme: telegram, secret: x", "scheme"),
    ("scheme: meta, secret: x, access_key: y", "access_key: only the platform's own"),
]
ROWS = [
    ("each: events", "each: not a path such as $.events"),
    ("each: $$.events", "each: not a path such as $.events"),
    ("time: $$.at", "time: $$ is the body around the items of each"),
    ("type: $.", "type: not a path such as"),
    ("each: $.events, decoder: form", "each: only with decoder: json"),
]
OTHERS = [
    ("whatsapp: {auth: {signature: {secret: x, scheme: meta}}}", "scheme: only for other senders"),
    ("whatsapp: {each: $.a}", "each: only other senders' callbacks have it"),
    ("unknown-path: {decoder: json, topic: t, key: $.a}", "the name is kept for requests to unknown paths"),
]


def problem(callbacks: str) -> str:
    with pytest.raises(ConfigError) as refusal:
        loads(f"ingest: {{callbacks: {{{callbacks}}}}}", {})
    (found,) = refusal.value.problems
    return found


@rows(("text", "expected"), SIGNATURES)
def test_a_signature(text: str, expected: str) -> None:
    """Each scheme has the settings that it needs and no others; secrets can be used."""
    found = problem(f"x: {{decoder: json, topic: t, key: $.a, auth: {{signature: {{{text}}}}}}}")
    assert expected in found


@rows(("text", "expected"), ROWS)
def test_paths_in_the_payload(text: str, expected: str) -> None:
    """Paths can be read, and are relative to something that is there."""
    decoder = "" if "decoder" in text else "decoder: json, "
    assert expected in problem(f"x: {{{decoder}topic: t, key: $.a, {text}}}")


@rows(("text", "expected"), OTHERS)
def test_other_sections(text: str, expected: str) -> None:
    """What a built-in callback does not have, and the one name that is taken."""
    assert expected in problem(text)
