"""Which callbacks a configuration puts on which paths: the built-in ones, and those of other senders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.callbacks import CALLBACKS
from gateway.config.settings import CallbackPath, Ingest

BASE_PATH: Final = "/callbacks/"


@dataclass(frozen=True, slots=True)
class ConfiguredPath:
    """One path, in force or disabled.

    Args:
        callback: name of the callback.
        path: the HTTP path, without a slash at its end.
        position: its place in the callback's list; 0 for the only one.
        config: the section, or all defaults for a callback that the file does not name.
        is_in_file: whether the file names the callback.
    """

    callback: str
    path: str
    position: int
    config: CallbackPath
    is_in_file: bool

    @property
    def is_builtin(self) -> bool:
        """A callback of the platform, not of another sender."""
        return self.callback in CALLBACKS

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics its events go to."""
        if self.is_builtin:
            return CALLBACKS[self.callback].topics
        return (self.config.topic,) if self.config.topic else ()


def all_paths(ingest: Ingest) -> list[ConfiguredPath]:
    """Return every path, disabled ones included: built-in ones first, in the order of their table, then the others."""
    return [
        ConfiguredPath(name, (row.path or BASE_PATH + name).rstrip("/") or "/", at, row, name in ingest.callbacks)
        for name in dict.fromkeys((*CALLBACKS, *ingest.callbacks))
        for at, row in enumerate(ingest.callbacks.get(name, [CallbackPath()]))
    ]


def configured_paths(ingest: Ingest) -> list[ConfiguredPath]:
    """Return every path that answers callbacks, in the order of :func:`all_paths`."""
    return [row for row in all_paths(ingest) if row.config.enabled]
