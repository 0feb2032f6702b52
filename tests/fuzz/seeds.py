"""Where a target's corpus begins: the samples of callbacks, and a few good inputs written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gateway.log import Entry
from gateway.log.journal import batch_format
from tests.callbacks.samples import all_samples
from tests.fuzz import targets

CORPUS = Path(__file__).with_name("corpus")


def seeds(target: str) -> Iterator[bytes]:
    """Good inputs, so that the fuzzer begins behind the first checks."""
    if target == "decoders":
        for sample in all_samples():
            request, name = sample.request, targets._NAMES.index(sample.callback)
            is_json = "json" in request.headers.get("content-type", "")
            yield bytes([name, int(is_json)]) + len(request.query).to_bytes(2, "big") + request.query + request.body
    elif target == "signatures":
        ends = b"\x00/callbacks/x/token\x00token=token&a=%zz\x00{}"
        callbot = b"\x09r-1\n\x0au-1\n\x0b1735787045\n\x04" + b"a" * 32
        general = b"\x05key\n\x06call\n\x07voice\n\x081735787045000\n\x0cmd5\n\x04" + b"a" * 32
        given = b"\x00Bearer token\n\x01token\n\x03sha256=" + b"0" * 64
        for scheme, lines in enumerate((callbot, general, given, given)):
            for choice in (scheme, scheme | 4, scheme | 16):
                yield bytes([choice]) + lines + ends
    elif target == "filters":
        yield b'[{"exact":{"type":"nxcloud.sms.dr"}},{"not":{"prefix":{"data.to":"+62"}}}]\x00{"type":"a"}'
        yield b'{"any":[{"suffix":{"subject":"1"}},{"all":[{"exact":{"data.delivered":true,"data.segments":2}}]}]}'
    elif target == "heads":
        yield b"POST /callbacks/sms-dr?a=b c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        yield "GET /callbacks/sms-dr?a=好 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    elif target == "segments":
        entry = Entry("sms.dr", "k", "0" * 32, b'{"a":1}', (("name", "text"),))
        yield b"\x02" + batch_format.encode(entry) * 2
        yield b"\x01" + batch_format.encode(entry._replace(headers=(), key=""))


def inputs(target: str) -> Iterator[bytes]:
    """The seeds, then what is kept in the repository."""
    yield from seeds(target)
    folder = CORPUS / target
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            yield path.read_bytes()
