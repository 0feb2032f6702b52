"""One case over a raw socket: what came back."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from tests.hostile.corpus import Case

_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
#: Longer than any answer takes, and than the gateway waits for the rest of a head in these tests.
ANSWER_S: Final = 15.0
#: An answered connection that stays open has nothing more to say after this.
_QUIET_S: Final = 0.15


@dataclass(frozen=True, slots=True)
class Came:
    """What a connection brought.

    Args:
        statuses: of all answers.
        is_closed: the gateway closed it.
    """

    statuses: list[int]
    is_closed: bool
    data: bytes


async def send(port: int, case: Case) -> Came:
    """Send it and read until the gateway closes, or has answered and says nothing more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = bytearray()
    is_closed = False
    writing = asyncio.create_task(_write(writer, case))
    try:
        async with asyncio.timeout(ANSWER_S):
            while not is_closed:
                try:
                    async with asyncio.timeout(_QUIET_S if _STATUS.search(received) else ANSWER_S):
                        data = await reader.read(65536)
                except TimeoutError:
                    break
                except ConnectionError:
                    is_closed = True
                    break
                is_closed = not data
                received += data
    except TimeoutError:
        pass
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    return Came([int(number) for number in _STATUS.findall(bytes(received))], is_closed, bytes(received))


async def _write(writer: asyncio.StreamWriter, case: Case) -> None:
    with suppress(OSError):  # the gateway may have heard enough
        for chunk in case.chunks:
            writer.write(chunk)
            await writer.drain()
        if case.ends:
            writer.write_eof()
