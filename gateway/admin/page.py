"""The console's files: read from the package once, identified by content, served without authentication.

They hold no secret. A browser keeps them, and asks by ``ETag`` whether they are still the same.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Final

from aiohttp import web

_TYPES: Final = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
    "txt": "text/plain",
}


@dataclass(frozen=True, slots=True)
class File:
    """A file of the console."""

    content_type: str
    content: bytes
    compressed: bytes
    etag: str


def files() -> dict[str, File]:
    """Return all files of the console by name, such as ``console.js``."""
    found: dict[str, File] = {}
    for item in resources.files("gateway.admin").joinpath("static").iterdir():
        suffix = item.name.rpartition(".")[2]
        if item.is_file() and suffix in _TYPES:
            content = item.read_bytes()
            etag = hashlib.blake2b(content, digest_size=12).hexdigest()
            found[item.name] = File(_TYPES[suffix], content, gzip.compress(content, 9, mtime=0), etag)
    return found


class Page:
    """Routes of this file."""

    def __init__(self) -> None:
        self._files = files()

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register."""
        router.add_get("/", self._index)
        router.add_get("/static/{name}", self._static)

    async def _index(self, request: web.Request) -> web.Response:
        return _answer(request, self._files["index.html"])

    async def _static(self, request: web.Request) -> web.Response:
        file = self._files.get(request.match_info["name"])
        if file is None:
            raise web.HTTPNotFound
        return _answer(request, file)


def _answer(request: web.Request, file: File) -> web.Response:
    headers = {"ETag": f'"{file.etag}"', "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if f'"{file.etag}"' in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    content = file.content
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
        content = file.compressed
    return web.Response(body=content, content_type=file.content_type, charset="utf-8", headers=headers)
