"""The served paths: one row for each, from the configuration and the table of callbacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, cast
from zoneinfo import ZoneInfo

from gateway.callbacks import CALLBACKS, DecodeContext, Decoded
from gateway.callbacks.answers import CODE_ANSWERS, SLACK_ANSWERS, TWILIO_ANSWERS, Answers
from gateway.callbacks.credentials import Credentials
from gateway.callbacks.generic import DecoderCallback, GenericCallback, JsonPath, load_decoder
from gateway.callbacks.handshake import Handshake
from gateway.callbacks.phones import certain
from gateway.callbacks.request import CallbackRequest
from gateway.callbacks.sender_signatures import PRESETS
from gateway.callbacks.signature_policy import DEFAULT_WINDOW_S, TIMED_SCHEMES, Scheme, SignaturePolicy
from gateway.config.callbacks import ConfiguredPath, all_paths, configured_paths
from gateway.config.settings import Auth, CallbackPath, Ingest, Signature

_NO_HANDSHAKE: Final = Handshake()
#: Answers by scheme of other senders; the other schemes use :data:`gateway.callbacks.answers.CODE_ANSWERS`.
_ANSWERS: Final[Mapping[str, Answers]] = {"slack": SLACK_ANSWERS, "twilio": TWILIO_ANSWERS}


class Decodes(Protocol):
    """The part of a callback that an endpoint uses, for built-in callbacks and other senders."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def methods(self) -> frozenset[str]: ...  # noqa: D102
    @property
    def answers(self) -> Answers: ...  # noqa: D102
    def decode(self, request: CallbackRequest, context: DecodeContext) -> Decoded: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path: its callback, its account, and the credentials that it requires."""

    path: str
    callback: Decodes
    context: DecodeContext
    credentials: Credentials
    handshake: Handshake = _NO_HANDSHAKE

    @property
    def signing(self) -> SignaturePolicy | None:
        """Policy by which answers are signed; None if the callback's answers have no signature."""
        return self.credentials.signature


class Endpoints:
    """All paths, to be looked up by the path of a request.

    Args:
        rows: the enabled paths.
        disabled: paths that the configuration disables.
    """

    def __init__(self, rows: Iterator[Endpoint], disabled: frozenset[str] = frozenset()) -> None:
        self._by_path: Mapping[str, Endpoint] = {row.path: row for row in rows}
        self._disabled = disabled

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._by_path.values())

    def find(self, path: str) -> Endpoint | None:
        """Return the endpoint of a path, or None. A slash at its end is ignored; its last segment may be the token."""
        found = self._by_path.get(path)
        if found is not None:
            return found
        path = path.rstrip("/")
        found = self._by_path.get(path)
        if found is not None:
            return found
        found = self._by_path.get(path.rpartition("/")[0])
        return found if found is not None and found.credentials.tokens else None

    def is_disabled(self, path: str) -> bool:
        """Return whether the configuration disables a path, in contrast to an unknown path."""
        path = path.rstrip("/")
        return path in self._disabled or path.rpartition("/")[0] in self._disabled

    @property
    def open_paths(self) -> list[str]:
        """Paths without any check: any client that knows the address can write events."""
        return [row.path for row in self if row.credentials.is_open]


def endpoints(settings: Ingest, schema_base_url: str | None = None) -> Endpoints:
    """Return the paths of all built-in callbacks, and then those of other senders.

    Args:
        settings: section ``ingest``.
        schema_base_url: value of ``topics.schema_base_url``.
    """
    disabled = frozenset(row.path for row in all_paths(settings) if not row.config.enabled)
    base_url = (schema_base_url or "").rstrip("/")
    return Endpoints((_endpoint(settings, row, base_url) for row in configured_paths(settings)), disabled)


def _other_sender(name: str, row: CallbackPath) -> Decodes:
    """Return the callback of another sender, by configuration or with a decoder of the user; the row is valid."""
    topic = row.topic or name
    scheme = row.auth.signature.scheme if row.auth.signature else None
    answers = _ANSWERS.get(scheme or "", CODE_ANSWERS)
    type_path = row.type if row.type and row.type.startswith("$") else ""
    if row.decoder in ("json", "form"):
        return GenericCallback(
            name,
            "json" if row.decoder == "json" else "form",
            topic,
            JsonPath(row.key or "$.id"),
            type="" if type_path else row.type or "",
            id=JsonPath(row.id) if row.id else None,
            time=JsonPath(row.time) if row.time else None,
            type_path=JsonPath(type_path) if type_path else None,
            each=JsonPath(row.each) if row.each and row.each != "$" else "$" if row.each else None,
            answers=answers,
        )
    return DecoderCallback(name, load_decoder(row.decoder or ""), topic, type=row.type or "", answers=answers)


def _endpoint(settings: Ingest, found: ConfiguredPath, schema_base_url: str) -> Endpoint:
    row = found.config
    builtin = CALLBACKS.get(found.callback)
    scheme = builtin.signature if builtin else (row.auth.signature and row.auth.signature.scheme) or "hmac"
    credentials = _credentials(row.auth, scheme)
    return Endpoint(
        path=found.path,
        callback=builtin or _other_sender(found.callback, row),
        context=DecodeContext(
            zone=ZoneInfo(row.timezone or settings.timezone),
            account=row.account,
            credential_fields=credentials.fields,
            own_numbers=frozenset(certain(number).text.lstrip("+") for number in row.own_numbers),
            max_items=settings.max_items,
            max_event_bytes=int(settings.max_event_bytes),
            country=(row.default_country or "").lstrip("+"),
            schema_base_url=schema_base_url,
        ),
        credentials=credentials,
        handshake=Handshake(
            row.auth.verify_token.get_secret_value(), frozenset(map(str.lower, row.auth.allowed_origins))
        ),
    )


def _credentials(auth: Auth, scheme: str | None) -> Credentials:
    return Credentials(
        tokens=tuple(auth.all_tokens),
        allow_ips=tuple(auth.allow_ips),
        signature=_policy(auth.signature, scheme) if auth.signature and auth.signature.all_secrets and scheme else None,
    )


def _policy(signature: Signature, scheme: str) -> SignaturePolicy:
    secrets = tuple(signature.all_secrets)
    if scheme not in ("general", "callbot"):
        return sender_policy(signature)
    return SignaturePolicy(
        "callbot" if scheme == "callbot" else "general",
        secrets,
        algorithm="sha256" if signature.algorithm == "sha256" else "md5" if signature.algorithm == "md5" else None,
        access_key=signature.access_key,
        window_s=signature.window,
    )


def sender_policy(signature: Signature) -> SignaturePolicy:
    """Return the policy that checks another sender's signature; the loader has validated the section."""
    secrets, scheme = tuple(signature.all_secrets), signature.scheme or "hmac"
    if scheme == "hmac":
        return SignaturePolicy(
            "hmac",
            secrets,
            header=(signature.header or "x-signature").lower(),
            digest=signature.algorithm or "sha256",
            encoding=signature.encoding,
            prefix=signature.prefix,
        )
    if scheme in PRESETS:
        header, digest, encoding, prefix = PRESETS[scheme]
        return SignaturePolicy("hmac", secrets, header=header, digest=digest, encoding=encoding, prefix=prefix)
    return SignaturePolicy(
        cast("Scheme", scheme),  # all but those of PRESETS
        secrets,
        window_s=(signature.window or DEFAULT_WINDOW_S) if scheme in TIMED_SCHEMES else None,
        header=(signature.header or "webhook").lower(),
        url=signature.url or "",
    )
