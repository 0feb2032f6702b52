"""Addresses of webhooks: what is behind the host is kept character by character, or refused with advice."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.webhook_url import parse
from tests.rows import rows

#: Everything that may stand in a request line (RFC 9112, section 3.2), and more: any visible ASCII but the ``#``.
VISIBLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "#")


@given(st.text(VISIBLE, max_size=60))
def test_what_is_behind_the_host_is_the_request_target(text: str) -> None:
    """Escapes, their letter case, slashes, dots, and empty parts stay as they are."""
    for start in ("/", "?"):
        expected = f"/{text}" if start == "/" else f"/?{text}"
        assert expected == parse(f"http://example.com{start}{text}").target


@rows(
    "target",
    [
        "/hook?sig=a%2Bb%2Fc%3D&x=%7E&sp=%2Ftriggers%2Fmanual",
        "/%2f%2F%7e~",
        "//a//b/",
        "/a/../b/./c",
        "/a?",
        "/a??b=?",
        "/a;v=1;w",
        "/a+b?c=d+e%20f",
        "/100%",
        "/a?b=c=d&&e",
        "/a|b^c`{d}",
    ],
)
def test_targets_as_configured(target: str) -> None:
    """Samples of what servers route by or sign."""
    assert target == parse(f"https://example.com{target}").target


@given(st.text(st.characters(min_codepoint=0xA1, exclude_categories=["Cs", "Zl", "Zp"]), min_size=1, max_size=20))
def test_characters_beyond_ascii_become_their_utf8(text: str) -> None:
    """There is no other way to write them in a request line."""
    assert f"/{quote(text)}" == parse(f"http://example.com/{text}").target


@given(
    st.characters(max_codepoint=0x20),
    st.sampled_from(["http://example.com/a{}b", "http://exam{}ple.com/", "{}http://x/"]),
)
def test_spaces_and_control_characters_are_refused_with_advice(character: str, form: str) -> None:
    """Anywhere in the address, before anything strips them."""
    with pytest.raises(ValueError, match=r"write %[01][0-9A-F]|write %20"):
        parse(form.format(character))


@rows(
    ("address", "host", "port", "authority"),
    [
        ("http://Example.com", "example.com", 80, "example.com"),
        ("HTTPS://example.com:443/", "example.com", 443, "example.com"),
        ("https://example.com:80/", "example.com", 80, "example.com:80"),
        ("http://[::1]:8080/", "::1", 8080, "[::1]:8080"),
        ("http://bücher.example/", "xn--bcher-kva.example", 80, "xn--bcher-kva.example"),
        ("http://example.com:/", "example.com", 80, "example.com"),
    ],
)
def test_where_it_goes(address: str, host: str, port: int, authority: str) -> None:
    """Host, port and the Host header."""
    url = parse(address)
    assert (host, port, authority, "/") == (url.host, url.port, url.authority, url.target)


@rows(
    "address",
    [
        "",
        "example.com",
        "ftp://example.com/",
        "http://",
        "http:///a",
        "http://?a",
        "http://[::1/",
        "http://[::g]/",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:x/",
        "http://a..b/",
        "http://a%2eb/",
        "http://a\\b/",
        "http://user@example.com/",
        "http://user:secret@example.com/",
        "http://example.com\\@other.example/",
        "http://example.com/#part",
        "http://example.com/?a#",
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    """With a sentence, and without showing the address, which may hold a secret."""
    with pytest.raises(ValueError, match=r"needed|credentials|#") as caught:
        parse(address)
    assert "secret" not in str(caught.value)
