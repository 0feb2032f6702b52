"""``gateway subscribers``: see how they are doing; pause, resume, add, change, remove and test them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from gateway.cli.adminapi import AdminApi, NotAsked, asks_gateway, complete_subscriber
from gateway.cli.options import Seconds
from gateway.cli.printing import coloured, local, print_json, print_table, printable
from gateway.config import document, environment
from gateway.errors import ConfigError

EXAMPLES: Final = """
\b
Examples
  gateway subscribers list
  gateway subscribers list --json | jq '.subscribers[] | select(.state != "healthy") | .name'
  gateway subscribers pause billing      its events wait in the log
  gateway subscribers resume billing     and are delivered from there on
  gateway subscribers add name=billing topics=sms.dr url=https://billing.example.com/hooks
  gateway subscribers test billing
"""
ADD: Final = """
\b
Examples
  gateway subscribers add name=billing topics=sms.dr url=https://billing.example.com/hooks
  gateway subscribers add name=crm 'topics=[sms.dr, call.event]' url=https://crm.example.com/ retry.attempts=5
  gateway subscribers add name=crm topics=sms.dr url=https://crm.example.com/ 'secrets=${CRM_SECRET}'
  gateway subscribers add --from billing.yaml
"""
SET: Final = """
\b
Examples
  gateway subscribers set billing timeout_s=30 retry.attempts=5
  gateway subscribers set billing 'topics=[sms.dr, call.event]'
  gateway subscribers set billing rate_per_s=null            back to the default
"""
SHOW: Final = """
\b
Examples
  gateway subscribers show billing
  gateway subscribers show billing --json | jq .settings
"""
REMOVE: Final = """
\b
Examples
  gateway subscribers remove billing
"""
TEST: Final = """
\b
Examples
  gateway subscribers test billing
  gateway subscribers test billing --type nxcloud.sms.dr --json
"""
ROTATE: Final = """
\b
Examples
  gateway subscribers rotate-secret billing                  the old secret stays until it is removed
  gateway subscribers rotate-secret billing --overlap 1d     the old secret ends after a day
  gateway subscribers rotate-secret billing --remove 4f1d0c2a9b3e
"""

_from_option: Final = click.option(
    "--from",
    "file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A YAML file with the keys of a subscriber, as in config.yaml.",
)
_pairs: Final = click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]…")
_name: Final = click.argument("name", shell_complete=complete_subscriber)


@click.group(epilog=EXAMPLES)
def subscribers() -> None:
    """See how subscribers are doing; add, change, test and remove them while the gateway runs."""


@subscribers.command(name="list", epilog=EXAMPLES)
@asks_gateway
def list_(as_json: bool, api: AdminApi) -> None:
    """List all with state, lag, rate, latency and the last error."""
    document = api.get("/api/subscribers")
    if as_json:
        print_json(document)
        return
    found = document["subscribers"]
    for one in document["not_usable"]:
        click.echo(f"{one['name']} cannot be used: {printable(one['problem'])}", err=True)
    if not found:
        click.echo("there are no subscribers")
        return
    print_table(
        (
            "subscriber",
            "source",
            "state",
            "lag",
            "in flight",
            "per second",
            "success",
            "p50 ms",
            "p99 ms",
            "given up",
            "last error",
        ),
        [
            (
                one["name"],
                one["source"],
                one["state"] or ("stream" if one["kind"] == "stream" else "unknown"),
                _lag(one),
                one["in_flight"],
                f"{one['rate']:.1f}",
                None if one["success_share"] is None else f"{one['success_share']:.1%}",
                _ms(one["p50"]),
                _ms(one["p99"]),
                one["dead_letters"],
                _error(one["last_error"]),
            )
            for one in found
        ],
    )


@subscribers.command(epilog=EXAMPLES)
@click.argument("name", shell_complete=complete_subscriber)
@asks_gateway
def pause(name: str, as_json: bool, api: AdminApi) -> None:
    """Hold a subscriber's events back, over restarts, until it is resumed.

    They wait in the log; what is older than the log keeps is lost to it, and counted.
    """
    _tell(api.post(f"/api/subscribers/{name}/pause", {}), as_json=as_json)


@subscribers.command(epilog=EXAMPLES)
@click.argument("name", shell_complete=complete_subscriber)
@asks_gateway
def resume(name: str, as_json: bool, api: AdminApi) -> None:
    """Continue from the stored position after a pause, or after the subscriber answered 410."""
    _tell(api.post(f"/api/subscribers/{name}/resume", {}), as_json=as_json)


def _tell(one: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(one)
        return
    lag = "" if one["lag"] is None else f", {one['lag']:,} records behind"
    unknown = f"; how far behind is unknown: {one['lag_unknown']['reason']}" if one["lag_unknown"] else ""
    click.echo(f"{one['name']} is {coloured(one['state'] or 'unknown')}{lag}{unknown}\n  {printable(one['reason'])}")


def _lag(one: dict[str, Any]) -> object:
    """Return the lag for display: an unknown one is not 0, and is shown with its last known value."""
    unknown = one["lag_unknown"]
    if unknown is None:
        return one["lag"]
    return "unknown" if unknown["since"] is None else f"unknown ({unknown['last']:,} at {local(unknown['since'])})"


def _ms(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds * 1000:.0f}"


def _error(error: dict[str, Any] | None) -> str | None:
    return None if error is None else f"{local(error['at'])}  {error['sentence']}"


@subscribers.command(epilog=ADD)
@_from_option
@_pairs
@asks_gateway
def add(file: Path | None, pairs: tuple[str, ...], as_json: bool, api: AdminApi) -> None:
    """Add a subscriber to the running gateway, and to all that share its log.

    The keys are those of config.yaml; a dot leads into a section, and a value is YAML. ${NAME} is filled in here, from
    the environment of this command. What is stored with a secret is encrypted with admin.secrets_key.
    """
    found = api.change("POST", "/api/subscribers", _given(file, pairs))
    _print_settings(found, f"{found['name']} is added", as_json=as_json)


@subscribers.command(name="set", epilog=SET)
@_name
@_from_option
@_pairs
@asks_gateway
def set_(name: str, file: Path | None, pairs: tuple[str, ...], as_json: bool, api: AdminApi) -> None:
    """Change some keys of a subscriber that was added at run time; null sets one back to its default."""
    found = api.change("PATCH", f"/api/subscribers/{name}", _given(file, pairs))
    _print_settings(found, f"{name} is changed", as_json=as_json)


@subscribers.command(epilog=SHOW)
@_name
@asks_gateway
def show(name: str, as_json: bool, api: AdminApi) -> None:
    """Show the settings of a subscriber, without its secrets."""
    found = api.get(f"/api/subscribers/{name}")
    _print_settings(
        found, f"{name} is of the {'configuration file' if found['source'] == 'file' else 'interface'}", as_json=as_json
    )


@subscribers.command(epilog=REMOVE)
@_name
@asks_gateway
def remove(name: str, as_json: bool, api: AdminApi) -> None:
    """Remove a subscriber that was added at run time. Its dead letters stay in the log."""
    found = api.change("DELETE", f"/api/subscribers/{name}", {})
    print_json(found) if as_json else click.echo(f"{name} is removed")


@subscribers.command(epilog=TEST)
@_name
@click.option("--type", "event_type", metavar="TYPE", help="Type of the event; left out: the first of its topics.")
@asks_gateway
def test(name: str, event_type: str | None, as_json: bool, api: AdminApi) -> None:
    """Send one signed sample of an event to a subscriber; show request and answer. Exit code 1 if it was not taken."""
    found = api.post(f"/api/subscribers/{name}/test", {"type": event_type})
    if as_json:
        print_json(found)
    else:
        _print_test(found)
    if not found["is_success"]:
        raise NotAsked(f"{name} did not accept it: {found['error']}")


@subscribers.command(name="rotate-secret", epilog=ROTATE)
@_name
@click.option("--overlap", type=Seconds(), metavar="DURATION", help="The old secrets end after this time, such as 1d.")
@click.option("--given", is_flag=True, help="Read the new secret from standard input; left out: one is made.")
@click.option("--remove", "ended", metavar="FINGERPRINT", help="Make none, and end the secret with this fingerprint.")
@asks_gateway
def rotate_secret(
    name: str, overlap: float | None, given: bool, ended: str | None, as_json: bool, api: AdminApi
) -> None:
    """Create a new secret for a subscriber, and show it once. Both sign until the old one ends."""
    path = f"/api/subscribers/{name}"
    if ended is not None:
        if given or overlap is not None:
            raise click.UsageError("--remove makes no secret: do not use --given and --overlap")
        _print_settings(
            api.change("DELETE", f"{path}/secrets/{ended}", {}), f"{name}: {ended} is ended", as_json=as_json
        )
        return
    secret = sys.stdin.readline().strip() if given else None
    body = {key: value for key, value in (("secret", secret), ("overlap_s", overlap)) if value is not None}
    found = api.change("POST", f"{path}/rotate-secret", body)
    _print_settings(found, f"{name} has a new secret, {found['fingerprint']}", as_json=as_json)
    if not as_json and found["secret"]:
        click.echo(f"\nThe secret, shown this once:\n{found['secret']}")


def _given(file: Path | None, pairs: Sequence[str]) -> dict[str, Any]:
    """Return the keys that a file and the command line give; the latter win."""
    tree: dict[str, Any] = {} if file is None else document.read(file).tree
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign or not key:
            raise click.UsageError(f"{pair!r} is not KEY=VALUE")
        node = tree
        *above, last = key.split(".") if not key.startswith("headers.") else ["headers", key.removeprefix("headers.")]
        for step in above:
            below = node.get(step)
            node[step] = node = below if isinstance(below, dict) else {}
        node[last] = document.value(text, key) if text else ""
    if not tree:
        raise click.UsageError("say what: KEY=VALUE, or --from FILE")
    filled, unset = environment.interpolate(tree, os.environ, ())
    if unset:
        raise ConfigError([f"{document.dotted(path)}: {text}" for path, text in unset])
    return filled


def _print_settings(found: Mapping[str, Any], sentence: str, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    click.echo(sentence)
    if found.get("problem"):
        click.echo(f"it cannot be used: {printable(found['problem'])}")
    rows = [(key, value) for key, value in _flat(found["settings"]) if key != "name"]
    rows += [("headers", ", ".join(found["header_names"]))] if found["header_names"] else []
    rows += [("token", "set")] if found["has_token"] else []
    rows += [("secret", f"{one['fingerprint']}{_end(one['ends_at'])}") for one in found["secrets"]]
    if rows:
        print_table(("key", "value"), rows)


def _flat(tree: Mapping[str, Any], path: str = "") -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for key, value in tree.items():
        is_section = isinstance(value, dict) and key not in ("filter",)
        found += _flat(value, f"{path}{key}.") if is_section else [(f"{path}{key}", _shown(value))]
    return found


def _shown(value: object) -> str:
    return printable(value)


def _end(at: float | None) -> str:
    return "" if at is None else f", until {local(at)}"


def _print_test(found: Mapping[str, Any]) -> None:
    request, answer = found["request"], found["answer"]
    click.echo(f"{request['method']} {printable(request['url'])}")
    for name, value in request["headers"]:
        click.echo(f"{name}: {printable(value)}")
    click.echo(f"\n{printable(request['body'])}\n")
    if answer is not None:
        click.echo(f"HTTP {answer['status']} {printable(answer['reason'])} after {found['duration_s'] * 1000:.0f} ms")
        for name, value in answer["headers"]:
            click.echo(f"{printable(name)}: {printable(value)}")
        if answer["body"]:
            click.echo(f"\n{printable(answer['body'])}{' …' if answer['is_cut'] else ''}")
    if found["filtered_by"]:
        click.echo(f"\nIts filter rejects such an event: {found['filtered_by']}")
