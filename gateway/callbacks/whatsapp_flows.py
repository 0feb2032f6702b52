"""WhatsApp: events of flows, and messages sent from the phone app (protocol.md, sections 33 and 19)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.callbacks.event_schema import EventSchema, VendorPage
from gateway.callbacks.fields import Converter, code, identifier, number, seconds, text, unchanged, words
from gateway.callbacks.plan import Field, coded, phone_number
from gateway.callbacks.vocabulary import CHANNEL_STATUS
from gateway.callbacks.whatsapp import CONTENT, CONTENT_KNOWN, kind_of_content
from gateway.callbacks.whatsapp_events import BY_NAME as _OTHERS
from gateway.callbacks.whatsapp_events import channel_event

#: ``new_status`` of a flow.
_STATUS: Final = unchanged("draft published deprecated blocked throttled")
#: An open list, in lower case as our words are.
_LOWER: Final = Converter(
    "word in lower case", lambda value, scope: (code.convert(value, scope) or "").lower() or None, {"type": "string"}
)

FLOW: Final = channel_event(
    "flow",
    "WhatsApp flow event",
    Field("flow_id", "value.flow_id", identifier),
    Field("change", "value.event", _LOWER, "Such as flow_status_change, endpoint_availability"),
    *coded("status", "status_code", "value.new_status", words(_STATUS, CHANNEL_STATUS)),
    Field("status_text", "value.message", text),
    Field("new_status", "value.new_status", code),
    Field("old_status", "value.old_status", code),
    Field("alert.state", "value.alert_state", _LOWER, "activated or deactivated"),
    Field("alert.threshold", "value.threshold", number, "Such as 90 (percent)"),
    page=VendorPage("flows webhook", "33", "partial"),
    key=("flow_id",),
    known=tuple(
        f"value.{name}"
        for name in [
            "error_count",
            "error_rate",
            "errors",
            "availability",
            "p50_latency",
            "p90_latency",
            "requests_count",
            "warning",
        ]
    ),
)

#: A message sent from the phone app: it needs no reply and is not an incoming message. In its table the message has
#: the same parent as ``field`` and ``value``.
ECHO: Final = channel_event(
    "echo",
    "WhatsApp message sent from the phone app",
    Field("message_id", "messages.id", identifier),
    *phone_number("from", ("messages.from", "value.business_phone", "value.metadata.display_phone_number")),
    *phone_number("to", ("messages.to", "messages.recipient_id")),
    Field("phone_number_id", ("value.phone_number_id", "value.metadata.phone_number_id"), identifier),
    *CONTENT,
    Field("sent_at", "messages.timestamp", seconds),
    page=VendorPage("SMB", "19", "partial"),
    key=("to", "message_id"),
    known=("value.contacts", *CONTENT_KNOWN),
    time=("sent_at", "at"),
    post_process=(kind_of_content,),
)

#: Name of the event whose messages become separate events, and the names of their list.
ECHOES: Final = "smb_message_echoes"
ECHO_LISTS: Final = ("message_echoes", "messages")

#: Event name → schema. Other names are accepted as another event, and are drift.
BY_NAME: Final[Mapping[str, EventSchema]] = {**_OTHERS, "flows": FLOW}
