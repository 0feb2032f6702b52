"""WhatsApp: sections 14 to 20 of protocol.md, on one path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final

import orjson

from gateway.traffic.random_values import Draw, unix
from gateway.traffic.request import JSON, TrafficRequest

_OURS: Final = "15550100100"
_WABA: Final = "200000000000001"


def whatsapp(draw: Draw) -> Iterator[TrafficRequest]:
    """Yield sent messages with their statuses in order, incoming ones of every kind, and sometimes other events."""
    others = (
        _template,
        _template_quality,
        _account,
        _review,
        _announced,
        _calls,
        _contacts,
        _echoes,
        _flow,
        _button_click,
    )
    while True:
        message, to, moment = f"wamid.{draw.hex_id()}", draw.phone(), draw.seconds_ago(300)
        last = draw.often("read", "failed", 0.1)
        for status in ("sent", "failed") if last == "failed" else ("sent", "delivered", "read"):
            moment = draw.later(moment, 20)
            yield _request(_statuses(draw, [_status(draw, message, to, status, moment)]))
        yield _request(_incoming(draw))
        if draw.chance(0.3):  # several in one push
            many = [
                _status(draw, f"wamid.{draw.hex_id()}", draw.phone(), "delivered", moment)
                for _ in range(draw.number(2, 5))
            ]
            yield _request(_statuses(draw, many))
        if draw.chance(0.4):
            yield _request(draw.one(others)(draw))


def _request(fields: dict[str, Any]) -> TrafficRequest:
    return TrafficRequest("whatsapp", b"", JSON, orjson.dumps(fields), "webhook", "2")


def _envelope(draw: Draw) -> dict[str, Any]:
    """Return the newest envelope, or an older one with fewer fields."""
    if draw.chance(0.2):
        return {"merchant_phone": _OURS}
    return {
        "app_id": draw.often("1001", 1001),
        "business_phone": _OURS,
        "merchant_phone": _OURS,
        "channel": 2,
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": _OURS, "phone_number_id": "100000000000001"},
        "wabaId": _WABA,
    }


def _statuses(draw: Draw, statuses: list[dict[str, Any]]) -> dict[str, Any]:
    if draw.chance(0.1):
        return {"statuses": statuses}
    return {**_envelope(draw), "statuses": statuses}


def _status(draw: Draw, message: str, to: str, status: str, moment: datetime) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": message, "status": status, "timestamp": str(unix(moment)), "recipient_id": to}
    if draw.chance(0.5):
        fields["meta_message_id"] = f"wamid.HBg{draw.hex_id()}"
    if status == "failed":
        fields["errors"] = [{"code": 131026, "title": "Message undeliverable", "meta_code": 131026}]
    elif draw.chance(0.6):
        origin = draw.one(("marketing", "utility", "authentication", "service"))
        fields["conversation"] = {"id": draw.hex_id(), "origin": {"type": origin}}
        if status == "sent":
            fields["conversation"]["expiration_timestamp"] = str(unix(moment) + 86400)
        fields["pricing"] = {"billable": True, "pricing_model": "PMP", "category": origin, "type": "regular"}
        fields["costs"] = [_cost(message, kind, 1, 0.0512) for kind in ((1, 5) if draw.chance(0.3) else (5,))]
    if draw.chance(0.2):
        fields["biz_opaque_callback_data"] = "order-42"
    return fields


def _cost(message: str, kind: int, direction: int, price: float) -> dict[str, Any]:
    return {
        "currency": "USD",
        "price": round(price * 7, 4),
        "foreign_price": price,
        "cdr_type": kind,
        "message_id": message,
        "direction": direction,
    }


def _incoming(draw: Draw) -> dict[str, Any]:
    """Return a push with one message of any kind, sometimes with two."""
    sender = draw.phone()
    count = draw.often(1, 2)
    messages = []
    for _ in range(count):
        message = f"ABGG{draw.hex_id()}"
        kind, content = draw.one(_KINDS)
        fields: dict[str, Any] = {
            "from": sender,
            "id": message,
            "timestamp": str(unix(draw.seconds_ago(30))),
            "type": kind,
            kind: content(draw),
            "cost": _cost(message, 7, 2, 0),
        }
        if kind in ("button", "interactive") or draw.chance(0.1):
            fields["context"] = {"from": _OURS, "id": f"wamid.{draw.hex_id()}"}
        messages.append(fields)
    contact = {"profile": {"name": draw.person()}, "wa_id": sender}
    return {**_envelope(draw), "contacts": [contact], "messages": messages}


def _media(draw: Draw, mime_type: str, **more: str) -> dict[str, Any]:
    return {"id": draw.digits(15), "mime_type": mime_type, "sha256": draw.hex_id() * 2, **more}


def _form(draw: Draw) -> dict[str, Any]:
    answers = {"flow_token": draw.hex_id(), "name": draw.person()}
    return {"name": "flow", "body": "Sent", "response_json": orjson.dumps(answers).decode()}


_KINDS: Final[tuple[tuple[str, Callable[[Draw], Any]], ...]] = (
    ("text", lambda draw: {"body": draw.text()}),
    ("text", lambda draw: {"body": draw.text()}),
    ("image", lambda draw: _media(draw, "image/jpeg", caption=draw.text())),
    ("video", lambda draw: _media(draw, "video/mp4")),
    ("voice", lambda draw: _media(draw, "audio/ogg; codecs=opus")),
    ("audio", lambda draw: _media(draw, "audio/mpeg")),
    ("document", lambda draw: _media(draw, "application/pdf", filename="订单 42.pdf")),
    ("sticker", lambda draw: _media(draw, "image/webp")),
    ("location", lambda draw: {"latitude": -6.2 + draw.rng.random(), "longitude": 106.8, "name": "Monas"}),
    ("button", lambda draw: {"payload": "btn-1", "text": "Yes"}),
    ("interactive", lambda draw: {"type": "button_reply", "button_reply": {"id": "b1", "title": "Yes"}}),
    ("interactive", lambda draw: {"type": "list_reply", "list_reply": {"id": "r1", "title": "Red", "description": ""}}),
    ("interactive", lambda draw: {"type": "nfm_reply", "nfm_reply": _form(draw)}),
    ("reaction", lambda draw: {"message_id": f"wamid.{draw.hex_id()}", "emoji": "👍"}),
    ("contacts", lambda draw: [{"name": {"formatted_name": draw.person()}, "phones": [{"phone": draw.phone()}]}]),
    ("order", lambda draw: {"catalog_id": "c1", "product_items": [{"product_retailer_id": "p1", "quantity": 1}]}),
    ("ephemeral_poll", lambda draw: {"question": draw.text()}),  # a kind nobody has documented
)


def _field(name: str, draw: Draw, **value: Any) -> dict[str, Any]:
    common = {"business_phone": _OURS, "wabaId": _WABA, "time": unix(draw.seconds_ago(60))}
    return {"field": name, "value": {**common, **value}}


def _template(draw: Draw) -> dict[str, Any]:
    event = draw.one(("APPROVED", "REJECTED", "PAUSED", "PENDING_DELETION"))
    return _field(
        "message_template_status_update",
        draw,
        event=event,
        message_template_id=draw.digits(15),
        message_template_language="en",
        message_template_name="welcome_1",
        reason="INCORRECT_CATEGORY" if event == "REJECTED" else "NONE",
    )


def _template_quality(draw: Draw) -> dict[str, Any]:
    return _field(
        "message_template_quality_update",
        draw,
        message_template_id=draw.digits(15),
        message_template_language="en",
        message_template_name="welcome_1",
        new_quality_score="GREEN",
        previous_quality_score="UNKNOWN",
    )


def _account(draw: Draw) -> dict[str, Any]:
    ban = {"waba_ban_date": "December 24, 2024", "waba_ban_state": draw.one(("DISABLE", "REINSTATE"))}
    return _field("account_update", draw, event="DISABLED_UPDATE", ban_info=ban, sequence=draw.count())


def _review(draw: Draw) -> dict[str, Any]:
    return _field("account_review_update", draw, decision="APPROVED", sequence=draw.count())


def _announced(draw: Draw) -> dict[str, Any]:
    """Return an event that pages name without an example, or an undocumented one."""
    names = ("phone_number_quality_update", "user_preferences", "template_category_update", "security")
    return _field(draw.one(names), draw, sequence=draw.count())


def _contacts(draw: Draw) -> dict[str, Any]:
    return {
        "field": "smb_app_state_sync",
        "value": {
            "business_phone": _OURS,
            "wabaId": _WABA,
            "phone_number_id": "100000000000001",
            "full_name": draw.person(),
            "phone_number": draw.phone(),
            "action": draw.one(("add", "remove")),
            "timestamp": str(unix(draw.seconds_ago(60))),
        },
    }


def _echoes(draw: Draw) -> dict[str, Any]:
    """Return messages that the business sent from the phone app."""
    messages = [
        {
            "from": _OURS,
            "to": draw.phone(),
            "id": f"wamid.{draw.hex_id()}",
            "timestamp": str(unix(draw.seconds_ago(30))),
            "type": "text",
            "text": {"body": draw.text()},
        }
        for _ in range(draw.often(1, 2))
    ]
    return _field("smb_message_echoes", draw, message_echoes=messages)


def _flow(draw: Draw) -> dict[str, Any]:
    if draw.chance(0.5):
        return _field("flows", draw, event="ENDPOINT_AVAILABILITY", alert_state="ACTIVATED", threshold=90)
    change = {"flow_id": draw.digits(15), "old_status": "DRAFT", "new_status": "PUBLISHED"}
    return _field("flows", draw, event="FLOW_STATUS_CHANGE", message="Flow test changed status", **change)


def _calls(draw: Draw) -> dict[str, Any]:
    started = unix(draw.seconds_ago(600))
    return {
        **_envelope(draw),
        "calls": [
            {
                "call_id": draw.uuid(),
                "from": _OURS,
                "to": draw.phone(),
                "costs": [{"direction": 1, "currency": "EUR", "price": 0.12}],
                "start_time": str(started),
                "end_time": str(started + 55),
                "record": "https://records.example.com/1",
                "call_duration": 55,
                "fee_duration": 60,
                "bill_type": "6+6",
                "end_direction": draw.number(0, 3),
                "end_reason": "Normal",
            }
        ],
    }


def _button_click(draw: Draw) -> dict[str, Any]:
    sender = draw.phone()
    click = {
        "button": {"payload": "btn-1", "text": "Yes"},
        "context": {"from": _OURS, "id": f"wamid.{draw.hex_id()}"},
        "from": sender,
        "id": f"wamid.{draw.hex_id()}",
        "timestamp": str(unix(draw.seconds_ago(30))),
        "type": "button",
        "tag_name": "lead",
        "wa_ext": '{"templateId":1,"templateName":"welcome_1","components":[]}',
    }
    contact = {"profile": {"name": draw.person()}, "wa_id": sender}
    return {"business_phone": _OURS, "contacts": [contact], "messages": [click], "messaging_product": "whatsapp"}
