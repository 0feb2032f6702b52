"""What a callback's section may say: a built-in one less than a webhook of another sender."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.callbacks import CALLBACKS
from gateway.callbacks.generic import JsonPath, load_decoder
from gateway.callbacks.phones import is_country_code
from gateway.config.document import KeyPath
from gateway.config.sentences import suggestion
from gateway.config.settings import CallbackPath, Signature

Problem = tuple[KeyPath, str]
#: Name, place in the callback's list, and the section.
Row = tuple[str, int, CallbackPath]

#: Decoders that need no code.
_PLAIN_DECODERS = frozenset({"json", "form"})


def section_problems(name: str, row: CallbackPath) -> Iterator[Problem]:
    """What is wrong with one section, with key paths below it."""
    signature = row.auth.signature
    if name in CALLBACKS:
        if row.decoder is not None:
            yield ("decoder",), f"{name} is built in; give a webhook of another sender another name"
        else:
            for key in ("topic", "type", "key", "id", "time"):
                if getattr(row, key) is not None:
                    yield (key,), f"only other senders' callbacks have it; {name} is built in and decides by itself"
        if row.own_numbers and name != "did-sms":
            yield ("own_numbers",), "only did-sms looks at it"
        if row.default_country is not None and not is_country_code(row.default_country.lstrip("+")):
            yield ("default_country",), f"there is no country code {row.default_country}"
        if signature is not None:
            yield from ((("auth", "signature", *path), text) for path, text in _vendor_signature(name, signature))
        return
    if row.decoder is None:
        known = [*CALLBACKS]
        hint = suggestion(name, known)
        hint = hint or f"; the built-in ones are {', '.join(known)}."
        yield (), f"unknown callback{hint} For another sender set decoder, topic and key"
        return
    yield from _other_sender(row)
    if signature is not None and signature.access_key is not None:
        yield ("auth", "signature", "access_key"), "only the platform's own signatures have one"
    if signature is not None and signature.window is not None:
        yield ("auth", "signature", "window"), "only the platform's own signatures hold a time; leave it out"


def _vendor_signature(name: str, signature: Signature) -> Iterator[Problem]:
    if CALLBACKS[name].signature is None:
        yield (), f"the platform does not sign {name}; protect it by token or allow_ips"
        return
    if signature.algorithm in ("sha1", "sha512"):
        yield ("algorithm",), "the platform signs with md5 or sha256"
    given = {
        "header": signature.header is not None,
        "encoding": signature.encoding != "hex",
        "prefix": signature.prefix,
    }
    for key in filter(given.get, given):
        yield (key,), "only for other senders; the platform's headers are fixed"


def _other_sender(row: CallbackPath) -> Iterator[Problem]:
    if row.default_country is not None:
        yield ("default_country",), "only built-in callbacks read phone numbers"
    if row.topic is None:
        yield ("topic",), "is needed with decoder: the events must go somewhere"
    if row.decoder in _PLAIN_DECODERS:
        if row.key is None:
            yield ("key",), f"is needed with decoder: {row.decoder}; events of one key keep their order"
        for name in ("key", "id", "time"):
            text = getattr(row, name)
            if text is not None and (problem := _json_path_problem(text)):
                yield (name,), problem
        return
    assert row.decoder is not None
    try:
        load_decoder(row.decoder)
    except (LookupError, TypeError) as exc:
        yield ("decoder",), f"{str(exc).strip(chr(34))}; or use json or form"
    except Exception as exc:  # the module is somebody else's code, and it runs when it is loaded
        yield ("decoder",), f"the decoder {row.decoder!r} cannot be loaded: {type(exc).__name__}"


def _json_path_problem(text: str) -> str | None:
    try:
        JsonPath(text)
    except ValueError:
        return "not a path such as $.order.id"
    return None


def paths_twice(rows: Sequence[Row]) -> Iterator[Problem]:
    """Two callbacks on one path. A built-in callback that the file does not name stands at its default path."""
    named = {name for name, _, _ in rows}
    taken = {f"/callbacks/{name}": name for name in CALLBACKS if name not in named}
    for name, position, row in rows:
        if not row.enabled:
            continue
        path = (row.path or f"/callbacks/{name}").rstrip("/") or "/"
        if path in taken:
            yield ("ingest", "callbacks", name, position, "path"), f"{path} is taken by {taken[path]} already"
        taken.setdefault(path, name)
