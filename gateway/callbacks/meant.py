"""Find the callback that a rejected request was probably meant for, for the text of the reason.

The guess changes only the text: the callback stays rejected and is stored completely. It uses only the authentic part
of the request.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from gateway.callbacks import CALLBACKS, Callback, CallbackRequest, DecodeContext
from gateway.callbacks.fields import Scope
from gateway.callbacks.payload import Payload, enclosed, read
from gateway.errors import CallbackRejected

#: Largest request, in bytes, that is tried as other callbacks. Each try may cost as much as decoding: at worst 10 ms.
#: Callbacks have some hundred bytes, rarely two thousand.
_MOST_BYTES: Final = 4096
#: Fields that another callback has to find, so that a coincidence is not reported.
_LEAST_FIELDS: Final = 3
#: Reported callbacks, if several fit equally well: Viber's and Messenger's receipts are similar.
_MOST_NAMED: Final = 3


def explained(
    error: CallbackRejected, callback: object, request: CallbackRequest, context: DecodeContext
) -> CallbackRejected:
    """Return a rejection whose reason names the callbacks that fit better, if there are any.

    Args:
        error: raised by the callback's decoder.
        callback: the path's callback; there is no guess for a callback that is not built in.
        request: the authentic part of the request.
        context: configuration of the path.
    """
    if not isinstance(callback, Callback) or len(request.body) + len(request.query) > _MOST_BYTES:
        return error
    hints = [*_hints(callback, request, context)]
    if not hints:
        return error
    return CallbackRejected("; ".join((error.reason, *hints)), error.field, logged="; ".join((error.logged, *hints)))


def _hints(callback: Callback, request: CallbackRequest, context: DecodeContext) -> Iterator[str]:
    try:
        payload = read(request, "form", context.credential_fields)
    except (CallbackRejected, RecursionError):
        return
    if not payload.fields:
        yield "the request holds no fields"
        return
    names = likely(callback, payload, request, context)
    if names:
        yield f"it looks like the callback {_either(names)}: is this address entered for the wrong callback?"
    elif callback.layout == "json" and payload.text is None and any(payload.fields.values()):
        yield f"the body looks like a form, but this callback takes JSON with {_either(_identifying(callback))}"


def likely(callback: Callback, payload: Payload, request: CallbackRequest, context: DecodeContext) -> list[str]:
    """Return the names of the other callbacks that decode most of a payload.

    Args:
        callback: the path's callback.
        payload: the fields of the request.
        request: the authentic part of the request.
        context: configuration of the path.
    """
    readings = [one for one in (payload, enclosed(payload)) if one is not None]
    scores = {
        other.name: max(_score(other, one, request, context) for one in readings)
        for other in CALLBACKS.values()
        if other.name != callback.name
    }
    best = max(scores.values())
    names = [name for name, score in scores.items() if score == best]
    if best < _LEAST_FIELDS or len(names) > _MOST_NAMED:
        return []
    own = max(_known(callback, one) for one in readings)
    return [] if own >= max(_known(CALLBACKS[name], one) for name in names for one in readings) else names


def _known(callback: Callback, payload: Payload) -> int:
    """Return how many fields of a payload a callback knows. The most is the likeliest, even with a missing field."""
    return max(len(schema.mapping.known.intersection(payload.fields)) for schema in callback.schemas)


def _score(callback: Callback, payload: Payload, request: CallbackRequest, context: DecodeContext) -> int:
    """Return the decoded fields of a payload minus its unknown fields; 0 if the callback rejects it."""
    scope = Scope(context.zone, max_items=context.max_items, country=context.country)
    try:
        items = callback.items(payload, request, context, scope)
        if not items:
            return 0
        schema, fields, _, _ = items[0]
        data = schema.normalise(fields, scope)
    except (CallbackRejected, RecursionError):
        return 0
    unknown = sum(label.startswith("field:") for label in scope.drift)
    return _leaves(data) - len(schema.constants) - unknown


def _leaves(value: Any) -> int:
    return sum(map(_leaves, value.values())) if type(value) is dict else 1


def _either(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def _identifying(callback: Callback) -> tuple[str, ...]:
    """Return the vendor's names of the required fields at the top of the body: ``statuses``, ``messageid``."""
    return tuple(dict.fromkeys(schema.vendor_name().partition(".")[0] for schema in callback.schemas))
