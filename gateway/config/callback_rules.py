"""Rules for the section of a callback: a built-in callback has fewer keys than a webhook of another sender."""

from __future__ import annotations

from collections.abc import Iterator

from gateway import signing
from gateway.callbacks import CALLBACKS
from gateway.callbacks.generic import JsonPath, load_decoder
from gateway.callbacks.phones import certain, is_country_code
from gateway.callbacks.rejected import UNKNOWN_PATH
from gateway.callbacks.signature_policy import TIMED_SCHEMES
from gateway.config.callbacks import configured_paths
from gateway.config.document import KeyPath
from gateway.config.settings import CallbackPath, Ingest, Signature
from gateway.config.values import suggestion

Problem = tuple[KeyPath, str]

#: Decoders that need no code.
_PLAIN_DECODERS = frozenset({"json", "form"})


def section_problems(name: str, row: CallbackPath) -> Iterator[Problem]:
    """Yield the problems of one section, with key paths below it."""
    signature = row.auth.signature
    if name in CALLBACKS:
        if row.decoder is not None:
            yield ("decoder",), f"{name} is built in; give a webhook of another sender another name"
        else:
            for key in ("topic", "type", "key", "id", "time", "each"):
                if getattr(row, key) is not None:
                    yield (key,), f"only other senders' callbacks have it; {name} is built in and decides by itself"
        if row.own_numbers and name != "did-sms":
            yield ("own_numbers",), "only did-sms uses it"
        for position, number in enumerate(row.own_numbers):
            if not certain(number).text.lstrip("+").isdigit():
                yield ("own_numbers", position), "a phone number with its country code is needed, such as 15550100001"
        if row.backfill is not None:
            yield from _backfill(name, row)
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
    if name == UNKNOWN_PATH:
        yield (), "the name is kept for requests to unknown paths; give the callback another one"
    yield from _other_sender(row)
    if row.backfill is not None:
        yield ("backfill",), "only whatsapp has it; the platform returns no other callbacks"
    if signature is not None:
        yield from ((("auth", "signature", *path), text) for path, text in _sender_signature(signature))


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
        "scheme": signature.scheme,
        "url": signature.url,
    }
    for key in filter(given.get, given):
        yield (key,), "only for other senders; the platform's headers are fixed"


def _backfill(name: str, row: CallbackPath) -> Iterator[Problem]:
    if name != "whatsapp":
        yield ("backfill",), "only whatsapp has it; the platform returns no other callbacks"
        return
    assert row.backfill is not None
    signature = row.auth.signature
    if not (row.backfill.access_key or (signature and signature.access_key)):
        yield ("backfill", "access_key"), "is needed: the platform asks who signs; auth.signature has no access_key"
    if not (row.backfill.secret.get_secret_value() or (signature and signature.all_secrets)):
        yield ("backfill", "secret"), "is needed: the platform asks for a signature; auth.signature has no secret"


def _sender_signature(signature: Signature) -> Iterator[Problem]:
    scheme = signature.scheme or "hmac"
    if signature.access_key is not None:
        yield ("access_key",), "only the platform's own signatures have one"
    if signature.window is not None and scheme not in TIMED_SCHEMES:
        yield ("window",), f"{scheme} signs no time; leave it out"
    given = {
        "algorithm": signature.algorithm,
        "encoding": signature.encoding != "hex",
        "prefix": signature.prefix,
        "header": signature.header is not None and scheme != "standard-webhooks",
    }
    if scheme != "hmac":
        for key in filter(given.get, given):
            yield (key,), f"only with scheme: hmac; {scheme} has its own"
    if scheme == "twilio":
        if signature.url is None:
            yield (
                ("url",),
                "is needed with scheme: twilio, as it is part of what is signed; copy it from Twilio's console",
            )
    elif signature.url is not None:
        yield ("url",), "only with scheme: twilio"
    if scheme == "standard-webhooks":
        yield from _standard_webhooks(signature)


def _standard_webhooks(signature: Signature) -> Iterator[Problem]:
    if signature.header is not None and signature.header.lower() not in ("webhook", "svix"):
        yield ("header",), "the names of the three headers begin with webhook (the default) or svix"
    rows: list[tuple[KeyPath, str]] = [(("secret",), signature.secret.get_secret_value())]
    rows += [(("secrets", position), secret.get_secret_value()) for position, secret in enumerate(signature.secrets)]
    for path, secret in rows:
        if secret and (problem := signing.problem_of_verifying(secret)):
            yield path, problem


def _other_sender(row: CallbackPath) -> Iterator[Problem]:
    if row.default_country is not None:
        yield ("default_country",), "only built-in callbacks read phone numbers"
    if row.topic is None:
        yield ("topic",), "is needed with decoder: the events must go somewhere"
    if row.decoder in _PLAIN_DECODERS:
        if row.key is None:
            yield ("key",), f"is needed with decoder: {row.decoder}; events of one key keep their order"
        yield from _paths_in_payload(row)
        return
    assert row.decoder is not None
    if row.each is not None:
        yield ("each",), "only with decoder: json; your own decoder finds the items itself"
    try:
        load_decoder(row.decoder)
    except (LookupError, TypeError) as exc:
        yield ("decoder",), f"{str(exc).strip(chr(34))}; or use json or form"
    except Exception as exc:  # the module is foreign code, and it runs when it is loaded
        yield ("decoder",), f"the decoder {row.decoder!r} cannot be loaded: {type(exc).__name__}"


def _paths_in_payload(row: CallbackPath) -> Iterator[Problem]:
    if row.each is not None and row.decoder != "json":
        yield ("each",), "only with decoder: json"
    elif row.each is not None and row.each != "$" and (row.each.startswith("$$") or _json_path_problem(row.each)):
        yield ("each",), "not a path such as $.events, nor $ for a body that is a list"
    for name in ("key", "id", "time", "type"):
        text = getattr(row, name)
        if text is None or (name == "type" and not text.startswith("$")):
            continue
        if problem := _json_path_problem(text):
            yield (name,), problem
        elif text.startswith("$$") and row.each is None:
            yield (name,), "$$ is the body around the items of each; without each write $"


def _json_path_problem(text: str) -> str | None:
    try:
        JsonPath(text)
    except ValueError:
        return "not a path such as $.order.id"
    return None


def paths_twice(ingest: Ingest) -> Iterator[Problem]:
    """Yield paths of two callbacks. The file is at fault, not a built-in callback that it does not name."""
    taken: dict[str, str] = {}
    for row in sorted(configured_paths(ingest), key=lambda row: row.is_in_file):
        if row.path in taken:
            path: KeyPath = ("ingest", "callbacks", row.callback, row.position, "path")
            yield path, f"{row.path} is taken by {taken[row.path]} already"
        taken.setdefault(row.path, row.callback)
