"""Email verification code receipts (protocol.md, section 29)."""

from __future__ import annotations

from typing import Final

from gateway.callbacks.event_schema import EventSchema, VendorPage
from gateway.callbacks.field_mapping import Field, coded
from gateway.callbacks.fields import identifier, local_time, money, text, texts, words
from gateway.callbacks.messages import DELIVERY_LINES, settle_delivery
from gateway.callbacks.vocabulary import EMAIL_STATUS

STATUS: Final = {"DELIVRD": "delivered", "UNDELIV": "undelivered", "UNDELIVR": "undelivered"}

EMAIL_DR: Final = EventSchema(
    "nxcloud.email.dr",
    "email.dr",
    "Email verification code receipt",
    page=VendorPage("Email Verification Code Receipt Callback", "29"),
    required="message_id",
    post_process=(settle_delivery,),
    constants={"channel": "email", "product": "email-dr"},
    fields=(
        Field("message_id", "messageId", identifier),
        Field("from", "sender", text),
        Field("to", "receiver", texts, "A list: one receipt may cover several addresses"),
        *coded("status", "status_code", "result", words(STATUS, EMAIL_STATUS)),
        *DELIVERY_LINES,
        Field("result", "result", text),
        Field("price.unit", "price", money, "Of one message; the page names no currency"),
        Field("sent_at", "sendTime", local_time),
    ),
)
