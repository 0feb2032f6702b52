"""Trying what a configuration names: brokers, subscribers' hosts, the journal's folder. Each try is bounded."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal

from gateway.config import webhook_url
from gateway.config.settings import Journal, Settings, Subscriber
from gateway.fanout.guard import Allowed, refusal
from gateway.log.journal.store import FILE_NAME

#: One look at a name or a port. A subscriber that needs longer to connect fails its deliveries, too.
_TRY_S: Final = 5.0

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Args:
        level: ``problem`` makes ``gateway check`` fail.
        path: key path of the configuration.
        text: one sentence.
    """

    level: Level
    path: str
    text: str


async def look(settings: Settings) -> list[Finding]:
    """Try everything at once; findings are in the order of the file."""
    tries: list[Awaitable[Finding]] = [asyncio.to_thread(_journal_folder, settings.journal)]
    tries.append(asyncio.to_thread(_disk, settings.journal))
    if settings.kafka is not None:
        tries += [
            _port(f"kafka.bootstrap_servers[{position}]", *_host_port(server))
            for position, server in enumerate(settings.kafka.bootstrap_servers)
        ]
    tries += [_subscriber(position, one) for position, one in enumerate(settings.subscribers)]
    return list(await asyncio.gather(*tries))


def _host_port(server: str) -> tuple[str, int]:
    host, _, port = server.rpartition(":")
    return host.strip("[]"), int(port)


async def _subscriber(position: int, subscriber: Subscriber) -> Finding:
    path = f"subscribers[{position}].url"
    if subscriber.url is None:
        return Finding("ok", f"subscribers[{position}]", f"{subscriber.name} is a {subscriber.kind}")
    url = webhook_url.parse(subscriber.url)
    host, port = url.host, url.port
    try:
        addresses = await _resolve(host, port)
    except OSError as exc:
        return Finding("problem", path, f"the name {host} cannot be resolved: {exc.strerror or exc}")
    allowed = Allowed.parse(subscriber.allow, private=subscriber.allow_private)
    reasons = {address: refusal(ip_address(address.partition("%")[0]), allowed, host) for address in addresses}
    usable = [address for address, reason in reasons.items() if reason is None]
    if not usable:
        address, reason = next(iter(reasons.items()))
        return Finding(
            "problem",
            path,
            f"{host} is {address}, a {reason} address, and refused; set allow_private, or name it in allow",
        )
    return await _port(path, usable[0], port, shown=host)


async def _resolve(host: str, port: int) -> list[str]:
    async with asyncio.timeout(_TRY_S):
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


async def _port(path: str, host: str, port: int, *, shown: str = "") -> Finding:
    name = f"{shown or host}:{port}"
    try:
        async with asyncio.timeout(_TRY_S):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return Finding("problem", path, f"{name} does not answer within {_TRY_S:g} s")
    except OSError as exc:
        return Finding("problem", path, f"{name} cannot be reached: {_reason(exc)}")
    writer.close()
    return Finding("ok", path, f"{name} answers")


def _reason(exc: OSError) -> str:
    return os.strerror(exc.errno).lower() if exc.errno and exc.errno > 0 else str(exc)


def _journal_folder(journal: Journal) -> Finding:
    folder = Path(journal.dir)
    path = "journal.dir"
    existing = _existing(folder)
    if not existing.is_dir():
        return Finding("problem", path, f"{existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding("problem", path, f"{existing} cannot be written by this user")
    if folder.exists():
        return Finding("ok", path, f"{folder} can be written")
    return Finding("ok", path, f"{folder} can be made")


def _disk(journal: Journal) -> Finding:
    folder = Path(journal.dir)
    free = shutil.disk_usage(_existing(folder)).free
    used = sum(_size(one) for one in (folder / FILE_NAME, folder / f"{FILE_NAME}-wal"))
    wanted = int(journal.max_bytes) - used
    if wanted > free:
        return Finding(
            "warning",
            "journal.max_bytes",
            f"the journal may still grow by {wanted / 1e9:.1f} GB, and the disk has {free / 1e9:.1f} GB left; "
            "a full disk answers callbacks 503",
        )
    return Finding("ok", "journal.max_bytes", f"{free / 1e9:.1f} GB are free")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def problems_of(findings: Iterable[Finding]) -> list[Finding]:
    """Those that make the check fail."""
    return [finding for finding in findings if finding.level == "problem"]
