"""The platform's query of past callbacks, as its page describes it (protocol.md, section 34), on a real HTTP port."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from aiohttp import web

from gateway.callbacks.signature import general_signature

ACCESS_KEY, SECRET, APP_KEY, PHONE = "demoAK01", "demoAS01", "demoapp1", "85230000001"
FIELDS = {"smb_app_state_sync", "smb_message_echoes", "history", "account_update"}
ZONE = ZoneInfo("Asia/Shanghai")


class PlatformHistory:
    """Checks a question as the page says and answers with the callbacks that were kept.

    ``kept`` holds (kind, time, body). ``answer`` replaces the answer to a valid question where a test sets it.
    """

    def __init__(self) -> None:
        self.kept: list[tuple[str, datetime, str]] = []
        self.questions: list[dict[str, Any]] = []
        self.answer: web.Response | None = None
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one question; a wrong one gets the code and message of a refusal."""
        body = await request.read()
        wrong = self._wrong(request, body)
        if wrong:
            return web.json_response({"code": 1001, "message": wrong, "data": None})
        question = orjson.loads(body)
        self.questions.append(question)
        if self.answer is not None:
            return self.answer
        begin, end = _time(question["start_ime"]), _time(question["end_time"])
        found = [text for kind, at, text in self.kept if kind == question["field"] and begin <= at <= end]
        return web.json_response({"code": 0, "message": "success", "data": found})

    def _wrong(self, request: web.Request, body: bytes) -> str:
        given = {name: request.headers.get(name, "") for name in ("accessKey", "action", "bizType", "ts", "sign")}
        if abs(int(given["ts"] or 0) / 1000 - time.time()) > 60:
            return "ts is off"
        wanted = general_signature(
            SECRET, access_key=ACCESS_KEY, action="mt", biz_type="2", ts=given["ts"], body=body,
            algorithm="sha256" if request.headers.get("algorithm") == "sha256" else "md5",
        )  # fmt: skip
        if given != {"accessKey": ACCESS_KEY, "action": "mt", "bizType": "2", "ts": given["ts"], "sign": wanted}:
            return "sign is wrong"
        question = orjson.loads(body)
        if question["appkey"] != APP_KEY or question["messaging_product"] != "whatsapp":
            return "appkey is wrong"
        if question["business_phone"] != PHONE or question["field"] not in FIELDS:
            return "business_phone or field is wrong"
        begin, end = _time(question["start_ime"]), _time(question["end_time"])
        if begin > end or datetime.now(ZONE) - begin > timedelta(days=7, minutes=1):
            return "the time range is wrong"
        return ""


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=ZONE)


@asynccontextmanager
async def platform_history() -> AsyncIterator[PlatformHistory]:
    """Serve one."""
    platform = PlatformHistory()
    app = web.Application()
    app.router.add_post("/api/wa/callback", platform.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    platform.url = f"http://127.0.0.1:{runner.addresses[0][1]}/api/wa/callback"
    try:
        yield platform
    finally:
        await runner.cleanup()
