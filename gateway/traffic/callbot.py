"""Callbot: sections 11 to 13 of protocol.md. ``callbackType`` is as unreliable here as it is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from gateway.traffic.random_values import Draw, unix
from gateway.traffic.request import JSON, TrafficRequest


def callbot_call(draw: Draw) -> Iterator[TrafficRequest]:
    """Yield a request for each call of an order."""
    while True:
        fields = _call(draw, draw.often(3, 1, 0.3), is_finished=draw.chance(0.5))
        fields["callInfoDetail"] |= {"callingNumber": draw.phone(), "lineAddress": "192.0.2.10"}
        yield TrafficRequest("callbot-call", b"", JSON, orjson.dumps(fields))


def callbot_order(draw: Draw) -> Iterator[TrafficRequest]:
    """Yield a request for each finished order."""
    while True:
        fields = _call(draw, draw.often("2", "1", 0.3), is_finished=True)
        if draw.chance(0.3):
            fields["callInfoDetail"]["agent"] = {}
        yield TrafficRequest("callbot-order", b"", JSON, orjson.dumps(fields))


def callbot_task(draw: Draw) -> Iterator[TrafficRequest]:
    """Yield requests of fifty tasks with increasing counters."""
    while True:
        calls = draw.count()
        total = draw.number(10, 500)
        finished = draw.number(0, total)
        answered = draw.number(0, finished)
        task = draw.number(1, 50)
        status = draw.one((1, 2, 2, 2, 3, 4, 5))
        yield TrafficRequest(
            "callbot-task",
            b"",
            JSON,
            orjson.dumps(
                {
                    "callbackType": 1,
                    "userTaskID": f"ut-{task:04d}",
                    "taskID": f"t-{9000 + task}",
                    "sceneID": f"sc-{draw.number(1, 9)}",
                    "taskStatus": status,
                    "createTs": unix(draw.seconds_ago(86400)),
                    "taskStat": {
                        "answerOrderCount": answered,
                        "finishOrderCount": finished,
                        "totalOrderCount": total,
                        "finishRate": round(finished / total, 2),
                        "totalAnswerCall": answered,
                        "totalCall": calls,
                        "answerRate": round(min(answered / calls, 1), 2),
                    },
                }
            ),
        )


def _intent(draw: Draw) -> dict[str, Any]:
    name = draw.one(("interested", "有意向"))
    return {"intentID": "i-1", "intentTag": "A", "intentName": name, "intentLevel": 1}


def _call(draw: Draw, callback_type: int | str, *, is_finished: bool) -> dict[str, Any]:
    started = unix(draw.seconds_ago(600))
    is_answered = draw.chance(0.7)
    duration = draw.number(1, 120) if is_answered else 0
    has_agent = draw.chance(0.3)
    return {
        "callbackType": callback_type,
        "orderID": f"o-{draw.number(1, 99999)}",
        "userPhone": draw.phone(),
        "userName": draw.person(),
        "sceneID": f"sc-{draw.number(1, 9)}",
        "userTaskID": f"ut-{draw.number(1, 50):04d}",
        "taskID": f"t-{draw.number(9001, 9050)}",
        "finish": is_finished,
        "other": draw.one(("", "row-7")),
        "callInfoDetail": {
            "callID": f"c-{draw.hex_id()}",
            "callStatus": 1 if is_answered else draw.number(2, 5),
            "callStartTs": started,
            "callAnswerTs": started + 9 if is_answered else 0,
            "callEndTs": started + 9 + duration,
            "callDuration": duration,
            "callAudioUrl": draw.often("", f"https://records.example.com/{draw.hex_id()}.wav", 0.5),
            "hangupCause": "NORMAL_CLEARING" if is_answered else "NO_ANSWER",
            "termSipCode": "200" if is_answered else "480",
            "intents": [_intent(draw)] if is_answered else [],
            "sms": [{"smsSendTs": started + 60, "sysMessageID": draw.hex_id(), "smsContent": draw.text()}]
            if draw.chance(0.1)
            else [],
            "agent": {
                "agentName": "agent 7" if has_agent else "",
                "agentGroup": "group 1" if has_agent else "",
                "agentCallStatus": int(has_agent),
                "agentCallElapsed": 30 if has_agent else 0,
                "agentLabel": "",
                "manualCallStart": started + 10 if has_agent else 0,
                "manualCallAnswer": started + 12 if has_agent else 0,
                "manualCallEnd": started + 42 if has_agent else 0,
                "manualHangupBy": 0,
            },
            "params": [{"name": "amount", "value": str(draw.number(1, 100))}],
        },
    }
