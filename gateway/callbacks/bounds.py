"""Bounds on what one callback may become, so that the work on it is linear in its size and its events fit into memory.

A body of 1 MiB can hold 350,000 items of three bytes, and each item becomes an event of several hundred. The bounds
are checked before the work: items are counted before the first one is decoded. A callback past a bound is rejected,
which means that it is kept whole and can be decoded again after the setting was raised.
"""

from __future__ import annotations

from typing import Final

from gateway.errors import CallbackRejected

#: Defaults of ``ingest.max_items`` and ``ingest.max_event_bytes``. The platform sends one item, or some dozen.
MAX_ITEMS: Final = 1000
MAX_EVENT_BYTES: Final = 8 * 1024 * 1024

#: Objects in lists inside the items (costs, contacts, products), as a multiple of ``max_items``, in all of a callback.
#: A message has one or two; ten times more would let one body hold the processor for a second.
MEMBERS_PER_ITEM: Final = 4


def check_items(count: int, most: int) -> None:
    """Refuse a callback of too many items.

    Args:
        count: items found in it so far.
        most: ``ingest.max_items``.

    Raises:
        CallbackRejected: there are more.
    """
    if count > most:
        raise CallbackRejected(f"more than {most} items in one callback, see the setting ingest.max_items")


def too_many_members(most: int) -> CallbackRejected:
    """Return the rejection of a callback whose items hold too many objects; ``most`` is ``ingest.max_items``."""
    allowed = most * MEMBERS_PER_ITEM
    return CallbackRejected(f"more than {allowed} objects inside the items, see the setting ingest.max_items")


def check_bytes(size: int, most: int) -> None:
    """Refuse a callback whose events are too large together.

    Args:
        size: bytes of its events so far.
        most: ``ingest.max_event_bytes``.

    Raises:
        CallbackRejected: they are more.
    """
    if size > most:
        raise CallbackRejected(f"its events have more than {most} bytes, see the setting ingest.max_event_bytes")
