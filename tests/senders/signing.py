"""The headers with which other senders sign, for requests that tests make up."""

from __future__ import annotations

from dataclasses import replace

from gateway.callbacks.signature import SignaturePolicy
from gateway.errors import Unauthenticated
from gateway.traffic.client import sender_headers


def signed_headers(policy: SignaturePolicy, body: bytes, *, ts: int) -> dict[str, str]:
    """Names and values, by the last of the secrets. A form that Twilio would not send is signed wrongly."""
    try:
        return dict(sender_headers(replace(policy, secrets=policy.secrets[-1:]), body, ts, "msg_1"))
    except Unauthenticated:
        return {policy.signature_header: "none"}
