"""POSTs to unknown paths below ``/callbacks/``: kept whole, within a bound, and reported with the nearest path.

A mistyped address in a sender's console must not lose what is sent once. A scanner must not fill the journal, the log
or the memory: a day has a number of requests and of bytes that are kept, and of paths that are logged. The rest is
counted (``gateway_http_refused_total`` with ``not_found``), and its body is not read.

Nothing authenticates such a request, so it is kept as not authenticated, without any token of any path, and with the
names of the paths that would have accepted it: by these, ``gateway replay --rejected`` decodes it again without asking.
"""

from __future__ import annotations

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
from gateway.errors import CallbackRejected, SenderError
from gateway.event import Event
from gateway.ingest.endpoints import BASE_PATH, Endpoint, Endpoints

_log = structlog.get_logger("gateway.ingest")

#: Bytes of kept requests a day. A journal of a week's retention holds a hundredth of its default size of them.
_MOST_BYTES: Final = 16 * 1024 * 1024
#: Paths that are logged a day, once each. A mistyped address is one; a scanner's list has thousands.
_MOST_LOGGED: Final = 1000
#: Characters of a path that are compared with the known ones, in time that grows with their square.
_MOST_COMPARED: Final = 100
#: Of difflib; below it two names share no more than some letters.
_LIKENESS: Final = 0.6


class _UnknownPath:
    """In place of a callback: nothing is decoded, and the answer has no vendor's form."""

    name: Final = UNKNOWN_PATH
    methods: Final = frozenset({"POST"})
    answers: Final[Answers] = TextAnswers("error", "error")

    def decode(self, request: CallbackRequest, context: DecodeContext) -> Decoded:
        raise CallbackRejected("unknown path")


#: In place of the endpoint that the path does not have.
UNKNOWN: Final = Endpoint("", _UnknownPath(), DecodeContext(), Credentials())


class UnknownPaths:
    """Decides what is kept, and logs each path once.

    Args:
        endpoints: the known paths.
        most_kept: requests a day.
        processes: that share the port. Each has its part of the bounds, of the requests at least one.
        clock: now, timezone-aware UTC.
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
        # Of all paths: the request may hold the token of the path that was meant.
        tokens = dict.fromkeys(token for row in endpoints for token in row.credentials.tokens)
        verify_tokens = dict.fromkeys(row.handshake.verify_token for row in endpoints if row.handshake.verify_token)
        self._secrets = Credentials(tokens=(*tokens, *verify_tokens))
        # One setting, the same in all rows.
        self._schema_base_url = next((row.context.schema_base_url for row in endpoints), "")

    def may_keep(self, method: str, path: str) -> bool:
        """Whether to read the body of a request to this path, which is not known. Takes one of the day's requests."""
        if method != "POST" or not path.startswith(BASE_PATH) or self._endpoints.is_disabled(path):
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
        """Make the event that keeps a request for which :meth:`may_keep` was true: pure, and costs what it weighs."""
        return unknown_path_event(
            request,
            self._secrets,
            nearest=self.nearest(request.path),
            authentic_for=self._accepting(request),
            schema_base_url=self._schema_base_url,
        )

    def takes(self, path: str, event: Event) -> bool:
        """Whether the day's bytes have room for the event of a request to this path; then it takes them."""
        size = len(event.to_json())
        has_room = self._bytes + size <= self._most_bytes
        if has_room:
            self._bytes += size
        self._report(path, event if has_room else None)
        return has_room

    def nearest(self, path: str) -> str:
        """Return the known path that was probably meant; empty where none is similar."""
        known = {row.path.removeprefix(BASE_PATH).lower(): row.path for row in self._endpoints}
        name = path.removeprefix(BASE_PATH).rstrip("/")[:_MOST_COMPARED].lower()
        for one in (name, name.rpartition("/")[0]):  # the last segment may be a token
            found = get_close_matches(one, known, n=1, cutoff=_LIKENESS) if one else []
            if found:
                return known[found[0]]
        return ""

    def _accepting(self, request: CallbackRequest) -> list[str]:
        """Return the paths that check something, and would have accepted this request."""
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
        """Log a path once a day. The path itself may be anything, so the line has its length."""
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
