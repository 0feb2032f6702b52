"""Viber, Zalo, Messenger, LINE, Super Message and number checks: sections 21 to 25 and 32 of protocol.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson

from gateway.traffic.random_values import Draw, local, millis
from gateway.traffic.request import JSON, TrafficRequest

_VIBER: Final = (("delivered", 11001), ("delivered", 11001), ("seen", 11002), ("expired", 11003), ("failed", 11000))
_CHECK_WORDS: Final = ("YES", "NO", "UNKNOWN")


def viber(draw: Draw) -> Iterator[TrafficRequest]:
    """Yield receipts, and replies with text or media."""
    while True:
        if draw.chance(0.7):
            status, code = draw.one(_VIBER)
            fields: dict[str, Any] = {
                "status": status,
                "requestId": draw.hex_id(),
                "code": code,
                "message": f"Viber message has {status}",
                "sendTime": local(draw.seconds_ago(60)),
            }
        else:
            media = {"media": "https://media.example.com/1.jpg", "fileName": "1.jpg"}
            fields = {
                "phone": draw.phone(),
                "appkey": "demoApp",
                "traceRequestId": draw.hex_id(),
                "message": {"text": draw.text()} if draw.chance(0.7) else media,
                "sendTime": local(draw.seconds_ago(60)),
            }
        yield _json("viber", fields)


def zalo(draw: Draw) -> Iterator[TrafficRequest]:
    """Yield receipts with and without cost, echo and Zalo's answer."""
    while True:
        status = draw.one(("success", "delivered", "delivered", "failed", "journey_acknowledged", "journey_time_out"))
        fields: dict[str, Any] = {
            "status": status,
            "requestId": f"zalomid.{draw.hex_id()}",
            "code": 17004 if status == "failed" else 0,
            "message": "Successfully sent.",
            "sendTime": local(moment := draw.seconds_ago(60)),
        }
        if status != "failed":
            fields["cost"] = {"currency": "USD", "originalPrice": 0.0123}
        if status != "journey_time_out":
            fields["ext"] = "x"
        if draw.chance(0.5):
            data = {
                "sent_time": str(millis(moment)),
                "sending_mode": "1",
                "msg_id": f"m-{draw.digits(6)}",
                "quota": {"remainingQuota": "10", "dailyQuota": "500"},
            }
            fields["zaloRes"] = {
                "sysMsg": "Successfully sent.",
                "cusMsg": "Successfully sent.",
                "error": 0,
                "message": "Success",
                "data": None if status == "failed" else data,
            }
        yield _json("zalo", fields)


def messenger(draw: Draw) -> Iterator[TrafficRequest]:
    """Yield replies with milliseconds and receipts with local time, on one path."""
    while True:
        if draw.chance(0.5):
            media = {"url": "https://media.example.com/1", "type": draw.one(("image", "audio", "video"))}
            fields: dict[str, Any] = {
                "sender": {"id": f"u-{draw.number(1, 9999)}"},
                "recipient": {"id": "p-1"},
                "sendTime": millis(draw.seconds_ago(60)),
                "appkey": "demoApp",
                "message": {"text": f"{draw.text()} {draw.count()}"} if draw.chance(0.6) else media,
            }
        else:
            fields = {
                "status": draw.one(("success", "delivered")),
                "requestId": draw.hex_id(),
                "code": 0,
                "message": "ok",
                "sendTime": local(draw.seconds_ago(60)),
            }
        yield _json("messenger", fields)


def line(draw: Draw) -> Iterator[TrafficRequest]:
    """Yield bodies with one or several events of every kind; sometimes a receipt of the older page."""
    while True:
        if draw.chance(0.1):
            receipt = {"status": "delivered", "requestId": draw.hex_id(), "code": 0, "message": "ok"}
            yield _json("line", {**receipt, "sendTime": local(draw.seconds_ago(60))})
            continue
        events = [_line_event(draw) for _ in range(draw.often(1, draw.number(2, 4), 0.2))]
        yield _json("line", {"destination": "U" + "0" * 31 + "1", "events": events})


def _line_event(draw: Draw) -> dict[str, Any]:
    event: dict[str, Any] = {
        "type": "message",
        "webhookEventId": draw.hex_id(),
        "deliveryContext": {"isRedelivery": False},
        "timestamp": millis(draw.seconds_ago(60)),
        "source": {"type": "user", "userId": f"U{draw.hex_id()}"},
        "replyToken": draw.hex_id(),
        "mode": "active",
    }
    if draw.chance(0.1):
        return {**event, "type": draw.one(("follow", "unfollow"))}
    kind = draw.one(("text", "text", "image", "video", "audio", "file", "location", "sticker"))
    parts: dict[str, dict[str, Any]] = {
        "text": {"text": draw.text()},
        "video": {"duration": 61_500, "contentProvider": {"type": "line"}},
        "audio": {"duration": 3000, "contentProvider": {"type": "line"}},
        "file": {"fileName": "订单 42.pdf", "fileSize": 2138},
        "location": {"title": "Monas", "address": "Jakarta", "latitude": "-6.1754", "longitude": "106.8272"},
        "sticker": {"packageId": "446", "stickerId": "1988"},
    }
    return {**event, "message": {"type": kind, "id": draw.digits(18), "quoteToken": "q", **parts.get(kind, {})}}


def super_message(draw: Draw) -> Iterator[TrafficRequest]:
    """Yield receipts without a status word; sometimes several numbers of one request."""
    while True:
        request = draw.hex_id()
        for _ in range(draw.often(1, 3)):
            code = draw.often(14004, draw.one((14003, 14005, 14006)), 0.2)
            price = draw.number(1, 99) / 100
            yield _json(
                "super-message",
                {
                    "requestId": request,
                    "phone": draw.phone(),
                    "channel": draw.one(("SMS", "VIBER")),
                    "code": code,
                    "message": "Message has delivered" if code == 14004 else "Message not delivered",
                    "sendTime": local(draw.seconds_ago(60)),
                    "cost": {"currency": "CNY", "localPrice": price, "originalPrice": price},
                },
            )


def number_check(draw: Draw) -> Iterator[TrafficRequest]:
    """Yield results with the parts basic, live and dial, and failures without them."""
    while True:
        phone = draw.phone()
        fields: dict[str, Any] = {
            "messageId": draw.uuid(),
            "code": 0,
            "msg": "success",
            "batchNo": draw.digits(12),
            "phone": phone,
        }
        if draw.chance(0.1):
            fields |= {"code": draw.one((103, 108, 112, 114, 120, 121, 122)), "msg": "failed"}
        else:
            basic = {
                "preCheck": "YES",
                "regionCode": "US",
                "countryCode": "1",
                "nationalNumber": phone[1:],
                "standNumber": phone,
                "numberType": draw.number(0, 8),
                "carrier": "Test Mobile",
            }
            live = {name: draw.one(_CHECK_WORDS) for name in ("validity", "reachable", "roaming")}
            dial = {"early": "YES", "answered": "NO", "response": draw.one(("bell", "music", "busy", "power_off"))}
            fields["data"] = {"basic": basic} | draw.one(({}, {"live": live}, {"live": live, "dial": dial}))
            fields["cost"] = {"price": draw.number(1, 500) / 10_000, "currency": "USD"}
        yield _json("number-check", fields)


def _json(callback: str, fields: dict[str, Any]) -> TrafficRequest:
    return TrafficRequest(callback, b"", JSON, orjson.dumps(fields))
