"""What a rejected callback was probably meant to be, for the person who reads the reason.

A guess is made only here, and only for a sentence: the callback stays rejected and is kept whole. It is made of what
was decoded, so under a signature of signed bytes alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from gateway.callbacks import CALLBACKS, Callback, CallbackRequest, DecodeContext
from gateway.callbacks.fields import Scope
from gateway.callbacks.payload import Payload, enclosed, read
from gateway.errors import CallbackRejected

#: Bytes of a request that is tried as other callbacks, each of which may cost as much as decoding: 10 ms at the worst.
#: Callbacks have some hundred bytes, seldom two thousand.
_MOST_BYTES: Final = 4096
#: Fields that another callback must find, so that a chance likeness is not called one.
_LEAST_FIELDS: Final = 3
#: Other callbacks that are named, where several fit equally well: Viber's and Messenger's receipts are alike.
_MOST_NAMED: Final = 3


def explained(
    error: CallbackRejected, callback: object, request: CallbackRequest, context: DecodeContext
) -> CallbackRejected:
    """Return the rejection with what was probably meant behind its reason, where anything else fits.

    Args:
        error: as the callback's decoder raised it.
        callback: that callback; of one that is not built in nothing is known.
        request: what was decoded.
        context: of the path.
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
    elif callback.layout == "json" and payload.text is None:
        yield f"the body looks like a form, but this callback takes JSON with {_either(_identifying(callback))}"


def likely(callback: Callback, payload: Payload, request: CallbackRequest, context: DecodeContext) -> list[str]:
    """Return the names of the other callbacks that read most of a payload; none where none reads much."""
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
    """Names of a payload that a callback knows: it is this callback, and lacks something, where no other knows more."""
    return max(len(shape.plan.known.intersection(payload.fields)) for shape in callback.shapes)


def _score(callback: Callback, payload: Payload, request: CallbackRequest, context: DecodeContext) -> int:
    """Fields that the callback finds in a payload, less those that it does not know; 0 where it rejects it."""
    scope = Scope(context.zone, max_items=context.max_items, country=context.country)
    try:
        items = callback.split(payload, request, context, scope)
        if not items:
            return 0
        shape, fields, _, _ = items[0]
        data = shape.normalise(fields, scope)
    except (CallbackRejected, RecursionError):
        return 0
    unknown = sum(label.startswith("field:") for label in scope.drift)
    return _leaves(data) - len(shape.constants) - unknown


def _leaves(value: Any) -> int:
    return sum(map(_leaves, value.values())) if type(value) is dict else 1


def _either(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def _identifying(callback: Callback) -> tuple[str, ...]:
    """The vendor's names of what a callback needs, at the top of the body: ``statuses``, ``messageid``."""
    return tuple(dict.fromkeys(shape.vendor_name().partition(".")[0] for shape in callback.shapes))
