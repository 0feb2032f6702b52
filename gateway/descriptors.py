"""File descriptors of this process, and who may have how many of them.

Every connection, file and socket takes one, and a process may open ``RLIMIT_NOFILE`` of them (getrlimit(2)). Strangers
who open connections must not take what the journal, the admin port and deliveries need, so each port has a share:

==============  ============================================================================
ingest          what the others leave, at most :data:`_MOST_INGEST`
admin port      an eighth, at most :data:`_MOST_ADMIN`
deliveries      a quarter: connections to subscribers
everything else :data:`_OWN`: journal, search, Kafka, listening sockets, event loop, log
==============  ============================================================================
"""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from typing import Final, Literal

import structlog

#: A gateway without any connection has about 30 open, and with Kafka one more for each broker and client.
_OWN: Final = 48
#: People, probes and scrapers. Ten times more would be forgotten open pages.
_MOST_ADMIN: Final = 256
#: 16,384 idle connections take about 150 MB. Ten times more would take the memory of what they are for.
_MOST_INGEST: Final = 16_384
#: Where the limit is "none", or larger than this, nothing is raised: some systems refuse it, others scan all of them.
_MOST_RAISED: Final = 1_048_576

_log = structlog.get_logger("gateway.descriptors")


def raise_limit() -> None:
    """Raise the soft limit of this process to the hard one. What may not be raised stays as it is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_RAISED if hard == resource.RLIM_INFINITY else min(hard, _MOST_RAISED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def fill_standard() -> None:
    """Open what is closed of standard input, output and error, so that no socket gets one of their numbers.

    Children have their standard input replaced; a program that was started with ``<&-`` would lose a port with it.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)


def limit() -> int:
    """Return how many descriptors this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_RAISED if soft == resource.RLIM_INFINITY else soft


def admin_connections() -> int:
    """Return the admin port's share."""
    return max(8, min(_MOST_ADMIN, limit() // 8))


def check_deliveries(connections: int) -> None:
    """Warn when subscribers may have more connections at once than their share.

    They are not cut: a subscriber that answers slowly needs them, and few are in use at most times.
    """
    share = limit() // 4
    if connections > share:
        _log.warning(
            "subscribers.many_connections",
            configured=connections,
            share=share,
            descriptors=limit(),
            advice="raise the limit of open files (ulimit -n, LimitNOFILE), or lower the subscribers' concurrency; "
            "when none is left, deliveries fail and callbacks are not accepted",
        )


def ingest_connections(configured: int | Literal["auto"]) -> int:
    """Return the ingest port's share, or less where less is configured.

    If more is configured than exists, the share applies and a warning is logged.
    """
    share = max(8, min(limit() - _OWN - admin_connections() - limit() // 4, 1_048_576))
    if configured == "auto":
        return min(share, _MOST_INGEST)
    if configured > share:
        _log.warning(
            "ingest.max_connections_reduced",
            configured=configured,
            connections=share,
            descriptors=limit(),
            advice="raise the limit of open files (ulimit -n, LimitNOFILE), or lower ingest.max_connections",
        )
    return min(share, configured)
