"""One tree of errors, sorted by what to do next, not by where they were raised.

    GatewayError
    ├── SenderError      the sender's fault: answer 4xx, nothing to retry here
    │   ├── CallbackRejected   authentic but not understood: 400, and kept in ``callbacks.rejected``
    │   ├── Unauthenticated    no or wrong credential: 401, never stored
    │   └── Forbidden          wrong address: 403, never stored
    ├── NotNow           our fault, for a while: answer 503 with ``Retry-After``, store nothing
    │   ├── JournalFull        no room that may be freed
    │   └── JournalUnavailable the disk refused a write or an fsync, or the files are not where they were
    ├── Transient        try the same thing again, later
    ├── Poison           this one item can never succeed: dead letter, continue with the next
    └── Broken           stop and inform the operator
        ├── ConfigError        the configuration cannot be used
        ├── JournalInUse       another process holds the journal's folder
        └── JournalDamaged     stored bytes are not what was written

An exception carries its own answer (``status_hint``, ``retry_after_s``, ``retriable``); there is no
second list of exception types elsewhere. What is expected, such as a subscriber answering 500, is a value
and not an exception.
"""

from __future__ import annotations

from typing import Final

#: Exit code of a command that Ctrl-C stopped: what a shell reports for a process that SIGINT ended.
INTERRUPTED: Final = 130


class GatewayError(Exception):
    """Root of all exceptions that this package defines. The message is one sentence for the operator."""

    status_hint: int = 500
    retriable: bool = False
    retry_after_s: float | None = None
    exit_code: int = 1
    #: The raising code has logged the reason, at a limited rate; code that retries need not log it again.
    is_logged: bool = False


def is_logged(exc: BaseException) -> bool:
    """Return whether the code that raised an error has logged it; see :attr:`GatewayError.is_logged`."""
    return isinstance(exc, GatewayError) and exc.is_logged


class SenderError(GatewayError):
    """The request is at fault; the same request will be refused again."""

    status_hint = 400


class CallbackRejected(SenderError):
    """An authentic callback that could not be understood.

    It is answered 400 with the vendor's failure body and kept whole in ``callbacks.rejected``; after a fix,
    ``gateway replay --rejected`` decodes it again.

    Args:
        reason: one sentence, free of payload text.
        field: path of the field at fault in the vendor's own names, such as ``statuses[0].id``; may be empty.
        logged: what a log line says instead of the reason, where the reason may hold a part of the payload.
    """

    def __init__(self, reason: str, field: str = "", *, logged: str | None = None) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.reason = reason
        self.field = field
        self.logged = reason if logged is None else logged


class Unauthenticated(SenderError):
    """The token or the signature is missing or wrong. Check the credential on the vendor's side and in ``auth``."""

    status_hint = 401


class Forbidden(SenderError):
    """The peer's address is not in ``allow_ips``. Behind a proxy, check ``ingest.trusted_proxies`` too."""

    status_hint = 403


class NotNow(GatewayError):
    """Nothing was stored; the same request can succeed later."""

    status_hint = 503
    retriable = True
    retry_after_s = 5.0


class JournalFull(NotNow):
    """The journal holds ``max_bytes`` and none of it may be freed yet. Give it room, or see why nothing drains."""


class JournalUnavailable(NotNow):
    """The disk refused a write. Check free space and the kernel's log; the gateway recovers by itself."""


class Transient(GatewayError):
    """The other side is unavailable or busy; the same operation is retried later."""

    status_hint = 503
    retriable = True


class Poison(GatewayError):
    """One item that can never succeed. It becomes a dead letter, and the next item is processed."""


class Broken(GatewayError):
    """The gateway cannot continue until the operator intervenes."""


class ConfigError(Broken):
    """The configuration cannot be used. ``problems`` holds every problem found, each with its key path."""

    exit_code = 2

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class JournalInUse(Broken):
    """Another process holds the journal's folder. Stop it, or give this one a ``journal.dir`` of its own."""

    exit_code = 3


class JournalDamaged(Broken):
    """Stored bytes are not what was written: a disk or memory fault, or an edit by hand.

    The message names what can still be read. ``gateway journal salvage`` copies that to a new journal.
    """

    exit_code = 4
