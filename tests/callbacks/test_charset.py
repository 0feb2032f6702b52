"""Character sets: what is declared is believed, Chinese text is recognised, and plain UTF-8 is as it was."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import quote_from_bytes

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.callbacks import CALLBACKS, CallbackRequest, DecodeContext, charset, form
from gateway.callbacks.credentials import Credentials
from gateway.callbacks.signature import SignaturePolicy, general_signature
from gateway.errors import CallbackRejected
from gateway.event import Event
from tests.pace import slowness
from tests.rows import rows

NOW = datetime(2025, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
FORM = "application/x-www-form-urlencoded"
#: Names that senders declare, and Python's codec of the same set.
SETS = {
    "GBK": "gbk",
    "gb2312": "gb2312",
    "GB18030": "gb18030",
    "Big5": "big5",
    "ISO-8859-1": "latin-1",
    "windows-1250": "cp1250",
    "Windows-1251": "cp1251",
    "windows-1252": "cp1252",
    "cp1256": "cp1256",
    "iso-8859-15": "iso8859-15",
    "KOI8-R": "koi8-r",
    "Shift_JIS": "cp932",
    "euc-kr": "cp949",
}
SAID = {
    "gbk": "你好，世界",
    "gb2312": "你好，世界",
    "gb18030": "𠮷野家，你好",
    "big5": "測試簡訊，許功蓋",
    "cp1251": "Привет",
    "koi8-r": "Привет",
    "cp1256": "مرحبا",
    "cp932": "こんにちはソ表",
    "cp949": "안녕하세요",
}


def decode(callback: str, body: bytes, content_type: str = "", query: bytes = b"") -> tuple[Event, tuple[str, ...]]:
    headers = {"content-type": content_type} if content_type else {}
    request = CallbackRequest("POST", f"/callbacks/{callback}", query, headers, body, NOW)
    decoded = CALLBACKS[callback].decode(request, DecodeContext())
    (event,) = decoded.events
    return event, decoded.drift


def forms(text: bytes) -> list[bytes]:
    """An incoming SMS with this text: raw, escaped where it must be, escaped as a whole."""
    written = text.replace(b"%", b"%25").replace(b"&", b"%26").replace(b"+", b"%2B").replace(b"=", b"%3D")
    escaped = "".join(f"%{byte:02X}" for byte in text).encode()
    head = b"messageId=m&fromPhone=15550100200&toPhone=15550100100&type=0&content="
    return [head + written + b"&size=1", head + quote_from_bytes(text).encode() + b"&size=1", head + escaped]


@rows("name", SETS)
def test_a_declared_set_is_honoured(name: str) -> None:
    """Each set that senders declare, in forms with raw and escaped bytes, in JSON, in a part of a multipart form."""
    codec = SETS[name]
    text = SAID.get(codec, "Olá, José")
    if codec in ("cp1250", "iso8859-15"):
        text = "Größe"
    data = text.encode(codec)
    for body in forms(data):
        event, drift = decode("did-sms", body, f"{FORM}; charset={name}")
        assert (text, ()) == (event.data["text"], drift)
        assert text == event.data["raw"]["content"]
        assert text == decode("did-sms", b"_charset_=" + name.encode() + b"&" + body)[0].data["text"]
    reply = b'{"phone":"15550100200","message":{"text":"' + data + b'"},"sendTime":"2024-01-02 03:05:00"}'
    event, drift = decode("viber", reply, f'application/json;charset="{name.lower()}"')
    assert (text, ()) == (event.data["text"], drift)
    assert text == orjson.loads(orjson.dumps(event.data["raw"]))["message"]["text"]
    for head, more, whole in (
        (f"Content-Type: text/plain; charset={name}\r\n", "", ""),
        ("", f'--B\r\nContent-Disposition: form-data; name="_charset_"\r\n\r\n{name}\r\n', ""),
        ("", "", f"; charset={name}"),
    ):
        parts = [f'--B\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in
                 (("messageId", "m"), ("fromPhone", "1555"), ("toPhone", "1556"), ("type", "0"))]  # fmt: skip
        last = f'--B\r\nContent-Disposition: form-data; name="content"\r\n{head}\r\n'.encode()
        last += data + b"\r\n--B--\r\n"
        event, _ = decode("did-sms", ("".join(parts) + more).encode() + last, "multipart/form-data; boundary=B" + whole)
        assert text == event.data["text"]


def texts(name: str) -> st.SearchStrategy[tuple[str, str]]:
    """Any text of letters in a set."""
    codec = SETS.get(name, "gb18030")
    pairs = [bytes((lead,)) for lead in range(256)]
    if codec in SAID and not codec.startswith(("cp12", "koi8")):
        pairs += [bytes((lead, trail)) for lead in range(0x81, 0xFF, 5) for trail in range(0x40, 0xFF, 3)]
    letters = sorted({pair.decode(codec, "ignore") for pair in pairs})
    single = [letter for letter in letters if len(letter) == 1 and letter.isprintable()]
    return st.tuples(st.just(name), st.text(st.sampled_from(single), min_size=1, max_size=20))


@given(st.sampled_from([*SETS, "UTF-16LE", "utf-16be"]).flatmap(texts))
def test_any_text_in_a_declared_set(written: tuple[str, str]) -> None:
    """Any text that a set can express comes out as it went in, escaped in a form."""
    name, text = written
    data = text.encode(SETS.get(name, name))
    codecs = charset.named(name)
    assert codecs is not None
    assume(name != "gb2312" or text == data.decode("gb18030"))  # two marks that GB2312 and GBK have at one place
    escaped = "".join(f"%{byte:02X}" for byte in data).encode()
    assert [("content", text)] == form.pairs(b"content=" + escaped, charset.Decoding(codecs))


@rows("codec", ["utf-16", "utf-16-le", "utf-16-be"])
@rows("declares", [True, False])
def test_utf_16(codec: str, declares: bool) -> None:
    """UTF-16 is read with a mark and without one, declared or not, in forms and in JSON."""
    content_type = f"text/plain; charset={codec}" if declares else ""
    drift = () if declares else ("charset:utf-16",)
    for text in (forms("你好".encode())[1].decode(), forms("你好".encode())[0].decode()):
        event, found = decode("did-sms", text.encode(codec), content_type)
        assert ("你好", drift) == (event.data["text"], found)
    reply = '{"phone":"15550100200","message":{"text":"你好"},"sendTime":"2024-01-02 03:05:00"}'
    event, found = decode("viber", reply.encode(codec), content_type)
    assert ("你好", drift) == (event.data["text"], found)


CHINESE = [
    "你好",
    "【测试】您的验证码是1234，请勿泄露。",
    "订单42已发货",
    "A座5G网",
    "張堃的生日",
    "价格：€5 😀",
    "联通",
    "目录",
    "你好" * 3000,
]


@rows("text", CHINESE)
@rows("content_type", ["", FORM, f"{FORM}; charset=utf-8", f"{FORM}; charset=x-none", "text/plain"])
def test_chinese_text_is_recognised(text: str, content_type: str) -> None:
    """GBK that declares nothing, UTF-8 or an unknown set is read as GB18030, and counted; text of UTF-8 is not."""
    for body in forms(text.encode("gb18030")):
        event, drift = decode("did-sms", body, content_type)
        if text == "目录":  # its bytes are UTF-8, too
            continue
        assert (text, ("charset:gb18030",)) == (event.data["text"], drift)
    for body in forms(text.encode()):
        event, drift = decode("did-sms", body, content_type)
        assert (text, ()) == (event.data["text"], drift)


def test_a_form_is_in_one_set() -> None:
    """A short value that could be UTF-8 is read as the rest of the form is; a value in UTF-8 beside GBK stays."""
    head = b"messageId=m&fromPhone=15550100200&toPhone=15550100100&type=0&"
    event, _ = decode("did-sms", head + b"x=" + "目录".encode("gbk") + b"&content=" + "请看下面的内容".encode("gbk"))
    assert ("目录", "请看下面的内容") == (event.data["raw"]["x"], event.data["text"])
    event, _ = decode("did-sms", head + b"x=" + "你好，世界".encode() + b"&content=" + "请看下面的内容".encode("gbk"))
    assert ("你好，世界", "请看下面的内容") == (event.data["raw"]["x"], event.data["text"])


@rows("text", ["café", "Müller", "AÇÃO", "São Paulo", "Größe", "Привет, мир", "déjà vu"])
def test_other_bytes_are_not_taken_for_chinese(text: str) -> None:
    """Latin and Cyrillic bytes that declare nothing are shown as bytes, and counted; none of them is lost."""
    data = text.encode("cp1251" if text[0] == "П" else "latin-1")
    for body in forms(data):
        event, drift = decode("did-sms", body)
        assert (data.decode("utf-8", "backslashreplace"), ("charset:unknown",)) == (event.data["text"], drift)


def test_a_reason_says_not_utf_8() -> None:
    """JSON in a set that is not declared and not recognised is rejected with that reason."""
    with pytest.raises(CallbackRejected, match="not UTF-8"):
        decode("viber", b'{"phone":"15550100200","message":{"text":"caf\xe9"}}')


def test_a_character_that_was_cut() -> None:
    """A text that ends in the middle of a character keeps all before it."""
    data = "你好，世界".encode("gbk")[:-1]
    for content_type in (FORM, f"{FORM}; charset=GBK"):
        assert "你好，世\\xbd" == decode("did-sms", forms(data)[2], content_type)[0].data["text"]


@given(
    st.text(max_size=30),
    st.sampled_from(["", FORM, f"{FORM}; charset=utf-8", f"{FORM};charset=UTF8", "a/b; charset=?"]),
)
def test_utf_8_is_as_it_was(text: str, content_type: str) -> None:
    """Whatever a content type says that names no other set: the same event with the same id, and no drift."""
    for body in forms(text.encode()):
        event, drift = decode("did-sms", body, content_type)
        same, _ = decode("did-sms", body)
        assert (same.id, same.to_json()) == (event.id, event.to_json())
        assert text == event.data.get("text", "")
        assert drift == ()


def test_a_signed_request_declares_nothing() -> None:
    """A content type is not signed, so under a signature the bytes alone decide."""
    body = forms("你好".encode("gbk"))[2]
    sign = general_signature("s", access_key="k", action="mo", biz_type="4", ts="1735787045", body=body)
    headers = {"accesskey": "k", "action": "mo", "biztype": "4", "ts": "1735787045", "sign": sign}
    credentials = Credentials(signature=SignaturePolicy("general", ("s",)))
    for content_type in (FORM, f"{FORM}; charset=big5", f"{FORM}; charset=latin-1"):
        request = CallbackRequest("POST", "/", b"", {**headers, "content-type": content_type}, body, NOW)
        (event,), drift = CALLBACKS["did-sms"].decode(credentials.check(request, NOW), DecodeContext())
        assert ("你好", ("charset:gb18030",)) == (event.data["text"], drift)


@given(st.binary(max_size=80), st.sampled_from([*SETS, "utf-16", "utf-16le", "", "idna", "rot13", "../x", "zip"]))
def test_any_bytes_in_any_set(data: bytes, name: str) -> None:
    """Any bytes under any name of a set become text that is UTF-8, and nothing else happens."""
    decoding = charset.Decoding(charset.declared(f"text/plain; charset={name}"))
    for key, value in [*form.pairs(data, decoding), *form.multipart(b"--" + data, decoding)]:
        (key + value).encode()
    assert len(decoding.found) <= 4


@pytest.mark.parametrize("size", [16_384])
def test_the_work_is_linear(size: int) -> None:
    """Four times the bytes take no more than about four times the time, whatever they are."""
    for unit in (
        b"\xe9",
        "你".encode("gbk"),
        b"%C4%E3",
        b"&x=%C4%E3",
        b"\xff&",
        "é=&".encode("latin-1"),
        b"&amp;a",
        b'"',
    ):
        short, long = (unit * (times * size // len(unit)) for times in (1, 4))
        took = [min(_timed(body) for _ in range(3)) for body in (short, long)]
        assert took[1] < 12 * max(took[0], 0.001), unit
        assert took[1] / slowness() < 0.5, unit


def _timed(body: bytes) -> float:
    began = time.thread_time()
    with suppress(CallbackRejected):
        decode("did-sms", b"messageId=m&fromPhone=1&toPhone=2&type=0&content=" + body)
    return time.thread_time() - began
