"""The embedded log: a folder on local disk with one SQLite file, written by one process.

The way of an append: :class:`Journal` encodes the records (``batch_format``) and gives them to the writer (``writer``):
in this process, or over a socket (:mod:`gateway.link`; ``following`` is what both sides say). What one turn of its
event loop brings is stored as one row a stream (``group_commit``, ``store``) but for repeats (``known_ids``), with room
made when the file is full (``retention``). Readers (``reader``) are shown each commit, from memory (``cache``) while
they keep up and from the file else; how far they came goes back to the writer (``positions``). ``checkpoint`` folds the
WAL into the file beside the commits. ``rows`` reads what a disk may have damaged; ``scan`` names what is missing where
it is; ``expiry`` reports what goes before it was read; ``cursors`` keeps the places of those who share a reading.
``lock`` keeps a second writer out. ``inspection`` looks at damage and makes a ``report``; ``salvaging`` copies what can
be read. ``takeover`` moves the records of journals that older versions kept for each worker.

Rejected: one row per event (three times the cost per event); a hand-written file format (no cheaper, and
SQLite's recovery has been proven by others).
"""

from gateway.log.journal.journal import Journal
from gateway.log.journal.reader import JournalReader
from gateway.log.journal.retention import Retention
from gateway.log.journal.streams import EVENTS
from gateway.log.journal.writer import JournalWriter

__all__ = ["EVENTS", "Journal", "JournalReader", "JournalWriter", "Retention"]
