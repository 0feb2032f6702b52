"""Positions of readers on their way to the writer: collected for a short time, kept until they are durable."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial
from typing import Final

from gateway.errors import JournalUnavailable, NotNow
from gateway.log.journal.following import Positions, Writer

#: A crash repeats the deliveries of this time; ten times less doubles the commits of an idle gateway.
_INTERVAL_S: Final = 0.25
#: The same for the cursors of subscribers: there may be hundreds, and each is a row.
_LATER_S: Final = 1.0


class PositionKeeper:
    """Collects positions and passes them to a writer.

    Args:
        writer: stores them; may be unavailable for a while.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._positions: dict[tuple[str, str], int] = {}
        self._unsaved: dict[tuple[str, str], int] = {}
        self._saving: set[asyncio.Future[None]] = set()
        self._later: set[tuple[str, str]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._later_timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._is_abandoned = False

    @property
    def positions(self) -> Positions:
        """Positions by (group, stream), durable or about to be."""
        return self._positions

    def welcomed(self, durable: Positions) -> None:
        """Add the positions that the writer has; those known here are newer and stay."""
        self._positions = {**durable, **self._positions}

    def note(self, group: str, stream: str, position: int) -> None:
        """Store a position within a quarter of a second.

        Args:
            group: name of the reader.
            stream: its name.
            position: everything below this offset is done.
        """
        self._positions[group, stream] = position
        if not self._is_abandoned:
            self._unsaved[group, stream] = position
            self._save_soon()

    def note_later(self, group: str, stream: str, position: int) -> None:
        """Store a position within about a second, together with those of other readers.

        Args:
            group: name of the reader.
            stream: its name.
            position: everything below this offset is done.
        """
        self._positions[group, stream] = position
        if self._is_abandoned:
            return
        self._later.add((group, stream))
        if self._later_timer is None and not self._is_closed:
            self._later_timer = asyncio.get_running_loop().call_later(_LATER_S, self._later_due)

    def _later_due(self) -> None:
        self._later_timer = None
        self._save()

    def abandon(self) -> None:
        """Store nothing from now on, and fail stores in progress: the writer's file is another one."""
        self._is_abandoned = True
        self._unsaved.clear()
        self._later.clear()
        for saved in self._saving:
            if not saved.done():
                saved.set_exception(_abandoned())

    async def flush(self) -> None:
        """Store all positions, and everything that the writer received before; return when it is durable.

        Raises:
            NotNow: it is not durable; the keeper tries again.
        """
        await self._save()

    async def close(self) -> None:
        """Store all positions if the writer accepts them, and nothing afterwards."""
        self._is_closed = True
        for timer in (self._timer, self._later_timer):
            if timer is not None:
                timer.cancel()
        if self._unsaved or self._later:
            await asyncio.wait([self._save()])

    def _save_soon(self) -> None:
        if self._timer is None and not self._is_closed:
            self._timer = asyncio.get_running_loop().call_later(_INTERVAL_S, self._save_due)

    def _save_due(self) -> None:
        self._timer = None
        if self._unsaved:
            self._save(with_later=False)

    def _save(self, *, with_later: bool = True) -> asyncio.Future[None]:
        unsaved, self._unsaved = self._unsaved, {}
        if with_later:
            later, self._later = self._later, set()
            unsaved.update((place, self._positions[place]) for place in later)
        try:
            if self._is_abandoned:
                raise _abandoned()
            saved = self._writer.note(unsaved)
        except NotNow as exc:
            saved = asyncio.get_running_loop().create_future()
            saved.set_exception(exc)
        self._saving.add(saved)
        saved.add_done_callback(partial(self._saved, unsaved))
        return saved

    def _saved(self, positions: Collection[tuple[str, str]], saved: asyncio.Future[None]) -> None:
        self._saving.discard(saved)
        if self._is_abandoned or (not saved.cancelled() and saved.exception() is None):
            return
        # With their present values: newer ones may have been stored since, and must not be overwritten.
        self._unsaved.update((place, self._positions[place]) for place in positions)
        if self._unsaved:
            self._save_soon()


def _abandoned() -> JournalUnavailable:
    return JournalUnavailable("the journal's file was replaced; these positions are of the one before")
