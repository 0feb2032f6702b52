"""Mend request lines whose target holds raw blanks or non-ASCII bytes.

The vendor documents exactly such requests for older accounts (``…&drtime=2021-02-26 10:01:15&…``: pages "SMS Delivery
Receipt Callback", "Voice Receipt Callback", "OTA API callback"), and Java's ``HttpURLConnection`` sends blanks and
non-ASCII letters of a URL as they are. RFC 9112 section 3.2 lets a server refuse them, and aiohttp's parser does; a
receipt that is sent once would be lost.

Mended is only a line that is well-formed but for this: a method, one blank, a target that starts with ``/``, one
blank, a version that ends the line. Before that ``/`` may stand ``http://`` and a plain host, as proxies send it
(RFC 9112 section 3.2.2); what is escaped stands behind it. A target that holds a version itself
(``/a HTTP/1.1 HTTP/1.1``) has two readings, which is what request smuggling lives on, and is left for the parser to
refuse.
"""

from __future__ import annotations

import re
from typing import Final

_HOST: Final = rb"https?://(?:[0-9A-Za-z.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
_LINE: Final = re.compile(rb"([A-Z]{3,7}) ((?:" + _HOST + rb")?/[^\r\n]*) (HTTP/1\.[01])\r?\n")
_RAW: Final = re.compile(rb"[ \x80-\xff]")
_VERSION_INSIDE: Final = re.compile(rb" HTTP/\d", re.IGNORECASE)


def mended(data: bytes) -> bytes:
    """``data`` with its first line mended; ``data`` itself when there is nothing to mend or it is not safe to.

    Args:
        data: bytes from the first of a request on, with at least the end of its first line.
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
