"""Escape raw spaces and non-ASCII bytes in the target of a request line.

The vendor documents such requests for older accounts (``…&drtime=2021-02-26 10:01:15&…``: pages "SMS Delivery
Receipt Callback", "Voice Receipt Callback", "OTA API callback"), and Java's ``HttpURLConnection`` sends spaces and
non-ASCII characters of a URL raw. RFC 9112 section 3.2 allows a server to refuse them, and aiohttp's parser does; a
receipt that is sent once would be lost.

Only a line that is otherwise well-formed is changed: a method, one space, a target that starts with ``/``, one space,
a version at the end of the line. ``http://`` and a plain host may precede the ``/``, as proxies send it (RFC 9112
section 3.2.2); only the part behind them is escaped. A target that contains a version (``/a HTTP/1.1 HTTP/1.1``) is
ambiguous, as in request smuggling; it stays unchanged, and the parser refuses it.
"""

from __future__ import annotations

import re
from typing import Final

_HOST: Final = rb"https?://(?:[0-9A-Za-z.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
_LINE: Final = re.compile(rb"([A-Z]{3,7}) ((?:" + _HOST + rb")?/[^\r\n]*) (HTTP/1\.[01])\r?\n")
_RAW: Final = re.compile(rb"[ \x80-\xff]")
_VERSION_INSIDE: Final = re.compile(rb" HTTP/\d", re.IGNORECASE)


def mended(data: bytes) -> bytes:
    """Return ``data`` with its first line escaped; ``data`` itself if no change is needed or safe.

    Args:
        data: bytes from the beginning of a request, with at least the end of its first line.
    """
    end = data.find(b"\n")
    if end < 0 or (data.count(b" ", 0, end) == 2 and data[:end].isascii()):
        return data
    line = _LINE.match(data)
    if line is None:
        return data
    target = line[2]
    if _VERSION_INSIDE.search(target):
        return data
    escaped = _RAW.sub(lambda match: b"%%%02X" % match[0][0], target)
    return b"%b %b %b%b" % (line[1], escaped, line[3], data[line.end(3) :])
