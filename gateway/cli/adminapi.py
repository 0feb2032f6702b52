"""The running gateway's admin port, for commands that ask it something.

Blocking, with the standard library: a command that prints a table needs no event loop. Proxies of the environment are
passed by, as the port is on this machine or inside.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import ProxyHandler, Request, build_opener

import click

from gateway.cli.options import Address, settings_or_defaults, url_of
from gateway.config.settings import Settings
from gateway.errors import Broken, GatewayError

#: A dry run reads the log; a large one takes a minute.
_TIMEOUT_S: Final = 120.0
#: Bytes of an answer; the largest, a thousand dead letters, has some megabytes. What is cut is no JSON.
_MOST_ANSWER: Final = 256 * 1024 * 1024

admin_option: Final = click.option(
    "--admin",
    "admin_url",
    type=Address(),
    metavar="URL",
    help="Where the gateway's admin port is; left out: admin.host and admin.port of the configuration.",
)


class NotAsked(GatewayError):
    """The gateway answered that it does not do this; the message is its own."""


class NotKnown(NotAsked):
    """The gateway has nothing of this name or id."""


class AdminApi:
    """Asks one gateway.

    Args:
        config_path: file with address and token; if none was named and the default one is missing, the defaults apply.
        url: of another gateway.
        timeout_s: how long an answer may take.
    """

    def __init__(self, config_path: Path, url: str | None = None, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._begin(settings_or_defaults(config_path), url, timeout_s)

    @classmethod
    def of(cls, settings: Settings, *, timeout_s: float) -> AdminApi:
        """Return the interface of the gateway of a configuration."""
        made = cls.__new__(cls)
        made._begin(settings, None, timeout_s)
        return made

    def _begin(self, settings: Settings, url: str | None, timeout_s: float) -> None:
        self.url = (url or _url(settings)).rstrip("/")
        self._timeout_s = timeout_s
        self._token = settings.admin.strongest_token
        self._opener = build_opener(ProxyHandler({}))

    def get(self, path: str, query: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Ask; parameters that are None or empty are left out.

        Raises:
            Broken: no gateway answers there.
            NotAsked: it refused; the message says why.
        """
        given = [(name, str(value)) for name, value in (query or {}).items() if value not in (None, "")]
        query_string = urlencode(given, errors="surrogateescape")
        return self._send(Request(f"{self.url}{_quoted(path)}{'?' if given else ''}{query_string}"))  # noqa: S310

    def post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Send a POST request; parameters that are None or empty are left out. Errors as :meth:`get`."""
        return self.change(
            "POST", path, {name: value for name, value in body.items() if value not in (None, "", [], ())}
        )

    def change(self, method: str, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Send a request with exactly this body; errors as :meth:`get`."""
        request = Request(f"{self.url}{_quoted(path)}", json.dumps(body).encode(), method=method)  # noqa: S310
        request.add_header("Content-Type", "application/json")
        return self._send(request)

    def _send(self, request: Request) -> dict[str, Any]:
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                found = json.loads(response.read(_MOST_ANSWER))
        except HTTPError as exc:
            with exc:
                raise self._refused(exc) from exc
        except (URLError, HTTPException, OSError) as exc:
            raise Broken(f"no gateway answers at {self.url}: {_reason(exc)}; start it, or use --admin URL") from exc
        except ValueError as exc:
            raise Broken(f"{self.url} is not a gateway's admin port") from exc
        return found if isinstance(found, dict) else {}

    def _refused(self, exc: HTTPError) -> GatewayError:
        if exc.code == 401:
            return NotAsked(f"{self.url}: the admin token is wrong or missing; set admin.token in the configuration")
        try:
            sentence = str(json.loads(exc.read(_MOST_ANSWER))["error"])
        except (ValueError, KeyError, TypeError):
            return NotAsked(f"{self.url} answers {exc.code}; is this a gateway's admin port?")
        return NotKnown(sentence) if exc.code == 404 else NotAsked(sentence)


def _quoted(path: str) -> str:
    """Return a path for a request line; an argument of the command line may be any bytes."""
    return quote(path, errors="surrogateescape")


def _url(settings: Settings) -> str:
    host, port = settings.admin.host, settings.admin.port
    if port == 0:
        raise Broken("admin.port is 0, any free one: the gateway's log line gateway.started names it; use --admin URL")
    return url_of(host, port)


def _reason(exc: Exception) -> str:
    inner = exc.reason if isinstance(exc, URLError) else exc
    if isinstance(inner, (TimeoutError, socket.timeout)):
        return "it takes too long"
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror.lower()
    return str(inner) or type(inner).__name__
