"""Email verification code receipts (protocol.md, section 29)."""

from __future__ import annotations

from typing import Final

from gateway.callbacks.fields import identifier, is_one_of, local_time, money, text, texts, words
from gateway.callbacks.plan import Field, coded
from gateway.callbacks.shape import Shape

STATUS: Final = {"DELIVRD": "delivered", "UNDELIV": "undelivered", "UNDELIVR": "undelivered"}

EMAIL_DR: Final = Shape(
    "nxcloud.email.dr",
    "email.dr",
    "Email verification code receipt",
    page="Email Verification Code Receipt Callback",
    section="29",
    certainty="confirmed",
    required="message_id",
    key=("message_id",),
    time=("sent_at",),
    fields=(
        Field("message_id", "messageId", identifier),
        Field("from", "sender", text),
        Field("to", "receiver", texts, "Addresses"),
        *coded("status", "status_code", "result", words(STATUS), text),
        Field("delivered", "result", is_one_of("DELIVRD")),
        Field("result", "result", text),
        Field("price.amount", "price", money),
        Field("sent_at", "sendTime", local_time),
    ),
)
