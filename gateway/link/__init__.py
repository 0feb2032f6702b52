"""The link: how the processes of one machine reach the log process, over a Unix socket.

    ingest ─── append ──▶ log ─── stored, trimmed, state ──▶ deliver
                           ◀─── append, note, sync ─────────

A frame is a head of five bytes, big-endian, and its content:

    u32 length of the content · u8 kind · content

Requests (``APPEND``, ``NOTE``, ``SYNC``) begin with a number (u32) that their answer repeats; many may be under way at
a time. A client that sends ``HELLO`` with ``follows`` gets a snapshot (``WELCOME``), then each commit. One that
does not read is sent nothing above a bound, and another snapshot when it reads again: records are in the file.

When the connection breaks, :class:`LogClient` connects again and repeats what was not answered. That is safe for vendor
events: the log process knows their ids, also a new one. Records of internal topics may be stored twice then, which
delivers them twice. What is not answered within ``resend_s`` of the break, or ``answer_s`` of being sent, fails with
:class:`JournalUnavailable`: the platform gets 503 and sends again.
"""

from gateway.link.client import LinkPolicy, LogClient
from gateway.link.server import LogServer, remove_other_sockets

__all__ = ["LinkPolicy", "LogClient", "LogServer", "remove_other_sockets"]
