"""Requests of other senders, and the configuration of the documentation that takes them.

``tests/senders/<callback>/<case>/`` has ``request.http`` and ``body`` as on the wire, signed at ``NOW`` of
:mod:`tests.ingest.wire`, and ``expected.json``: ``events`` with some of their attributes; ``raw`` (parsed) or
``raw_bytes`` of each, where it is not the whole body; ``answer`` as type and body, where it is not the usual one.

Bodies, secrets and signatures are those of the senders' public documents where they print them (Standard Webhooks,
Twilio, GitHub, Slack, Meta's and Stripe's bodies); the rest is signed as the documents say, without our code.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gateway.config.loading import loads
from gateway.config.settings import Ingest
from gateway.ingest.endpoints import Endpoints, endpoints
from tests.tour import ROOT

SECRETS = {
    "OTHER_GATEWAY_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "TWILIO_AUTH_TOKEN": "12345",
    "META_APP_SECRET": "app-secret",
    "META_VERIFY_TOKEN": "meatyhamhock",
    "STRIPE_SIGNING_SECRET": "whsec_stripe-signing-secret",
    "GITHUB_SECRET": "It's a Secret to Everybody",
    "SHOPIFY_SECRET": "shpss_secret",
    "SLACK_SIGNING_SECRET": "8f742231b10e8888abcd99yyyzzz85a5",
    "SHOP_SECRET": "shop-secret",
    "CLOUD_EVENTS_TOKEN": "cloud-token",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One request and what it must become."""

    name: str
    head: bytes
    body: bytes
    expected: dict[str, Any]

    @property
    def wire(self) -> bytes:
        """The request as on the wire."""
        return self.head.strip().replace(b"\n", b"\r\n") + b"\r\n\r\n" + self.body

    def __str__(self) -> str:
        return self.name


def all_samples() -> list[Sample]:
    """Every sample, sorted by name."""
    return [
        Sample(
            "/".join(folder.parts[-2:]),
            (folder / "request.http").read_bytes(),
            (folder / "body").read_bytes(),
            json.loads((folder / "expected.json").read_text("utf-8")),
        )
        for folder in sorted(path.parent for path in Path(__file__).parent.glob("*/*/body"))
    ]


def _snippet() -> str:
    page = (ROOT / "deploy/docs/interface.md").read_text("utf-8")
    found = re.search(r"<!-- senders -->\n```yaml\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return found[1]


def documented() -> Ingest:
    """The configuration of other senders, as the documentation has it."""
    return loads(_snippet(), SECRETS).ingest


def documented_callbacks() -> dict[str, Any]:
    """The same as plain values, for a gateway that is started with them."""
    quoted = re.sub(r"\"?\$\{(\w+):-\}\"?", lambda name: json.dumps(SECRETS[name[1]]), _snippet())
    callbacks: dict[str, Any] = yaml.safe_load(quoted)["ingest"]["callbacks"]
    return callbacks


def documented_paths() -> Endpoints:
    """The paths of that configuration."""
    return endpoints(documented())
