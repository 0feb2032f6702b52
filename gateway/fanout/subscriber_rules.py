"""Problems of a ``subscribers`` entry beyond its types, for the loader, ``check``, start and reload.

One place, so that ``gateway check`` and a start cannot differ. What needs no file is :func:`problems`, and the loader
asks it, so that each sentence has its line in ``config.yaml``. What reads certificate files is :func:`file_problems`:
only a process that delivers has them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from gateway.config.settings import Subscriber
from gateway.errors import ConfigError
from gateway.fanout.filters import compile_filter
from gateway.fanout.ssrf import Allowed
from gateway.fanout.transform import Transform
from gateway.fanout.webhook_client import tls_context
from gateway.signing import Signer

#: Key path below the subscriber, and a sentence.
Problem = tuple[tuple[str | int, ...], str]

#: Every delivery carries them, or the connection has its own; so does everything that begins with ``webhook-``.
RESERVED_HEADERS: Final = frozenset(
    {
        "connection",
        "content-length",
        "content-type",
        "gateway-replay",
        "gateway-test",
        "host",
        "traceparent",
        "transfer-encoding",
        "user-agent",
    }
)
_STEPS: Final = re.compile(r"[^.\[\]]+")


def problems(subscriber: Subscriber) -> Iterator[Problem]:
    """Yield everything that is wrong and needs no file to be seen; touches neither disk nor network."""
    yield from _said(lambda: Signer([secret.get_secret_value() for secret in subscriber.secrets]))
    yield from _said(lambda: compile_filter(subscriber.filter))
    yield from _said(lambda: Allowed.parse(subscriber.allow))
    yield from _said(lambda: Transform(subscriber.transform.include, subscriber.transform.exclude))
    yield from _headers(subscriber)
    yield from _token(subscriber)
    if subscriber.tls.key_file is not None and subscriber.tls.cert_file is None:
        yield ("tls", "key_file"), "a key is of no use without tls.cert_file"
    if subscriber.retry.first_delay_s > subscriber.retry.max_delay_s:
        yield ("retry", "first_delay_s"), "must not be more than max_delay_s"
    if subscriber.breaker.first_open > subscriber.breaker.max_open:
        yield ("breaker", "first_open"), "must not be more than max_open"


def file_problems(subscriber: Subscriber) -> Iterator[Problem]:
    """Yield what is wrong with the files that a subscriber names. Reads them."""
    if subscriber.tls.cert_file is not None or subscriber.tls.key_file is None:  # otherwise :func:`problems` reports it
        yield from _said(lambda: tls_context(subscriber.tls))


def _headers(subscriber: Subscriber) -> Iterator[Problem]:
    for name, value in subscriber.headers.items():
        if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            yield ("headers", name), "not a name of an HTTP header"
        elif name.lower() in RESERVED_HEADERS or name.lower().startswith("webhook-"):
            yield ("headers", name), "this header is the gateway's own"
        elif not value.get_secret_value().isprintable():
            yield ("headers", name), "a header's value is one line of printable characters"


def _token(subscriber: Subscriber) -> Iterator[Problem]:
    token = subscriber.token.get_secret_value()
    if token and subscriber.kind != "stream":
        yield ("token",), f"only a stream is fetched with one, and this is a {subscriber.kind}"
    elif not token.isascii() or not token.isprintable() or " " in token:
        yield ("token",), "is sent in a header: use printable ASCII characters without spaces"


def _said(check: Callable[[], object]) -> Iterator[Problem]:
    """Yield the problems of a check that raises ConfigError; its sentences begin with key paths."""
    try:
        check()
    except ConfigError as exc:
        for text in exc.problems:
            path, _, sentence = text.partition(": ")
            yield tuple(map(_step, _STEPS.findall(path))), sentence


def _step(text: str) -> str | int:
    """Return the index in a list that a step of a path means, or the name. No list here has a million items."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 6 else text
