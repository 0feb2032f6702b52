"""SMS and the other callbacks with form fields: sections 1 to 4, 28 and 29 of protocol.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import orjson

from gateway.traffic.random_values import Draw, form, local, raw_query
from gateway.traffic.request import FORM, JSON, TrafficRequest

#: A content type that is wrong and occurs all the same (protocol.md, E5).
_FORM_TYPES: Final = (FORM, FORM, f"{FORM}; charset=UTF-8", "x-www-form-urlencoded", None)
#: ``status`` and ``result``; most messages are delivered.
_SMS_STATES: Final = (("5", "UNDELIV"), ("6", "REJECTD"), ("7", "EXPIRED"), ("9", "DND"), ("12", "UNKNOWN"))
_CAUSES: Final = ("NORMAL_CLEARING", "USER_BUSY", "NO_ANSWER", "CALL_REJECTED", "ORIGINATOR_CANCEL")


def sms_dr(draw: Draw) -> Iterator[TrafficRequest]:
    """Yield receipts in three layouts: form body, query with raw spaces, escaped query."""
    while True:
        sent = draw.seconds_ago(600)
        status, result = draw.often(("2", "DELIVRD"), draw.one(_SMS_STATES), 0.15)
        message_id = draw.hex_id()
        if draw.chance(0.1):  # one of a send to several numbers
            message_id = f"{draw.digits(17)}-{draw.digits(10)}"
        fields = {
            "result": result,
            "size": str(draw.often(1, 2)),
            "phone": draw.phone(),
            "rate": draw.one(("7.05", "1", "6.8342")),
            "price": draw.price(),
            "messageid": message_id,
            "drtime": local(draw.later(sent, 30)),
            "currency": draw.often("USD", "CNY"),
            "sendtime": local(sent),
            "status": status,
        }
        if draw.chance(0.3):
            fields["ext"] = f"order-{draw.number(1, 99999)}"
        if draw.chance(0.02):
            del fields["currency"]
        yield _form_or_query("sms-dr", fields, draw)


def did_sms(draw: Draw) -> Iterator[TrafficRequest]:
    """Yield incoming messages and receipts, as a form and as JSON; the form has a plus before numbers."""
    while True:
        is_incoming = draw.chance(0.5)
        ours, theirs = "15550100001", draw.phone()
        fields = {
            "messageId": draw.hex_id(),
            "type": "0" if is_incoming else "1",
            "toPhone": ours if is_incoming else theirs,
            "fromPhone": theirs if is_incoming else ours,
            "content": draw.text(),
            "size": "1",
            "price": draw.price(),
            "receiveTime": local(draw.seconds_ago(60)),
            "smsStatus": "DELIVRD" if is_incoming else draw.often("DELIVRD", "UNDELIVR"),
        }
        if draw.chance(0.5):
            body = orjson.dumps(fields)
            yield TrafficRequest("did-sms", b"", JSON, body, "mo" if is_incoming else "dr", "4")
        else:
            fields["toPhone"], fields["fromPhone"] = f"+{fields['toPhone']}", f"+{fields['fromPhone']}"
            yield TrafficRequest("did-sms", b"", draw.one(_FORM_TYPES), form(fields), biz_type="4")


def voice_dr(draw: Draw) -> Iterator[TrafficRequest]:
    """Yield broadcasts and notifications, with results in English and Chinese, in the query or in the body."""
    while True:
        started = draw.seconds_ago(600)
        is_broadcast, is_connected = draw.chance(0.5), draw.chance(0.7)
        second = draw.number(1, 90) if is_connected else 0
        word = ("成功接通", "Successful connection") if is_connected else ("未接通", "Unsuccessful connection")
        fields = {
            "phone": draw.phone(),
            "countryCode": "1",
            "duration": str(second),
            "voice_type": "0" if is_broadcast else "1",
            "messageid": f"v-{draw.hex_id()}",
            "second": str(second),
            "cycle": "60",
            "size": str(-(-second // 60)),
            "customer_price": draw.price(),
            "start_time": local(started),
            "end_time": local(draw.later(started, 90)),
            "result": draw.one(word),
            "hangup_cause": "NORMAL_CLEARING" if is_connected else draw.one(_CAUSES),
            "hangup_disposition": draw.one(("send_cancel", "recv_refuse", "recv_bye", "send_bye", "other")),
        }
        if is_broadcast:
            fields |= {"basic_price": "0.005", "ivr_result": draw.one(("", "1", "12#"))}
        yield _form_or_query("voice-dr", fields, draw, in_query=0.7)


def ota(draw: Draw) -> Iterator[TrafficRequest]:
    """Yield requests with all fields in the query, and both spellings of the time's name."""
    while True:
        fields = {
            "phone": draw.phone(),
            "requestId": draw.hex_id(),
            draw.often("drtime", "drTime", 0.3): local(draw.seconds_ago(60)),
            "status": draw.often("SUCCESS", draw.one(("PENDING", "MISMATCH", "FAILURE", "UNKNOWN")), 0.2),
        }
        yield TrafficRequest("ota", draw.one((raw_query, form))(fields))


def email_dr(draw: Draw) -> Iterator[TrafficRequest]:
    """Yield JSON bodies; the receiver is a list, and in some a string."""
    while True:
        receiver = f"user{draw.number(1, 99999)}@example.com"
        body = {
            "messageId": draw.hex_id(),
            "sender": "noreply@example.com",
            "receiver": draw.often([receiver], receiver),
            "price": draw.price(),
            "result": draw.often("DELIVRD", "UNDELIV"),
            "sendTime": local(draw.seconds_ago(60)),
        }
        yield TrafficRequest("email-dr", b"", JSON, orjson.dumps(body))


def _form_or_query(callback: str, fields: dict[str, str], draw: Draw, in_query: float = 0.3) -> TrafficRequest:
    if draw.chance(in_query):
        return TrafficRequest(callback, draw.one((raw_query, form))(fields))
    return TrafficRequest(callback, b"", draw.one(_FORM_TYPES), form(fields))
