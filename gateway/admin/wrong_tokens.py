"""Wrong admin tokens: counted, logged, and answered late.

Guessing becomes slow and visible; the protection is a long token. Guesses never slow requests with a right token. The
state is a few numbers for the process: an address proves nothing behind a proxy, and a table of addresses would be the
guesser's to fill. Beyond :data:`MAX_WAITING` late answers at a time the next one is refused at once with 429, so
guesses in parallel take neither memory nor time of the event loop.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog

from gateway.errors import SenderError
from gateway.telemetry.metrics import METRICS

#: A person who mistypes does not notice; ten times more would make commands with an old token look broken.
PAUSE_S: Final = 0.3
#: Answers that wait. Ten times more would let guessers hold the admin port's connections.
MAX_WAITING: Final = 16
_LOG_EVERY_S: Final = 10.0

_COUNT: Final = METRICS.counter("gateway_admin_unauthenticated")
_log = structlog.get_logger("gateway.admin")


class TooManyWrongTokens(SenderError):
    """Many wrong tokens come at the same time, this one among them. Send the right one; it is not slowed."""

    status_hint = 429
    retry_after_s = 1.0


class WrongTokens:
    """Counts and slows down wrong tokens of one process."""

    def __init__(self) -> None:
        #: Answers that wait now.
        self.waiting = 0
        self._unlogged = 0
        self._logged_at = -_LOG_EVERY_S

    async def slow_down(self, peer: str) -> None:
        """Count a request with a wrong token, and wait before it is answered.

        Args:
            peer: address at the other end of the connection, for the log.

        Raises:
            TooManyWrongTokens: too many wait already.
        """
        self._note(peer)
        if self.waiting >= MAX_WAITING:
            raise TooManyWrongTokens("too many wrong tokens at a time; send the right one")
        self.waiting += 1
        try:
            await asyncio.sleep(PAUSE_S)
        finally:
            self.waiting -= 1

    def _note(self, peer: str) -> None:
        _COUNT.inc()
        self._unlogged += 1
        now = time.monotonic()
        if now - self._logged_at >= _LOG_EVERY_S:
            _log.warning(
                "admin.unauthenticated",
                peer=peer,
                attempts=self._unlogged,
                advice="a page or script with an old admin.token, or someone who guesses; see who that address is",
            )
            self._logged_at, self._unlogged = now, 0


WRONG_TOKENS: Final = WrongTokens()
