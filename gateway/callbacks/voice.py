"""Voice receipts (protocol.md, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.callbacks import money as _money
from gateway.callbacks import phones
from gateway.callbacks.event_schema import EventSchema, PostProcess, VendorPage
from gateway.callbacks.fields import (
    NULL_WORDS,
    Converter,
    Scope,
    as_text,
    duration,
    identifier,
    integer,
    local_time,
    money,
    text,
    words,
)
from gateway.callbacks.hangups import OUTCOME_LINE, hangup, settle
from gateway.callbacks.plan import Field, coded, phone_number
from gateway.callbacks.vocabulary import HANGUP_BY, PURPOSE


def _answered(value: Any, scope: Scope) -> bool | None:
    """Return whether the call was answered. ``result`` is a text: English on one page, Chinese on its original."""
    said = as_text(value).strip().lower()
    if said in _ANSWERED:
        return _ANSWERED[said]
    if said in NULL_WORDS:
        return None
    raise ValueError("neither connected nor not connected")


_ANSWERED: Final = {
    "successful connection": True,
    "unsuccessful connection": False,
    "成功接通": True,
    "接通": True,
    "未接通": False,
}

#: ``hangup_disposition`` of section 4: who ended the call.
DISPOSITION: Final = {
    "send_cancel": "caller",
    "recv_refuse": "callee",
    "recv_bye": "callee",
    "send_bye": "caller",
    "other": "unknown",
}
#: The callback's page defines 1 as "verification code or notification"; the query API of the product also has 2.
PURPOSES: Final = {"0": "broadcast", "1": "verification_or_notification", "2": "notification"}


def prefixed(number_field: str, code_field: str, *, is_stated: bool = False) -> PostProcess:
    """Return a ``post_process`` that adds the country code to ``to``, which the vendor sends in a separate field.

    Args:
        number_field: the vendor's name of the number.
        code_field: the vendor's name of the country code.
        is_stated: whether the page states that the number includes its code.
    """

    def post_process(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
        number, code = source.get(number_field), source.get(code_field)
        if number and code and "to" in data:
            try:
                text, prefix = as_text(number), as_text(code)
            except ValueError:  # an object or a list
                scope.note("value", code_field)
                return
            if text in NULL_WORDS:  # `to` is of another field
                return
            read = phones.with_country(text, prefix, is_stated=is_stated)
            data["to"] = read.text
            if read.is_national:
                data["to_national"] = True
            else:
                data.pop("to_national", None)

    return post_process


def _add_total(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Add the total price; the vendor's price is that of one cycle. An unconnected call may have a separate price."""
    if data.get("answered") and "price" in data:
        _money.add_total(data["price"], data.get("billing", {}).get("cycles"))


VOICE_DR: Final = EventSchema(
    "nxcloud.voice.dr",
    "call.event",
    "Voice receipt (broadcast, notification, verification code)",
    page=VendorPage("Voice Receipt Callback", "4"),
    required="call_id",
    time=("ended_at", "started_at"),
    constants={"channel": "voice", "product": "voice-dr", "state": "ended", "direction": "outbound"},
    known=("countryCode",),
    post_process=(prefixed("phone", "countryCode", is_stated=True), settle, _add_total),
    fields=(
        Field("call_id", "messageid", identifier, "As returned by the send call"),
        *coded("purpose", "purpose_code", "voice_type", words(PURPOSES, PURPOSE)),
        *phone_number("from", "show_phone", "Displayed number", phones.uncertain),
        *phone_number("to", "phone"),
        Field("started_at", "start_time", local_time),
        Field("ended_at", "end_time", local_time),
        Field("duration_s", "duration", duration, "Connected time"),
        Field("answered", "result", Converter("connected or not", _answered, {"type": "boolean"})),
        Field("result", "result", text),
        *hangup("hangup_cause"),
        *coded("hangup.by", "hangup.by_code", "hangup_disposition", words(DISPOSITION, HANGUP_BY)),
        Field("recording_url", "record_url", text),
        Field("dtmf", "ivr_result", text),
        Field("price.unit", "customer_price", money, "Of one cycle"),
        Field("price.total", "", money, "Unit price times cycles, of a call that was connected"),
        Field("price.not_connected", "basic_price", money),
        Field("billing.seconds", "second", duration),
        Field("billing.cycle_s", "cycle", duration),
        Field("billing.cycles", "size", integer),
        Field("ext", "ext", text),
        OUTCOME_LINE,
    ),
)
