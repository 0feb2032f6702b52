"""The embedded log: a folder on local disk with one SQLite file, written by one process.

An append: :class:`Journal` encodes the records (``batch_format``) and passes them to the writer (``writer``), which is
in this process or behind a socket (:mod:`gateway.link`; ``following`` is the interface of both sides). The records of
one turn of its event loop are stored as one row for each stream (``group_commit``, ``store``) without repeats
(``known_ids``); ``retention`` frees room if the file is full. Readers (``reader``) receive each commit from memory
(``cache``) while they keep up, otherwise from the file; their positions are sent to the writer (``positions``).
``checkpoint`` copies the WAL into the file beside the commits. ``rows`` reads rows that a disk may have damaged;
``scan`` returns gaps at their place; ``expiry`` reports records that expire before they were read; ``cursors`` stores
the positions of cursors that share a reading. ``lock`` prevents a second writer. ``inspection`` examines damage and
makes a ``report``; ``salvaging`` copies readable records. ``takeover`` moves the records of journals which older
versions had for each worker.

Rejected: one row for each event (three times the cost of an event); a hand-written file format (no cheaper, and
SQLite's recovery is proven in practice).
"""

from gateway.log.journal.journal import Journal
from gateway.log.journal.reader import JournalReader
from gateway.log.journal.retention import Retention
from gateway.log.journal.streams import EVENTS
from gateway.log.journal.writer import JournalWriter

__all__ = ["EVENTS", "Journal", "JournalReader", "JournalWriter", "Retention"]
