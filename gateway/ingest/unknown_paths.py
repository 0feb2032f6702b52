"""POSTs to unknown paths below ``/callbacks/``: store them completely, within a limit, and log the nearest path.

A mistyped address in a sender's console must not lose callbacks that are sent once. A scanner must not fill the
journal, the log or the memory: each day has a limit of stored requests and bytes, and of logged paths. Further requests
are counted (``gateway_http_refused_total`` with ``not_found``), and their bodies are not read.

Such a request is not authenticated. It is stored without the tokens of any path, with the names of the paths that would
have accepted it. For these paths ``gateway replay --rejected`` decodes it without ``--unauthenticated``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from difflib import get_close_matches
from typing import Final

import structlog

from gateway.callbacks import DecodeContext, Decoded
from gateway.callbacks.answers import Answers, TextAnswers
from gateway.callbacks.credentials import Credentials
from gateway.callbacks.rejected import UNKNOWN_PATH, unknown_path_event
from gateway.callbacks.request import CallbackRequest
from gateway.config.callbacks import BASE_PATH
from gateway.errors import CallbackRejected, SenderError
from gateway.event import Event
from gateway.ingest.endpoints import Endpoint, Endpoints

_log = structlog.get_logger("gateway.ingest")

#: Bytes of stored requests a day. In a week they fill a hundredth of a journal of default size.
_MOST_BYTES: Final = 16 * 1024 * 1024
#: Paths that are logged a day, once each. A mistyped address is one path; a scanner tries thousands.
_MOST_LOGGED: Final = 1000
#: Characters of a path that are compared with the known paths; the time grows with their square.
_MOST_COMPARED: Final = 100
#: Similarity of difflib; two names below it share only some characters.
_LIKENESS: Final = 0.6
_SLASHES: Final = re.compile("/{2,}")


class _UnknownPath:
    """Replaces the callback: decodes nothing, and answers without a vendor's format."""

    name: Final = UNKNOWN_PATH
    methods: Final = frozenset({"POST"})
    answers: Final[Answers] = TextAnswers("error", "error")

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
