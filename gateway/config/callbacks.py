"""Which callbacks a configuration puts on which paths: the built-in ones, and those of other senders."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.callbacks import CALLBACKS
from gateway.config.settings import CallbackPath, Ingest


@dataclass(frozen=True, slots=True)
class ConfiguredPath:
    """One path in force.

    Args:
        callback: name of the callback.
        path: the HTTP path, never None.
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


def configured_paths(ingest: Ingest) -> list[ConfiguredPath]:
    """Every path that answers callbacks: built-in ones first, in the order of their table, then the others."""
    found: list[ConfiguredPath] = []
    for name in dict.fromkeys((*CALLBACKS, *ingest.callbacks)):
        sections = ingest.callbacks.get(name, [CallbackPath()])
        for position, section in enumerate(sections):
            if section.enabled:
                path = section.path or f"/callbacks/{name}"
                found.append(ConfiguredPath(name, path, position, section, name in ingest.callbacks))
    return found
