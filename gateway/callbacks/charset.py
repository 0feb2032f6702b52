"""Decode bytes that are not plain UTF-8: a declared character set, UTF-16, or Chinese text without a declaration.

A sender declares a character set in the content type of the request, in that of one part of a multipart form, or in
the form's field ``_charset_``. A declared set is used. If no known set is declared, or the bytes are not valid in it,
the bytes decide: UTF-8; otherwise GB18030, which includes GBK and GB2312, if the characters are common ones; otherwise
each byte that is not UTF-8 becomes ``\\xNN``, so that a receipt is not lost because of one character. An undeclared set
is reported as drift, ``charset:gb18030``.

This module is not used for UTF-8: it runs after a strict decoding failed, or if another set is declared.

Names have the meaning of the WHATWG Encoding standard: ``gb2312`` and ``gbk`` are GB18030, ``iso-8859-1`` is
windows-1252.
"""

from __future__ import annotations

import binascii
import codecs
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from gateway.errors import CallbackRejected


class NotUtf8(CallbackRejected):
    """The bytes are not UTF-8, and only UTF-8 was tried. Check the character set of the sender."""


#: Python's names of a set's codecs; the first one that succeeds is used.
Codecs = tuple[str, ...]

_GB18030: Final[Codecs] = ("gb18030",)
_BIG5: Final[Codecs] = ("big5", "cp950", "big5hkscs")
_LATIN_1: Final[Codecs] = ("cp1252", "latin-1")
_UTF_16: Final[Codecs] = ("utf-16-be",)
_UTF_16_LE: Final[Codecs] = ("utf-16-le",)

#: Senders' names of sets, in lower case without separators. (``codecs.lookup`` has more names, and imports modules by
#: names that the sender chooses.)
_SETS: Final[dict[str, Codecs]] = {
    **dict.fromkeys(
        ("gbk", "xgbk", "gb2312", "gb231280", "gb18030", "gb180302000", "gb180302005", "gb180302022", "cp936", "ms936",
         "windows936", "936", "euccn", "chinese", "csgb2312", "isoir58"),
        _GB18030,
    ),
    **dict.fromkeys(("big5", "big5hkscs", "cp950", "ms950", "windows950", "950", "cnbig5", "xxbig5", "csbig5"), _BIG5),
    **dict.fromkeys(("iso88591", "iso8859", "latin1", "l1", "88591", "ibm819", "cp819", "csisolatin1"), _LATIN_1),
    **dict.fromkeys(("utf16", "unicode", "utf16be", "ucs2", "iso10646ucs2", "unicodebig", "xutf16be"), _UTF_16),
    **dict.fromkeys(("utf16le", "unicodelittle", "xutf16le", "xutf16lebom"), _UTF_16_LE),
    **{f"{prefix}{page}": (f"cp{page}", "latin-1") for page in range(1250, 1259)
       for prefix in ("windows", "cp", "xcp", "")},
    **{f"iso8859{part}": (f"iso8859-{part}", "latin-1") for part in range(2, 17) if part not in (9, 12)},
    **{f"latin{number}": (f"iso8859-{part}", "latin-1") for number, part in ((2, 2), (3, 3), (4, 4), (6, 10), (9, 15))},
    **dict.fromkeys(("iso88599", "latin5"), ("cp1254", "latin-1")),
    **dict.fromkeys(("windows874", "tis620", "iso885911", "cp874"), ("cp874", "latin-1")),
    **dict.fromkeys(("shiftjis", "sjis", "xsjis", "windows31j", "ms932", "cp932", "csshiftjis"), ("cp932",)),
    **dict.fromkeys(("eucjp", "xeucjp"), ("euc_jp",)),
    **dict.fromkeys(("euckr", "ksc5601", "ksc56011987", "windows949", "ms949", "cp949", "uhc"), ("cp949",)),
    "koi8r": ("koi8-r",),
    "koi8u": ("koi8-u",),
}  # fmt: skip

_PARAMETER: Final = re.compile(r"""\bcharset\s*+=\s*+["']?([\w.:+-]{1,40})""", re.IGNORECASE | re.ASCII)
_SEPARATORS: Final = re.compile(r"[\W_]", re.ASCII)
_CHARSET_FIELD: Final = re.compile(rb"(?:\A|&)_charset_=([^&]{1,40})")
_ESCAPES: Final = re.compile(rb"(?:%[0-9A-Fa-f]{2})++")
_NO_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_UTF_16_MARKS: Final = (b"\xfe\xff", b"\xff\xfe")
UTF_8_MARK: Final = b"\xef\xbb\xbf"

#: Bytes decoded at once. Each invalid byte costs 0.2 µs with the interpreter locked: a quarter of a second for a body
#: of 1 MiB, some milliseconds for a piece.
PIECE: Final = 32 * 1024
#: Characters examined to detect Chinese text. A message has some hundred at most.
_LOOKED_AT: Final = 4096
#: Values of one request whose character set is detected separately; each costs some microseconds. A callback has some
#: dozen fields.
_MOST_GUESSES: Final = 1000

#: The 3755 characters of GB2312's first level: nearly all characters of Chinese texts.
_FIRST_LEVEL: Final = frozenset(
    "".join(bytes((row, cell)).decode("gb2312", "ignore") for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF))
)
#: Other characters of Chinese texts: punctuation, full-width characters, dashes and quotes, arrows and pictures.
_BETWEEN: Final = re.compile(
    "[\\u00a0\\u00b7\\u2010-\\u2027\\u2030-\\u203b\\u20ac\\u2100-\\u23ff\\u2460-\\u27bf\\u3000-\\u303f\\ufe0f\\uff00-\\uffef"
    "\\U0001f000-\\U0001faff]+"
)
_ASCII: Final = re.compile("[\\0-\\x7f]+")
_HAN: Final = re.compile("[\\u3400-\\u9fff\\U00020000-\\U0003ffff]*")
#: A single such character between Latin ones is a misread accented character with its neighbour.
_AMONG_LETTERS: Final = re.compile("[A-Za-z][\\u3400-\\u9fff][A-Za-z]")


@lru_cache(maxsize=256)
def declared(content_type: str) -> Codecs | None:
    """Return the codecs of a content type's character set; None for UTF-8, an unknown set, or no declaration."""
    return _declared(content_type)


def _declared(text: str) -> Codecs | None:
    found = _PARAMETER.search(text)
    return named(found[1]) if found else None


def named(name: str) -> Codecs | None:
    """Return the codecs of a character set by its name; None for UTF-8 and unknown names."""
    return _SETS.get(_SEPARATORS.sub("", name).lower())


def may_be_utf16(body: bytes) -> bool:
    """Return whether bytes may be UTF-16: by a byte order mark, or a NUL in the first two bytes of ASCII text."""
    return body[:2] in _UTF_16_MARKS or (len(body) > 1 and (body[0] == 0) != (body[1] == 0))


@dataclass(slots=True)
class Decoding:
    """Decodes the bytes of one request.

    Args:
        codecs: of the declared set; None without one.
        is_chinese: all values together are GB18030.
        found: undeclared sets that were found, without repeats; ``unknown`` if bytes became ``\\xNN``.
        guesses: number of values that are valid neither in the declared set nor in UTF-8.
    """

    codecs: Codecs | None = None
    is_chinese: bool = False
    found: list[str] = field(default_factory=list)
    guesses: int = 0

    def body(self, body: bytes) -> bytes:
        """Return a body in UTF-16 as UTF-8; another body unchanged."""
        if not may_be_utf16(body):
            return body
        if self.codecs in (_UTF_16, _UTF_16_LE):
            self.codecs = None
        else:
            self._note("utf-16")
        codec = "utf-16" if body[:2] in _UTF_16_MARKS else "utf-16-le" if body[1] == 0 else "utf-16-be"
        return lenient_text(body, codec).encode("utf-8", "backslashreplace")

    def form(self, data: bytes) -> None:
        """Examine a whole form before its fields: its declaration, and whether it is Chinese."""
        own = _CHARSET_FIELD.search(data)
        if own is not None:
            self.codecs = named(own[1].decode("latin-1")) or self.codecs
        self._look_at(unescaped_bytes(data))

    def parts(self, parts: list[tuple[bytes, bytes, bytes]]) -> None:
        """Examine heads, names and values of all parts of a multipart form before they are decoded."""
        own = next((value for _, name, value in parts if name == b"_charset_"), None)
        if own is not None:
            self.codecs = named(own.decode("latin-1")) or self.codecs
        self._look_at(b"&".join(value for *_, value in parts))

    def _look_at(self, data: bytes) -> None:
        """Detect whether all values together are Chinese. Values that are UTF-8 together are UTF-8."""
        if self.codecs is None:
            try:
                data.decode()
            except UnicodeDecodeError:
                self.is_chinese = _is_chinese(data)

    def concerns(self, text: str) -> bool:
        """Return whether a valid UTF-8 text has to be decoded again in the declared set."""
        if self.codecs is None:
            return False
        return not text.isascii() or self.codecs in (_UTF_16, _UTF_16_LE)

    def json(self, body: bytes) -> bytes:
        """Return the bytes of a JSON text in UTF-8.

        Raises:
            CallbackRejected: no character set fits.
        """
        text = self._known(body)
        if text is None:
            raise CallbackRejected("not UTF-8, and no other character set is declared that it can be in")
        return text.encode("utf-8", "backslashreplace")

    @property
    def is_past_guesses(self) -> bool:
        """Whether the limit of separately examined values is reached."""
        return self.guesses > _MOST_GUESSES

    def text(self, data: bytes) -> str:
        """Return the text of one name or value."""
        if self.is_past_guesses and not data.isascii():
            return lenient_text(data, self.codecs[0] if self.codecs is not None else "utf-8")
        text = self._known(data)
        if text is not None:
            return text
        self._note("unknown")
        if self.codecs is not None:
            return lenient_text(data, self.codecs[0])
        return lenient_text(data)

    def unescaped(self, data: bytes) -> str:
        """Return the text of one name or value of a form with ``%XX`` escapes."""
        if b"%" in data:
            if self.codecs in (_UTF_16, _UTF_16_LE):
                return _ESCAPES.sub(self._utf16_escapes, data).decode("utf-8", "backslashreplace")
            data = unescaped_bytes(data)
        return data.decode("ascii") if data.isascii() else self.text(data)

    def of_part(self, head: bytes) -> Decoding:
        """Return the decoding of one part of a multipart form, whose head may declare a character set."""
        codecs = _declared(head.decode("latin-1")) if b"charset" in head.lower() else None
        return self if codecs is None else Decoding(codecs, found=self.found)

    def _utf16_escapes(self, run: re.Match[bytes]) -> bytes:
        """Decode one run of escapes: Java's encoder writes each run in UTF-16 with a byte order mark."""
        data = unescaped_bytes(run[0])
        if len(data) % 2 == 0:
            codec = "utf-16" if data[:2] in _UTF_16_MARKS else (self.codecs or _UTF_16)[0]
            try:
                return data.decode(codec).encode()
            except UnicodeError:
                pass
        return self.text(data).encode("utf-8", "backslashreplace")

    def _known(self, data: bytes) -> str | None:
        """Return the text in the declared set, UTF-8 or GB18030, in this order; None if none fits."""
        if data.isascii():
            return data.decode("ascii")
        for codec in self.codecs or ():
            try:
                return data.decode(codec)
            except UnicodeDecodeError:
                continue
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = None
        # Two bytes of GBK may be one character of UTF-8, but not throughout a text of three.
        if text is not None and not (self.is_chinese and max(text) < "\u0800"):
            if self.codecs is not None:
                self._note("utf-8")
            return text
        if not self.is_chinese:
            self.guesses += 1
        chinese = _gb18030(data) if self.is_chinese or _is_chinese(data) else None
        if chinese is None:
            return text
        self._note("gb18030")
        return chinese

    def _note(self, name: str) -> None:
        if name not in self.found:
            self.found.append(name)


def lenient_text(data: bytes, codec: str = "utf-8") -> str:
    """Return the decoded text, with ``\\xNN`` for each byte that is not valid in the character set.

    Args:
        data: the bytes.
        codec: Python's name of the codec.
    """
    if len(data) <= PIECE:
        return data.decode(codec, "backslashreplace")
    decoder = codecs.getincrementaldecoder(codec)("backslashreplace")
    pieces = [decoder.decode(data[at : at + PIECE]) for at in range(0, len(data), PIECE)]
    return "".join([*pieces, decoder.decode(b"", final=True)])


def unescaped_bytes(data: bytes) -> bytes:
    """Return the bytes with each ``%XX`` replaced by its byte; wrong escapes stay unchanged."""
    if len(data) <= PIECE:
        return _unescaped_piece(data)
    pieces: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + PIECE
        escape = data.rfind(b"%", end - 2, end)
        if escape >= 0 and end < len(data):
            end = escape
        pieces.append(_unescaped_piece(data[at:end]))
        at = end
    return b"".join(pieces)


def _unescaped_piece(data: bytes) -> bytes:
    """Unescape with a decoder in C: quoted-printable has the same escapes, with ``=`` in place of ``%``."""
    escaped = _NO_ESCAPE.sub(b"%25", data.replace(b"=", b"%3D"))
    return binascii.a2b_qp(escaped.replace(b"%", b"="))


def _gb18030(data: bytes) -> str | None:
    """Return the text in GB18030, whose last character may be incomplete; None if it is not GB18030."""
    if len(data) <= PIECE:
        try:
            return data.decode("gb18030")
        except UnicodeDecodeError:
            pass
    decoder = codecs.getincrementaldecoder("gb18030")()
    try:
        text = "".join([decoder.decode(data[at : at + PIECE]) for at in range(0, len(data), PIECE)])
    except UnicodeDecodeError:
        return None
    rest, _ = decoder.getstate()
    return text + rest.decode("ascii", "backslashreplace")


def _is_chinese(data: bytes) -> bool:
    """Return whether bytes are GB18030 with common characters only."""
    if data.isascii():
        return False
    text = _gb18030(data)
    if text is None or _AMONG_LETTERS.search(text):
        return False
    foreign = ""
    for at in range(0, len(text), PIECE):
        foreign += _ASCII.sub("", text[at : at + PIECE])
        if len(foreign) >= _LOOKED_AT:
            break
    foreign = _BETWEEN.sub("", foreign[:_LOOKED_AT])
    if not foreign or not _HAN.fullmatch(foreign):
        return False
    return 2 * sum(map(_FIRST_LEVEL.__contains__, foreign)) >= len(foreign)
