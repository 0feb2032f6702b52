"""Kinds of values in ``config.yaml``: names, addresses, secrets, lists, sizes and durations; base of its sections."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Discriminator,
    Field,
    IPvAnyNetwork,
    SecretStr,
    Tag,
)

from gateway.config import webhook_url

#: Names that become part of topics, metric labels and files.
NAME: Final = re.compile(r"^[a-z0-9][a-z0-9._-]{0,62}$")
_PATH: Final = re.compile(r"^/[!-~]*$")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION: Final = re.compile(r"^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)$")
#: Timers and dates of the standard library cannot have durations of any length.
_LONGEST_S: Final = 36_500 * 86_400.0
_LINE_ENDS: Final = "\r\n"


def _name(value: str) -> str:
    if not NAME.match(value):
        raise ValueError(
            "use lower-case letters, digits, '.', '-' and '_', at most 63, starting with a letter or digit"
        )
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise ValueError("not a time zone of the IANA list, such as Asia/Shanghai or UTC") from exc
    return value


def _url(value: str) -> str:
    webhook_url.parse(value)
    return value


def _path(value: str) -> str:
    if not _PATH.match(value) or not {"?", "#", "%"}.isdisjoint(value):
        raise ValueError("a path begins with / and has no spaces, characters beyond ASCII, '?', '#' or '%'")
    return value


def _host(value: str) -> str:
    is_name = value != "" and re.search(r"[\s/:@]", value) is None
    try:
        is_address = ip_address(value.strip("[]")) is not None
    except ValueError:
        is_address = False
    if not (is_name or is_address):
        raise ValueError("an address such as 127.0.0.1 or 0.0.0.0, or a host name, is needed, without a port")
    return value


def _bounded(value: float) -> float:
    if not value <= _LONGEST_S:  # NaN, too
        raise ValueError("at most 36500d is possible")
    return value


def seconds(value: object) -> object:
    """Turn ``7d``, ``30m``, ``250ms`` or a bare number of seconds into seconds; leave other values to the validator."""
    if isinstance(value, str):
        match = _DURATION.match(value.strip().lower())
        if match:
            return float(match[1]) * _SECONDS[match[2]]
        if not value.strip().replace(".", "", 1).isdigit():
            raise ValueError("a duration looks like 30s, 15m, 12h or 7d")
    return value


def _no_truth(value: object) -> object:
    """Refuse ``yes`` or ``off`` in place of a number; pydantic takes them for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("a number is needed; yes, no, on, off, true and false are none")
    return value


def _no_line_end(value: SecretStr) -> SecretStr:
    """Refuse a secret with the line end of the file that it was read from: no sender has it."""
    text = value.get_secret_value()
    if text.strip(_LINE_ENDS) != text:
        raise ValueError("begins or ends with a line end, as the content of a file does; leave it out")
    return value


def listed(value: object) -> object:
    """Return a value as a list: a single value as a list of one; an empty text, as of an unset variable, as no item."""
    if value is None or value == "":
        return []
    return value if isinstance(value, list) else [value]


def _without_empty(value: object) -> object:
    found = listed(value)
    return [item for item in found if item not in (None, "")] if isinstance(found, list) else found


def split_at_commas(value: object) -> object:
    """Return a list as :func:`listed` does; a text may also hold several values, as in ``a:9092,b:9092``."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return _without_empty(value)


def one_or_more(value: object) -> object:
    """Return a callback's paths: a single section as a list of one, and nothing as one path with every default."""
    return [{}] if value is None or value == "" else listed(value)


Int = Annotated[int, BeforeValidator(_no_truth)]
Float = Annotated[float, BeforeValidator(_no_truth)]
Duration = Annotated[Float, BeforeValidator(seconds), AfterValidator(_bounded)]
Size = Annotated[ByteSize, BeforeValidator(_no_truth)]
Secret = Annotated[SecretStr, AfterValidator(_no_line_end)]
Name = Annotated[str, AfterValidator(_name)]
Url = Annotated[str, AfterValidator(_url)]
HttpPath = Annotated[str, AfterValidator(_path)]
Host = Annotated[str, AfterValidator(_host)]
Zone = Annotated[str, AfterValidator(_zone)]
Secrets = Annotated[list[Secret], BeforeValidator(_without_empty)]
Networks = Annotated[list[IPvAnyNetwork], BeforeValidator(split_at_commas)]
Texts = Annotated[list[str], BeforeValidator(split_at_commas)]
#: For a number, or the word ``auto``: an error is about the one that was meant. The tags are in brackets, like other
#: names of union members.
NUMBER_OR_AUTO: Final = Discriminator(lambda value: "[auto]" if value == "auto" else "[number]")
Auto = Annotated[Literal["auto"], Tag("[auto]")]
Port = Annotated[Int, Field(ge=0, le=65535)]


def suggestion(word: str, known: Sequence[str]) -> str:
    """Return ``; did you mean 'x'?`` if a known name is similar, else an empty text."""
    near = difflib.get_close_matches(word.lower(), known, 1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values cannot be changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
