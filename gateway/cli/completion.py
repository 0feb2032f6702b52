"""``gateway completion``: what a shell needs to complete commands, options, and names of the configuration.

Names come from the configuration that the line names, read at each completion; those of subscribers that were added at
run time from the gateway that it names, if that answers at once. What cannot be read completes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import click
from click.shell_completion import CompletionItem, get_completion_class

from gateway.cli import COMPLETE_VARIABLE
from gateway.cli.options import DEFAULT_CONFIG, settings_or_defaults
from gateway.config.settings import Settings
from gateway.errors import GatewayError

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
    from gateway.cli.adminapi import AdminApi

    names = [one.name for one in settings.subscribers]
    with suppress(GatewayError):
        found = AdminApi.of(settings, timeout_s=_ANSWER_S).get("/api/subscribers")["subscribers"]
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
