"""The headers with which other senders sign, for requests that tests make up."""

from __future__ import annotations

import base64
import hmac

from gateway.callbacks.sender_signatures import slack_signature, stripe_signature, twilio_signature
from gateway.callbacks.signature import SignaturePolicy
from gateway.errors import Unauthenticated
from gateway.signing import Signer


def signed_headers(policy: SignaturePolicy, body: bytes, *, ts: int, own_id: str = "msg_1") -> dict[str, str]:
    """Names and values, by the last of the secrets. A form that Twilio would not send is signed wrongly."""
    secret = policy.secrets[-1]
    if policy.scheme == "standard-webhooks":
        sign = Signer([secret]).sign(own_id, ts, body)
        return {"webhook-id": own_id, "webhook-timestamp": str(ts), "webhook-signature": sign}
    if policy.scheme == "stripe":
        return {"stripe-signature": f"t={ts},v1={stripe_signature(secret, str(ts), body)}"}
    if policy.scheme == "slack":
        return {"x-slack-request-timestamp": str(ts), "x-slack-signature": slack_signature(secret, str(ts), body)}
    if policy.scheme == "twilio":
        try:
            return {"x-twilio-signature": twilio_signature(secret, policy.url, body)}
        except Unauthenticated:
            return {"x-twilio-signature": "none"}
    assert policy.scheme == "hmac"
    digest = hmac.digest(secret.encode(), body, policy.digest)
    text = digest.hex() if policy.encoding == "hex" else base64.b64encode(digest).decode()
    return {policy.header.lower(): policy.prefix + text}
