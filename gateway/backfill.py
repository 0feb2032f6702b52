"""Ask the platform for WhatsApp callbacks that were lost: the one documented way to get callbacks back.

The platform stores four kinds of WhatsApp callbacks and returns their original bodies on request. A body that went
through the decoder once gives the same event ids when it goes through it again, so asking for too much is harmless.

Source: page "callback" of http-api-document, 16 Apr 2026 (protocol.md, section 34), signed as part A describes. The
page states no paging and no limit on the answer, so a range is asked for in slices of one day each. Both ends of a
slice are part of it, in whole seconds, in the platform's time zone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any, Final

import aiohttp
import orjson

from gateway.callbacks.signature import Algorithm, general_signature
from gateway.errors import Broken, Transient

#: Kinds of callbacks that the platform can return.
FIELDS: Final = ("smb_app_state_sync", "smb_message_echoes", "history", "account_update")
#: How far back the platform can look.
REACH: Final = timedelta(days=7)
#: Of one request. Longer slices make answers of unmeasured size; shorter ones make more requests.
_SLICE: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
#: An answer is held in memory whole. A day of callbacks of one number is far smaller.
_MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
_TIMEOUT_S: Final = 60.0
_MAX_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Access:
    """Credentials that the platform requires, of one vendor account.

    Args:
        url: address of the interface.
        app_key: of the WhatsApp application.
        access_key: says which secret signs.
        secret: signs the request.
        algorithm: ``md5`` or ``sha256``.
    """

    url: str
    app_key: str
    access_key: str
    secret: str
    algorithm: Algorithm = "md5"


@dataclass(frozen=True, slots=True)
class PlatformQuery:
    """One question to the platform.

    Args:
        field: kind of callbacks, one of :data:`FIELDS`.
        business_phone: the business's WhatsApp number, as the platform writes it.
        since: first second, timezone-aware.
        until: last second, timezone-aware.
    """

    field: str
    business_phone: str
    since: datetime
    until: datetime


def queries(
    fields: Sequence[str], business_phones: Sequence[str], since: datetime, until: datetime
) -> Iterator[PlatformQuery]:
    """Yield the questions that cover a range without gap or overlap, oldest day first.

    Args:
        fields: kinds of callbacks.
        business_phones: numbers.
        since: start of the range, timezone-aware; a fraction of a second is rounded down.
        until: end of the range, timezone-aware; a fraction of a second is rounded up.
    """
    begin = since.replace(microsecond=0)
    last = until.replace(microsecond=0) + (_SECOND if until.microsecond else timedelta())
    while begin <= last:
        end = min(begin + _SLICE - _SECOND, last)
        for phone in business_phones:
            for field in fields:
                yield PlatformQuery(field, phone, begin, end)
        begin = end + _SECOND


class CallbackHistory:
    """The platform's store of past callbacks.

    Args:
        session: makes the requests.
        access: credentials of one vendor account.
        zone: the platform's time zone, in which it reads the times of a question.
        clock: returns now, timezone-aware; the platform refuses a request whose time is more than 60 s off.
    """

    def __init__(
        self, session: aiohttp.ClientSession, access: Access, zone: tzinfo, clock: Callable[[], datetime]
    ) -> None:
        self._session = session
        self._access = access
        self._zone = zone
        self._clock = clock

    async def ask(self, query: PlatformQuery) -> list[bytes]:
        """Return the bodies of past callbacks, byte for byte, in the platform's order.

        Raises:
            Transient: the platform cannot be reached or answered with an HTTP error; asking again may succeed.
            Broken: it refused the question, or its answer is not what the page describes.
        """
        body = self._body(query)
        try:
            async with self._session.post(
                self._access.url,
                data=body,
                headers=self._headers(body),
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
                allow_redirects=False,
            ) as response:
                answer = await _limited(response)
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise Transient(f"{self._access.url} does not answer: {exc or type(exc).__name__}") from exc
        if status != 200:
            raise Transient(f"{self._access.url} answers {status}: {_shown(answer)}")
        # Megabytes of text: parsing them must not hold up anything else on this loop.
        return await asyncio.to_thread(_bodies, answer)

    def _body(self, query: PlatformQuery) -> bytes:
        return orjson.dumps(
            {
                "appkey": self._access.app_key,
                "messaging_product": "whatsapp",
                "business_phone": query.business_phone,
                "field": query.field,
                "start_ime": self._local(query.since),  # spelled so on the page
                "end_time": self._local(query.until),
            }
        )

    def _local(self, moment: datetime) -> str:
        return moment.astimezone(self._zone).strftime("%Y-%m-%d %H:%M:%S")

    def _headers(self, body: bytes) -> dict[str, str]:
        access = self._access
        ts = str(int(self._clock().timestamp() * 1000))
        sign = general_signature(
            access.secret,
            access_key=access.access_key,
            action="mt",
            biz_type="2",
            ts=ts,
            body=body,
            algorithm=access.algorithm,
        )
        signed = {"accessKey": access.access_key, "action": "mt", "bizType": "2", "ts": ts, "sign": sign}
        return {**signed, "algorithm": access.algorithm, "Content-Type": "application/json"}


async def _limited(response: aiohttp.ClientResponse) -> bytes:
    """Return the whole answer.

    Raises:
        Broken: it is larger than is held in memory.
    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > _MAX_ANSWER_BYTES:
            raise Broken(f"the platform's answer exceeds {_MAX_ANSWER_BYTES // 2**20} MiB; ask for a shorter range")
        chunks.append(chunk)
    return b"".join(chunks)


def _bodies(answer: bytes) -> list[bytes]:
    try:
        parsed: Any = orjson.loads(answer)
    except orjson.JSONDecodeError as exc:
        raise Broken(f"the platform's answer is not JSON: {_shown(answer)}") from exc
    code = parsed.get("code") if isinstance(parsed, dict) else None
    if code not in (0, "0"):
        raise Broken(f"the platform refused the request: {_shown(answer)}")
    found = parsed.get("data")
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise Broken("the platform's answer has no list of texts in 'data'; this version cannot read it")
    return [one.encode("utf-8", "surrogatepass") for one in found]


def _shown(answer: bytes) -> str:
    text = answer[:_MAX_SHOWN].decode("utf-8", "replace")
    return "".join(char if char.isprintable() else " " for char in text) or "nothing"
