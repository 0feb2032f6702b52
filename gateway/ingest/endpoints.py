"""The served paths: one row for each, from the configuration and the table of callbacks; and requests to other paths.

POSTs to unknown paths below ``/callbacks/`` are stored completely, within a limit, and the nearest path is logged.
A mistyped address in a sender's console must not lose callbacks that are sent once. A scanner must not fill the
journal, the log or the memory: each day has a limit of stored requests and bytes, and of logged paths. Further requests
are counted (``gateway_http_refused_total`` with ``not_found``), and their bodies are not read.

Such a request is not authenticated. It is stored without the tokens of any path, with the names of the paths that would
have accepted it. For these paths ``gateway replay --rejected`` decodes it without ``--unauthenticated``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from difflib import get_close_matches
from typing import Final, Protocol, cast
from zoneinfo import ZoneInfo

import structlog

from gateway.callbacks import CALLBACKS, DecodeContext, Decoded
from gateway.callbacks.answers import CODE_ANSWERS, SLACK_ANSWERS, TWILIO_ANSWERS, Answers, Handshake, text_answers
from gateway.callbacks.credentials import Credentials
from gateway.callbacks.generic import DecoderCallback, GenericCallback, JsonPath, load_decoder
from gateway.callbacks.payload import CallbackRequest
from gateway.callbacks.phones import certain
from gateway.callbacks.rejected import UNKNOWN_PATH, unknown_path_event
from gateway.callbacks.sender_signatures import PRESETS
from gateway.callbacks.signature import DEFAULT_WINDOW_S, TIMED_SCHEMES, Scheme, SignaturePolicy
from gateway.config.callbacks import BASE_PATH, ConfiguredPath, all_paths, configured_paths
from gateway.config.settings import Auth, CallbackPath, Ingest, Signature
from gateway.errors import CallbackRejected, SenderError
from gateway.event import Event

_log = structlog.get_logger("gateway.ingest")

#: Bytes of stored requests a day. In a week they fill a hundredth of a journal of default size.
_MOST_BYTES: Final = 16 * 1024 * 1024
_SLASHES: Final = re.compile("/{2,}")
#: Paths that are logged a day, once each. A mistyped address is one path; a scanner tries thousands.
_MOST_LOGGED: Final = 1000
#: Characters of a path that are compared with the known paths; the time grows with their square.
_MOST_COMPARED: Final = 100
#: Similarity of difflib; two names below it share only some characters.
_LIKENESS: Final = 0.6
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


class _UnknownPath:
    """Replaces the callback: decodes nothing, and answers without a vendor's format."""

    name: Final = UNKNOWN_PATH
    methods: Final = frozenset({"POST"})
    answers: Final[Answers] = text_answers("error", "error")

    def decode(self, request: CallbackRequest, context: DecodeContext) -> Decoded:
        raise CallbackRejected("unknown path")


#: Replaces the endpoint of an unknown path.
UNKNOWN: Final = Endpoint("", _UnknownPath(), DecodeContext(), Credentials())


class UnknownPaths:
    """Decides which requests are stored, and logs each path once.

    Args:
        endpoints: the known paths.
        most_kept: stored requests a day.
        processes: number of processes that share the port. Each has its part of the limits, and at least one request.
        clock: returns the current time, timezone-aware UTC.
    """

    def __init__(
        self, endpoints: Endpoints, *, most_kept: int, processes: int = 1, clock: Callable[[], datetime]
    ) -> None:
        self._endpoints = endpoints
        self._most_kept = max(1, most_kept // processes) if most_kept else 0
        self._most_bytes = _MOST_BYTES // processes
        self._clock = clock
        self._day: date | None = None
        self._kept = 0
        self._bytes = 0
        self._logged: set[int] = set()
        # Tokens of all paths: the request may contain the token of the intended path.
        tokens = dict.fromkeys(token for row in endpoints for token in row.credentials.tokens)
        verify_tokens = dict.fromkeys(row.handshake.verify_token for row in endpoints if row.handshake.verify_token)
        self._secrets = Credentials(tokens=(*tokens, *verify_tokens))
        # One setting; all rows have the same value.
        self._schema_base_url = next((row.context.schema_base_url for row in endpoints), "")

    def may_keep(self, method: str, path: str) -> bool:
        """Return whether to read the body of a request to an unknown path; if so, count it for the day.

        Args:
            method: of the request.
            path: of the request, without the query.
        """
        tidy = _tidy(path)
        if method != "POST" or not tidy.startswith(BASE_PATH) or any(map(self._endpoints.is_disabled, (path, tidy))):
            return False
        today = self._clock().date()
        if today != self._day:
            self._day, self._kept, self._bytes = today, 0, 0
            self._logged.clear()
        if self._kept >= self._most_kept or self._bytes >= self._most_bytes:
            self._report(path, None)
            return False
        self._kept += 1
        return True

    def event(self, request: CallbackRequest) -> Event:
        """Return the event that contains a request for which :meth:`may_keep` was true. Pure."""
        return unknown_path_event(
            request,
            self._secrets,
            nearest=self.nearest(request.path),
            authentic_for=self._accepting(request),
            schema_base_url=self._schema_base_url,
        )

    def takes(self, path: str, event: Event) -> bool:
        """Return whether the daily limit has room for the event; if so, count its bytes.

        Args:
            path: of the request, without the query.
            event: contains the request.
        """
        size = len(event.to_json())
        has_room = self._bytes + size <= self._most_bytes
        if has_room:
            self._bytes += size
        self._report(path, event if has_room else None)
        return has_room

    def nearest(self, path: str) -> str:
        """Return the most similar known path; empty if no known path is similar."""
        known = {row.path.removeprefix(BASE_PATH).lower(): row.path for row in self._endpoints}
        name = _tidy(path).removeprefix(BASE_PATH).rstrip("/")[:_MOST_COMPARED]
        for one in (name, name.rpartition("/")[0]):  # the last segment may be a token
            found = get_close_matches(one, known, n=1, cutoff=_LIKENESS) if one else []
            if found:
                return known[found[0]]
        return ""

    def _accepting(self, request: CallbackRequest) -> list[str]:
        """Return the paths with credentials that would have accepted this request."""
        found = []
        for row in self._endpoints:
            if not row.credentials.is_open:
                try:
                    row.credentials.check(request, request.received_at)
                except SenderError:
                    continue
                found.append(row.path)
        return found

    def _report(self, path: str, event: Event | None) -> None:
        """Log a path once a day. The line has its length only, because the path may contain anything."""
        key = hash(path)
        if key in self._logged or len(self._logged) >= _MOST_LOGGED:
            return
        self._logged.add(key)
        nearest = self.nearest(path)
        _log.warning(
            "callback.unknown_path",
            nearest=nearest or None,
            characters=len(path),
            id=event.id if event is not None else None,
            advice="correct the address at the sender, then decode what was kept with gateway replay --rejected "
            f"--callback {UNKNOWN_PATH} --as {nearest or 'CALLBACK'}",
        )


def _tidy(path: str) -> str:
    """Return a path without repeated slashes, in lower case."""
    return _SLASHES.sub("/", path).lower()
