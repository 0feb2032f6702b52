"""Advice about settings that work but are risky: logged at start, shown by ``gateway check``."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.config import webhook_url
from gateway.config.callbacks import configured_paths
from gateway.config.rules import is_loopback, unknown_topics
from gateway.config.settings import FAMILIES, Ingest, Settings


def warnings(settings: Settings) -> list[str]:
    """Return what works but should be checked, one sentence each with its key path."""
    return [*_open_callbacks(settings.ingest), *_doubtful_subscribers(settings)]


def _open_callbacks(ingest: Ingest) -> Iterator[str]:
    """Yield one sentence for all: a new configuration has every callback open; two dozen lines would hide others."""
    paths = [row.path for row in configured_paths(ingest) if row.config.auth.is_open]
    if paths:
        shown = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
        yield f"ingest.callbacks: anyone who can reach {shown} can push events; set auth, or enabled: false"


def _doubtful_subscribers(settings: Settings) -> Iterator[str]:
    if settings.kafka is not None:
        yield from (f"subscribers[{path[1]}].topics: {text}" for path, text in unknown_topics(settings))
    filled = {topic for row in configured_paths(settings.ingest) for topic in row.topics} | {"callbacks.rejected"}
    if not settings.subscribers and settings.kafka is None:
        yield "subscribers: there are none, so events are stored in the journal and not delivered"
    for position, subscriber in enumerate(settings.subscribers):
        where = f"subscribers[{position}]"
        idle = [topic for topic in subscriber.topics if topic in FAMILIES and topic not in filled]
        if idle:
            yield f"{where}.topics: the callbacks of {', '.join(idle)} are switched off"
        if subscriber.url is None:
            continue
        url = webhook_url.parse(subscriber.url)
        if not subscriber.secrets:
            yield f"{where}.secrets: none, so {subscriber.name} cannot distinguish the webhooks from forged ones"
        if url.scheme == "http" and not is_loopback(url.host):
            yield f"{where}.url: plain http, so anyone on the path can read the events"
