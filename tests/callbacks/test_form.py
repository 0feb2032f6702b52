"""The form parser gives what the standard library gives."""

from __future__ import annotations

import time
from urllib.parse import parse_qsl, unquote_to_bytes, urlencode

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.callbacks import form
from tests.pace import best
from tests.rows import rows

FORMISH = st.text(alphabet="ab=&%+ 0123456789ABCDEFabcdef;:/\u00a4\u6210\x00", max_size=60)


def reference(data: bytes) -> list[tuple[str, str]]:
    """The same rules, written with the standard library's own unquoting."""
    fields = []
    for part in data.split(b"&"):
        if part:
            name, _, value = part.replace(b"+", b" ").partition(b"=")
            fields.append(tuple(unquote_to_bytes(one).decode("utf-8", "backslashreplace") for one in (name, value)))
    return fields


@given(st.binary(max_size=80))
@example(b"%%20=%2%3A5&%253A=%25%32%30&==&&=")
@example(b"a=%E6%88%90\xe5\x8a%9F&b=\xff%ff")
def test_any_bytes_parse_as_the_reference(data: bytes) -> None:
    """Every byte string gives the fields that unquoting byte by byte gives."""
    assert reference(data) == form.pairs(data)


@given(st.binary(max_size=80) | FORMISH.map(str.encode))
@example(b"a=1&b=2&%63=3")
@example(b"a=1&a=2")
def test_the_quick_way_agrees(data: bytes) -> None:
    """Fields by name are those of the pairs, or there is no quick answer."""
    quick = form.mapping(data)
    assert quick is None or list(quick.items()) == form.pairs(data)


@given(FORMISH)
def test_form_like_text_parses_as_the_reference(text: str) -> None:
    """Text made of the letters that mean something in a form gives the reference's fields."""
    assert reference(text.encode()) == form.pairs(text.encode())


@given(FORMISH.map(lambda text: text.encode("ascii", "ignore").decode()))
def test_ascii_parses_as_parse_qsl(text: str) -> None:
    """On ASCII the result is that of ``urllib.parse.parse_qsl`` with blank values kept."""
    expected = parse_qsl(text, keep_blank_values=True, errors="backslashreplace")
    assert expected == form.pairs(text.encode())


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=8))
def test_what_was_encoded_is_decoded(fields: list[tuple[str, str]]) -> None:
    """Any fields survive being encoded as a form."""
    kept = [(name, value) for name, value in fields if name or value]
    named = [(name, value) for name, value in kept if name]
    assert named == form.pairs(urlencode(named).encode())


@given(st.lists(st.tuples(st.sampled_from(["token", "a", "b"]), st.text(max_size=5)), max_size=6))
def test_a_field_is_cut_out_and_the_rest_stays(fields: list[tuple[str, str]]) -> None:
    """Cutting a name out removes every field of that name and no other."""
    left = form.pairs(form.without(urlencode(fields).encode(), frozenset({"token"})))
    assert [pair for pair in fields if pair[0] != "token"] == left


def test_a_multipart_form() -> None:
    """The other way to submit a form gives the same fields, line ends inside a value included."""
    body = (
        b'--x\r\nContent-Disposition: form-data; name="phone"\r\n\r\n15550100200\r\n'
        b'--x\r\nContent-Disposition: form-data; name="text"\r\nContent-Type: text/plain\r\n\r\na\r\nb\xff\r\n--x--\r\n'
    )
    assert [("phone", "15550100200"), ("text", "a\nb\\xff")] == form.multipart(body)


@rows("text", ["hello --Bob, bye", "--B.", "--Bob\nx", "a\n--Bob", "a\n --B\nb", "a--B--", "--b\n--", "x --B"])
@rows("line_end", [b"\r\n", b"\n"])
def test_a_boundary_fills_a_line(text: str, line_end: bytes) -> None:
    """In the middle of a line, with more behind it, or in another letter case, it is text."""
    body = b"\n".join(
        [b"--B", b'Content-Disposition: form-data; name="id"', b"", b"7", b"--B \t",
         b'Content-Disposition: form-data; name="content"', b"", text.encode(), b"--B--", b"not a part", b"--B", b""]
    )  # fmt: skip
    assert [("id", "7"), ("content", text)] == form.multipart(body.replace(b"\n", line_end))


@rows(
    ("head", "name"),
    [
        (b"Content-Disposition: form-data; name=id", "id"),
        (b"content-disposition:form-data;NAME=id", "id"),
        (b'Content-Disposition: form-data; name = "id" ; filename="x"', "id"),
        (b'Content-Disposition: form-data; filename="; name=x"; name=id', "id"),
        (b'Content-Disposition: form-data; filename="a\\"; name=\\"x"; name="i\\"d"', 'i"d'),
        (b"Content-Type: text/plain; name=x\r\nContent-Disposition: form-data; name=id", "id"),
        (b"Content-Disposition: form-data;\r\n name=id", "id"),
        (b'Content-Disposition: form-data; name=""', ""),
        (b'Content-Disposition: form-data; name="a b;c"', "a b;c"),
        (b'Content-Disposition: form-data; filename="id"', None),
        (b"Content-Type: text/plain; name=id", None),
        (b"X: y", None),
        (b"", None),
    ],
)
def test_the_name_of_a_part(head: bytes, name: str | None) -> None:
    """Quoted or not, in any place of its own header and of no other."""
    body = b"--B\r\n" + head + b"\r\n\r\n7\r\n--B--\r\n"
    assert ([] if name is None else [(name, "7")]) == form.multipart(body)


PLAIN = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=5)
LINES = st.lists(PLAIN | st.sampled_from(["--", "--Bx", "-B", "", " --B"]), max_size=4).map("\n".join)


@given(st.lists(st.tuples(PLAIN, LINES), min_size=1, max_size=4), st.booleans(), st.sampled_from(["\r\n", "\n"]))
def test_what_was_written_as_multipart_is_read(fields: list[tuple[str, str]], quoted: bool, line_end: str) -> None:
    """Any fields, empty ones and texts of several lines included, come back."""
    mark = '"' if quoted else ""
    lines = [f"--B\nContent-Disposition: form-data; name={mark}{name}{mark}\n\n{text}" for name, text in fields]
    body = "\n".join([*lines, "--B--"]).replace("\n", line_end)
    assert fields == form.multipart(body.encode())


@rows("piece", [b";a", b';a="', b';a="\\"', b"; ", b"\n --B", b"\n--B", b"\n--B-", b"\n \n", b"\t", b"\r"])
def test_multipart_takes_time_in_proportion_to_its_size(piece: bytes) -> None:
    """Whatever it is made of, 256 KiB take less than 16 times as long as 32 KiB do."""

    def seconds(size: int) -> float:
        body = b"--B\r\nContent-Disposition: form-data" + piece * (size // len(piece)) + b"\r\n\r\nx\r\n--B--"
        return min(_timed(body) for _ in range(3))

    assert seconds(256 * 1024) < 16 * max(seconds(32 * 1024), 0.002)


def test_a_boundary_of_any_length_costs_little() -> None:
    """A first line of a mebibyte is a boundary as any other."""
    boundary = b"--" + b"x" * (1 << 20)
    assert best(lambda: form.multipart(boundary), 0.5) < 0.5
    assert [("a", "1")] == form.multipart(
        boundary + b"\nContent-Disposition: form-data; name=a\n\n1\n" + boundary + b"--"
    )


def _timed(body: bytes) -> float:
    started = time.process_time()
    form.multipart(body)
    return time.process_time() - started


@given(st.binary(max_size=60))
def test_any_multipart_bytes(data: bytes) -> None:
    """Bytes that only begin like a multipart form give fields, if any, that can be stored."""
    for name, value in form.multipart(b"--" + data):
        (name + value).encode()


def test_a_listing() -> None:
    """Names, colons and commas as some pages print them; a comma in a text does not begin a field."""
    assert [("messageId", "m"), ("content", "a, b"), ("receiveTime", "2024-01-02 03:04:05")] == form.listing(
        b"messageId:m,content:a, b,receiveTime:2024-01-02 03:04:05"
    )


@rows("between", [",", ", ", "\n", "\r\n", ",\r\n", "\r\n  "])
@rows("colon", [":", ": "])
def test_a_listing_however_it_is_set(between: str, colon: str) -> None:
    """Commas, lines, or both between the entries, a blank behind the colon: the same fields, without the blanks."""
    fields = [("messageId", "m"), ("ext", ""), ("content", "see http://x.example, 50% off"), ("price", "0.0360")]
    text = between.join(f"{name}{colon}{value}" for name, value in fields)
    assert fields == form.listing(text.encode())


@rows("text", ["hi, bye: x", "Order\nTotal: 12", "a\nfromPhone: me,messageId:2", "a: b"])
def test_what_looks_like_a_field_in_a_text_is_text(text: str) -> None:
    """Unless the page lists it and it has not come yet."""
    fields = [("messageId", "m"), ("fromPhone", "1"), ("content", text), ("size", "1"), ("mcc", "510")]
    assert fields == form.listing(",".join(f"{name}:{value}" for name, value in fields).encode())
