"""Limits of the events of one callback: the work is linear in its size, and its events fit into memory.

A body of 1 MiB can contain 350,000 items of three bytes, and each item becomes an event of several hundred bytes. The
limits are checked before the work: items are counted before the first one is decoded. A callback above a limit is
rejected: it is stored completely, and can be decoded again after the setting was raised.
"""

from __future__ import annotations

from typing import Final

from gateway.errors import CallbackRejected

#: Defaults of ``ingest.max_items`` and ``ingest.max_event_bytes``. The platform sends one item, or some dozen.
MAX_ITEMS: Final = 1000
MAX_EVENT_BYTES: Final = 8 * 1024 * 1024

#: Objects in lists inside the items (costs, contacts, products) of a callback, as a multiple of ``max_items``. A
#: message has one or two; with ten times more, one body could use the processor for a second.
MEMBERS_PER_ITEM: Final = 4


def check_items(count: int, most: int) -> None:
    """Reject a callback with too many items.

    Args:
        count: items found so far.
        most: ``ingest.max_items``.

    Raises:
        CallbackRejected: ``count`` is larger than ``most``.
    """
    if count > most:
        raise CallbackRejected(f"more than {most} items in one callback, see the setting ingest.max_items")


def too_many_members(most: int) -> CallbackRejected:
    """Return the rejection of a callback with too many objects in its items; ``most`` is ``ingest.max_items``."""
    allowed = most * MEMBERS_PER_ITEM
    return CallbackRejected(f"more than {allowed} objects inside the items, see the setting ingest.max_items")


def check_bytes(size: int, most: int) -> None:
    """Reject a callback whose events are too large in total.

    Args:
        size: size of its events so far, bytes.
        most: ``ingest.max_event_bytes``, bytes.

    Raises:
        CallbackRejected: ``size`` is larger than ``most``.
    """
    if size > most:
        raise CallbackRejected(f"its events have more than {most} bytes, see the setting ingest.max_event_bytes")
