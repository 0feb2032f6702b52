"""The sections of ``deploy/docs/callbacks.md``: each built-in callback with its samples, events and answers.

Everything but the places of the vendor's console comes from the callback tables and from the simulator, so a change of
a decoder changes the page; a test fails until ``python -m tests.readme`` has written it again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from gateway.callbacks import CALLBACKS, CallbackRequest, DecodeContext
from gateway.callbacks.answers import CALLBOT_ANSWERS
from gateway.callbacks.callback import Callback
from gateway.event import Event
from gateway.traffic.simulator import JSON, TrafficRequest, request_of
from gateway.traffic.simulator import samples as samples_of

#: When the sample requests are sent.
_TIME: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_NOT_DOCUMENTED: Final = "not documented by the vendor; assume one attempt"
_NO_PLACE: Final = "The vendor's page does not name the place. Ask the vendor's support."
_ONCE: Final = "none; the platform sends each callback once"
_AI_AGENT: Final = "The signature is optional: set `auth.signature` if it is switched on in the console."
_CALLBOT: Final = (
    "The console shows the account id (`uuid`), the secret key and the algorithm under Developer. The callback does "
    "not name the algorithm: set `auth.signature.algorithm` to what the console shows."
)


@dataclass(frozen=True, slots=True)
class Entry:
    """What only the vendor's documents say about a callback.

    Args:
        place: where the address of the callback is entered.
        retries: how often the platform repeats a callback that is not answered with success.
        note: what else the reader has to know to connect it; may be empty.
    """

    place: str
    retries: str = _NOT_DOCUMENTED
    note: str = ""


#: By the name of the callback; restated from the vendor pages that the section names.
ENTRIES: Final[Mapping[str, Entry]] = {
    "sms-dr": Entry(
        "The callback address of the SMS application. A send request may carry another one as `dr_url` or `drUrl`; the "
        "platform uses it only for a send to a single number.",
        _ONCE,
        "A send to several numbers returns one id, and each receipt carries that id with `-` and ten digits behind it. "
        "`data.parent_message_id` is the id without them.",
    ),
    "did-sms": Entry(
        "The settings of the DID number. The push format that is chosen there decides between a form without signature "
        "and JSON with signature.",
        note="Receipts and incoming messages use the same address. Set `own_numbers` of the path to your DID numbers: "
        "the platform often omits the field that distinguishes the two.",
    ),
    "voice-dr": Entry(_NO_PLACE, _ONCE),
    "webcall-cdr": Entry(
        "The settings of WebCall in the console.",
        "each minute; the vendor's page states both “for at most one hour” and “at most five times”",
        "`data.recording_url` answers with a redirect to the file.",
    ),
    "predictive-dial": Entry(
        "`callback_url` of the request that creates the dialling queue.",
        note="The platform reports one occurrence twice: with `leg: call` and with `leg: agent`. Count one of them.",
    ),
    "call-status": Entry(_NO_PLACE, note="The vendor marks this interface as unavailable at present."),
    "nxlink-call": Entry(
        "The settings of the NXLink call centre.",
        note="The platform sends a header `token`. Set `auth.token` to the same value.",
    ),
    "ai-agent-call": Entry(
        "`callCallbackUrl` of the task or of the contacts that are added to it, otherwise the address in the NXLink "
        "console. Without either, the platform sends nothing.",
        note=_AI_AGENT,
    ),
    "ai-agent-task": Entry(
        "`taskCallbackUrl` of the task, otherwise the address in the NXLink console. Without either, the platform "
        "sends nothing.",
        note=_AI_AGENT,
    ),
    "callbot-call": Entry("`callCallbackUrl` of the request that adds numbers to a task.", note=_CALLBOT),
    "callbot-order": Entry(
        "`orderCallbackUrl` of the request that adds numbers to a task.",
        note=f"{_CALLBOT} The last call of an order is also in `callbot-call`: do not add the two.",
    ),
    "callbot-task": Entry("`taskCallbackUrl` of the task.", note=_CALLBOT),
    "whatsapp": Entry(
        "The webhook of the WhatsApp application (NXLink SaaS: `webhook_url`). `dr_webhook` of a send request takes "
        "precedence for the statuses of that message: enter the same address.",
        note="The platform sends template, account, call and flow events only if the application subscribes to them. "
        "It signs callbacks if receipt signing is switched on for the application. `gateway backfill whatsapp` "
        "requests four kinds of callbacks of the last seven days again.",
    ),
    "viber": Entry("`dr_webhook` for receipts and `message_webhook` for replies: enter the same address for both."),
    "zalo": Entry("`dr_webhook`."),
    "messenger": Entry("`message_webhook`; receipts use it too."),
    "line": Entry(
        _NO_PLACE, note="One callback may contain several events. The gateway makes one event of each of them."
    ),
    "super-message": Entry("`dr_webhook`; in a send request the field is `webhook`."),
    "number-check": Entry(
        "`drUrl` of the submission, otherwise the address of the application. Without either, the platform "
        "sends nothing.",
        "each minute for 60 minutes",
    ),
    "pns": Entry(
        "The vendor's staff enters it.",
        "each minute for 60 minutes (older page), or every 5 minutes and at most twice (newer page)",
    ),
    "ota": Entry(_NO_PLACE, note="A status `pending` is not final: another callback follows."),
    "email-dr": Entry(_NO_PLACE),
}


def callbacks_reference() -> str:
    """Markdown: a section for each callback."""
    return "\n".join(_section(callback, ENTRIES[name]) for name, callback in CALLBACKS.items())


def _section(callback: Callback, entry: Entry) -> str:
    pages = list(dict.fromkeys(f"“{schema.page.title}”" for schema in callback.schemas))
    lines = [
        f"### {callback.title}",
        "",
        f"* **Path:** `/callbacks/{callback.name}` ({', '.join(sorted(callback.methods, reverse=True))}).",
        f"* **Address in the vendor's console:** {entry.place}",
        f"* **Authentication:** {_authentication(callback)}",
        f"* **Answer:** {_answer(callback)}",
        f"* **Retries of the platform:** {entry.retries}.",
        f"* **Events:** {_types(callback)}.",
        f"* **Vendor pages:** {', '.join(pages)} ({callback.certainty}).",
    ]
    lines += ["", entry.note] if entry.note else []
    for request, event in samples(callback):
        lines += ["", "Sample:", "", "```http", _wire(request), "```", ""]
        lines += ["Event:", "", "```json", _shown(event), "```"]
    return "\n".join(lines) + "\n"


def samples(callback: Callback) -> list[tuple[TrafficRequest, Event]]:
    """One request with its first event for each topic that the simulator has samples for."""
    found: dict[str, tuple[TrafficRequest, Event]] = {}
    for request in (request_of(callback.name, sample) for sample in samples_of(callback.name)):
        for event in callback.decode(_received(request), DecodeContext()).events:
            found.setdefault(event.topic, (request, event))
    return [found[topic] for topic in callback.topics if topic in found]


def _received(request: TrafficRequest) -> CallbackRequest:
    headers = {"content-type": request.content_type} if request.content_type else {}
    if request.action:
        headers["action"] = request.action
    path = f"/callbacks/{request.callback}"
    return CallbackRequest("POST", path, request.query, headers, request.body, _TIME)


def _wire(request: TrafficRequest) -> str:
    """The request as text; a JSON body is indented."""
    query = f"?{request.query.decode()}" if request.query else ""
    head = [f"POST /callbacks/{request.callback}{query} HTTP/1.1"]
    if request.content_type:
        head.append(f"Content-Type: {request.content_type}")
    if request.action:
        head.append(f"action: {request.action}")
    body = request.body.decode()
    return "\n".join([*head, "", *([_indented(json.loads(body))] if request.content_type == JSON else [body])]).strip()


def _shown(event: Event) -> str:
    """The event without ``data.raw``, which repeats the request."""
    document: dict[str, Any] = orjson.loads(event.to_json())
    document["data"]["raw"] = {"...": "..."}
    return _indented(document)


def _indented(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _authentication(callback: Callback) -> str:
    signatures = {
        "general": "general signature (`auth.signature`, headers `accessKey`, `action`, `bizType`, `ts`, `sign`), ",
        "callbot": "Callbot signature (`auth.signature`, headers `requestID`, `uuid`, `createTs`, `sign`), ",
        None: "",
    }
    return f"{signatures[callback.signature]}token (`auth.token`), addresses (`auth.allow_ips`)."


def _answer(callback: Callback) -> str:
    request = CallbackRequest("POST", f"/callbacks/{callback.name}", b"", {}, b"", _TIME)
    success = callback.answers.success(request, None, _TIME).body.decode()
    failure = callback.answers.failure(400, "reason", request, None, _TIME).body.decode()
    signed = ", signed as the request is" if callback.answers is CALLBOT_ANSWERS else ""
    return f"200 and `{success}`{signed}; on failure 4xx or 5xx and `{failure}`."


def _types(callback: Callback) -> str:
    return ", ".join(
        f"[`{schema.type}`](events.md#{_anchor(schema.type)}) on `{schema.topic}`" for schema in callback.schemas
    )


def _anchor(heading: str) -> str:
    """As GitHub makes it of a heading in backticks."""
    return "".join(one for one in heading.lower() if one.isalnum() or one in "-_")
