"""Common table lines of the calls of all products."""

from __future__ import annotations

from typing import Any, Final

from gateway.callbacks.fields import Converter, Scope, as_text, code, integer, open_enum, text, words
from gateway.callbacks.hangups import CAUSES
from gateway.callbacks.plan import Field
from gateway.callbacks.vocabulary import DIRECTION, OUTCOME


def _cause(value: Any, scope: Scope) -> str | None:
    """Return the cause as received; :func:`gateway.callbacks.hangups.settle` maps it to the vocabulary."""
    said = value if type(value) is str else as_text(value)
    return said if said.strip() else None


_CAUSE: Final = Converter("hang-up cause", _cause, open_enum(frozenset(CAUSES)))

#: Set by ``settle``.
OUTCOME_LINE: Final = Field("outcome", "", words({}, OUTCOME), "Derived from answer, cause and reason")
DIRECTION_LINE: Final = Field("direction", "", words({}, DIRECTION), "The page does not say")


def hangup(
    cause: str = "", reason: str = "", q850: str = "", sip: str = "", vendor_code: str = ""
) -> tuple[Field, ...]:
    """Return the lines of ``hangup``; the arguments are vendor names, empty for fields that the product does not send.

    Args:
        cause: field with a name of the list of causes; other text in it becomes the reason.
        reason: field with free text.
        q850: field with a Q.850 number.
        sip: field with a SIP status.
        vendor_code: field with a code of the vendor.
    """
    return (
        Field("hangup.cause", cause, _CAUSE),
        Field("hangup.reason", reason, text, "" if reason else "A cause that is not in the list"),
        Field("hangup.q850", q850, integer, "" if q850 else "By the cause"),
        Field("hangup.sip", sip, integer),
        Field("hangup.vendor_code", vendor_code, code, "" if vendor_code else "Of a cause that Q.850 does not have"),
    )
