"""Problems of Kafka's clients: a small vocabulary, each word with advice for an operator.

aiokafka raises about a hundred classes and hides some of them (a changed password is a line in its log, and then
"Unable to bootstrap"), and the gateway only needs to know what to do next. :func:`problem_of` finds the word: from the
exception, from its causes, and from the last failure of its own client (:mod:`gateway.log.kafka.health`). So
no client reports the failure of another one.

Every operation is tried again: an outage ends, an operator grants a right or creates a topic, and the gateway continues
without a restart.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from aiokafka import errors

from gateway.errors import NotNow, Transient

AUTHENTICATION: Final = "authentication"
AUTHORISATION: Final = "authorisation"
AWAY: Final = "away"
NOT_ENOUGH_REPLICAS: Final = "not_enough_replicas"
REFUSED: Final = "refused"
CODEC: Final = "codec"
UNREADABLE: Final = "unreadable"
UNKNOWN_TOPIC: Final = "unknown_topic"
THROTTLED: Final = "throttled"
GROUP_IN_USE: Final = "group_in_use"
INSTANCE_IN_USE: Final = "instance_in_use"

#: Word → advice, the most important first.
WORDS: Final[Mapping[str, str]] = {
    AUTHENTICATION: "check kafka.security: mechanism, user name, password or token, certificates; then restart",
    AUTHORISATION: "grant the right in Kafka's ACLs; the gateway then continues without a restart",
    INSTANCE_IN_USE: "give each fan-out process its own kafka.instance_id, and keep it over restarts; this process "
    "reads nothing until the other process has stopped",
    GROUP_IN_USE: "stop its members (kafka-consumer-groups.sh --describe --members lists them); the gateway then "
    "continues from the group's positions",
    AWAY: "check the brokers, kafka.bootstrap_servers and the network; the gateway connects again by itself",
    NOT_ENOUGH_REPLICAS: "start the brokers that are missing; or lower the topic's min.insync.replicas, or "
    "kafka.replication_factor",
    REFUSED: "compare the reason with the brokers' settings and policies, and with kafka.topic_config",
    CODEC: "install the package cramjam in the environment of the gateway, and restart it",
    UNREADABLE: "restore the partition from another replica; or skip the batch: stop the processes of fan-out, and "
    "move the offset of each of the gateway's groups past it with kafka-consumer-groups.sh --reset-offsets --to-offset",
    UNKNOWN_TOPIC: "create the topic, set kafka.create_topics, or correct the name",
    THROTTLED: "nothing is lost; raise the quota of the gateway's user or client id with kafka-configs.sh, or wait",
}

#: Errors that the client may raise while Kafka is unavailable: its own, those of the network, the gateway's time-outs,
#: and two assertions of aiokafka 0.14 about metadata that vanished meanwhile ("Unrecognized partition").
CLIENT_ERRORS: Final = (errors.KafkaError, OSError, TimeoutError, AssertionError, AttributeError)

#: aiokafka 0.14 raises the first if broker and client support no common version of a request (``Request.prepare``), the
#: second if the broker does not know the request.
TOO_OLD: Final = (NotImplementedError, errors.IncompatibleBrokerVersion)

#: The broker refuses the batch because of its size. For a single record that is final.
TOO_LARGE: Final = (
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
)


class NoToken(OSError):
    """The token endpoint is unavailable or refuses. aiokafka treats it as a failed connection, and tries again."""


_MEANINGS: Final[Mapping[str, tuple[type[BaseException], ...]]] = {
    AUTHENTICATION: (
        errors.AuthenticationFailedError,
        errors.AuthenticationMethodNotSupported,
        errors.SaslAuthenticationFailed,
        errors.UnsupportedSaslMechanismError,
        errors.IllegalSaslStateError,
        ssl.SSLError,
        NoToken,
    ),
    AUTHORISATION: (
        errors.TopicAuthorizationFailedError,
        errors.GroupAuthorizationFailedError,
        errors.ClusterAuthorizationFailedError,
        errors.TransactionalIdAuthorizationFailed,
    ),
    NOT_ENOUGH_REPLICAS: (
        errors.NotEnoughReplicasError,
        errors.NotEnoughReplicasAfterAppendError,
        errors.InvalidReplicationFactorError,
    ),
    UNKNOWN_TOPIC: (errors.UnknownTopicOrPartitionError,),
    CODEC: (errors.UnsupportedCodecError,),
    UNREADABLE: (errors.CorruptRecordException,),
    THROTTLED: (errors.QuotaViolationError,),
    REFUSED: (
        *TOO_LARGE,
        errors.InvalidTopicError,
        errors.InvalidPartitionsError,
        errors.InvalidReplicationAssignmentError,
        errors.InvalidConfigurationError,
        errors.InvalidRequestError,
        errors.PolicyViolationError,
        errors.SecurityDisabled,
        errors.UnknownError,
    ),
}
#: aiokafka puts number and name of the error before each text.
OWN_NAME: Final = re.compile(r"^(\[Error \d+\] )?\w+(Error|Exception|Failed): |^\[Error \d+\] \w+$")
#: Texts of errors that have a number and no text.
_TEXTS: Final[Mapping[type[BaseException], str]] = {
    errors.UnknownTopicOrPartitionError: "the topic does not exist",
    errors.TopicAuthorizationFailedError: "the user lacks a right on the topic",
    errors.GroupAuthorizationFailedError: "the user lacks a right on the consumer group",
    errors.NotEnoughReplicasError: "fewer replicas are in sync than the topic's min.insync.replicas",
    errors.NotEnoughReplicasAfterAppendError: "fewer replicas are in sync than the topic's min.insync.replicas",
    errors.UnknownError: "a broker answers with an error of its own, or with one that this version does not know",
    errors.GroupCoordinatorNotAvailableError: "the coordinator of the consumer group is not available",
}
#: At most so many exceptions of a chain are examined.
_MOST_CAUSES: Final = 5


class Problem(NamedTuple):
    """A problem of one client or topic.

    Args:
        word: one of :data:`WORDS`.
        text: what happened, free of secrets; no sentence of advice.
    """

    word: str
    text: str

    @property
    def advice(self) -> str:
        """Advice for the operator."""
        return WORDS[self.word]

    def __str__(self) -> str:
        """Return text for the operator: the word, what happened, what to do."""
        return f"{self.word}: {self.text}; {self.advice}"


class KafkaAway(Transient):
    """Kafka is unavailable or refuses; the same operation is tried again later.

    A reader or writer that raises it has reported the problem (:mod:`gateway.log.kafka.health`), in a limited
    number of lines: the handler need not log it again.
    """

    is_logged = True

    def __init__(self, text: str, problem: Problem | None = None) -> None:
        super().__init__(text)
        self.problem = problem or Problem(AWAY, text)


class KafkaNotNow(NotNow):
    """Kafka did not confirm in time. Nothing is known to be stored; a repeat may store twice."""

    def __init__(self, text: str, *, is_logged: bool = False) -> None:
        super().__init__(text)
        self.is_logged = is_logged


def first_word(words: Iterable[str]) -> str:
    """Return the most important word; empty without words."""
    return min(words, key=list(WORDS).index, default="")


def problem_of(exc: BaseException, client: Any = None) -> Problem:
    """Return the problem that an exception shows.

    Args:
        exc: raised by aiokafka, the network or a time-out of the gateway.
        client: the aiokafka client that was used. If the exception is only a time-out, the problem is the reason why
            this client could not connect.
    """
    if isinstance(exc, KafkaAway):
        return exc.problem
    for one in _chain(exc):
        for word, classes in _MEANINGS.items():
            if isinstance(one, classes):
                return Problem(word, _text(one))
    failure = client.health.failure if client is not None else None
    return failure if failure is not None else Problem(AWAY, _text(exc))


def away(exc: BaseException, doing: str, client: Any = None) -> KafkaAway:
    """Return the error to raise when a request to Kafka fails."""
    problem = problem_of(exc, client)
    return KafkaAway(f"{doing}: {problem}", problem)


def connection_problem(address: str, exc: BaseException) -> Problem:
    """Return the problem of a failed connection."""
    word, text = problem_of(exc)
    return Problem(word, text if address in text else f"{address}: {text}")


def _chain(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes."""
    current: BaseException | None = exc
    for _ in range(_MOST_CAUSES):
        if current is None:
            return
        yield current
        current = current.__cause__


def _text(exc: BaseException) -> str:
    """Return one phrase for the log and the console, without memory addresses or stack traces."""
    name = type(exc).__name__.removesuffix("Error")
    text = OWN_NAME.sub("", " ".join(str(exc).split()))
    if isinstance(exc, ssl.SSLError | NoToken):
        return text or name
    if isinstance(exc, OSError) and exc.errno and exc.errno > 0:
        return os.strerror(exc.errno).lower()
    if isinstance(exc, TimeoutError):
        return text or "no answer in time"
    return f"{name}: {text}" if text else _TEXTS.get(type(exc), name)
