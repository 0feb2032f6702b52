"""The running gateway's admin port, for commands that ask it something, and for the names that a shell completes.

Blocking, with the standard library: a command that prints a table needs no event loop. Proxies of the environment are
passed by, as the port is on this machine or inside.

``gateway completion`` prints what a shell needs to complete commands, options, and names of the configuration. Names
come from the configuration that the line names, read at each completion; those of subscribers that were added at run
time from the gateway that it names, if that answers at once. What cannot be read completes nothing.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import wraps
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import ProxyHandler, Request, build_opener

import click
from click.shell_completion import CompletionItem, get_completion_class

from gateway.cli import COMPLETE_VARIABLE
from gateway.cli.options import DEFAULT_CONFIG, Address, config_option, json_option, settings_or_defaults, url_of
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
_SHELLS: Final = ("bash", "zsh", "fish")
#: Longer than a gateway on this machine takes, shorter than a person waits behind Tab.
_ANSWER_S: Final = 0.5
EXAMPLES: Final = """
\b
Examples
  eval "$(gateway completion bash)"                                   in ~/.bashrc
  eval "$(gateway completion zsh)"                                    in ~/.zshrc, behind compinit
  gateway completion fish > ~/.config/fish/completions/gateway.fish
"""


class NotAsked(GatewayError):
    """The gateway answered that it does not do this; the message is its own."""


class NotKnown(NotAsked):
    """The gateway has nothing of this name or id."""


class AdminApi:
    """Asks one gateway.

    Args:
        settings: have its address and token.
        url: of another gateway.
        timeout_s: how long an answer may take.
    """

    def __init__(self, settings: Settings, url: str | None = None, *, timeout_s: float = _TIMEOUT_S) -> None:
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


def asks_gateway(function: Callable[..., None]) -> Callable[..., None]:
    """Add ``--json``, ``--admin`` and ``--config`` to a command, which gets ``as_json`` and ``api``."""

    @json_option
    @admin_option
    @config_option
    @wraps(function)
    def command(*args: Any, admin_url: str | None, config_path: Path, **options: Any) -> None:
        function(*args, api=AdminApi(settings_or_defaults(config_path), admin_url), **options)

    return command


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


@click.command(epilog=EXAMPLES)
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the lines that make a shell complete this command.

    Completed are commands, options, and the names of subscribers, topics, event types and callbacks of the
    configuration.
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(ctx.find_root().command, {}, "gateway", COMPLETE_VARIABLE).source())


Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _completing(names: Callable[[Settings], Iterable[str]]) -> Complete:
    """Return a completion by the names that a configuration has."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        path = ctx.params.get("config_path")
        try:
            settings = settings_or_defaults(path if isinstance(path, Path) else DEFAULT_CONFIG)
        except (GatewayError, OSError):
            return []
        given = ctx.params.get(param.name or "")
        known = given if isinstance(given, tuple) else ()
        return [CompletionItem(name) for name in names(settings) if name.startswith(incomplete) and name not in known]

    return complete


# The imports below take a while, and only the completions that need them wait.


def _subscribers(settings: Settings) -> list[str]:
    names = [one.name for one in settings.subscribers]
    with suppress(GatewayError):
        found = AdminApi(settings, timeout_s=_ANSWER_S).get("/api/subscribers")["subscribers"]
        names += [one["name"] for one in found]
    return list(dict.fromkeys(names))


def _any_topics(settings: Settings) -> list[str]:
    from gateway.fanout.retry_records import dlq_topic

    return [*settings.event_topics, *(dlq_topic(one.name) for one in settings.subscribers)]


def event_types(settings: Settings) -> list[str]:
    """Return the types of events that callbacks of this configuration can become, as far as it names them."""
    from gateway.schema.events import topics

    rows = [row for rows in settings.ingest.callbacks.values() for row in rows if row.decoder is not None]
    own = [row.type or row.topic or "" for row in rows]
    known = [kind for kinds in topics().values() for kind in kinds]
    return list(dict.fromkeys([*known, *(kind for kind in own if kind and not kind.startswith("$"))]))


def _callbacks(settings: Settings) -> list[str]:
    from gateway.callbacks import CALLBACKS

    return list(dict.fromkeys([*CALLBACKS, *settings.ingest.callbacks]))


complete_subscriber: Final = _completing(_subscribers)
complete_alert: Final = _completing(lambda settings: [one.name for one in settings.alerts])
complete_topic: Final = _completing(lambda settings: settings.event_topics)
#: Topics of events, and the dead letters of each subscriber.
complete_any_topic: Final = _completing(_any_topics)
complete_type: Final = _completing(event_types)
complete_callback: Final = _completing(_callbacks)
