"""aiokafka's errors, said once in our words.

aiokafka raises about a hundred classes; what matters to us is only what to do next. Everything here is
tried again: an outage ends, an operator grants a right or creates a topic, and the gateway goes on by itself.
"""

from __future__ import annotations

import re

from aiokafka import errors

from gateway.errors import NotNow, Transient
from gateway.log.kafka.quiet import QUIET

#: What the client may raise while Kafka is away: its own errors, the network's, a deadline of ours, and two
#: assertions of aiokafka 0.14 about metadata that vanished under it ("Unrecognized partition").
CLIENT_ERRORS = (errors.KafkaError, OSError, TimeoutError, AssertionError, AttributeError)

#: The broker will not take the batch for its size. For one record alone that is final.
TOO_LARGE = (
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
)

_REFUSED = (
    errors.TopicAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
)


#: aiokafka puts number and name of the error before each text.
_OWN_NAME = re.compile(r"^(\[Error \d+\] )?\w+Error: ")


class KafkaAway(Transient):
    """Kafka cannot be reached, or refuses us; the same thing is tried again later."""


class KafkaNotNow(NotNow):
    """Kafka did not confirm in time. Nothing is known to be stored; a repeat may store twice."""


def reason(exc: BaseException) -> str:
    """One sentence for the log and the console, without addresses of memory or stack traces."""
    text = " ".join(str(exc).split())
    if isinstance(exc, errors.KafkaConnectionError) and QUIET.last_warning:
        return QUIET.last_warning  # which address, and why: aiokafka logs it and raises "unable to bootstrap"
    name = type(exc).__name__.removesuffix("Error")
    text = _OWN_NAME.sub("", text)
    if isinstance(exc, _REFUSED):
        return f"not authorised: {text or name}; grant the right in Kafka's ACLs"
    if isinstance(exc, errors.UnknownTopicOrPartitionError):
        return "the topic does not exist; create it, or set kafka.create_topics"
    if isinstance(exc, errors.AuthenticationFailedError):
        return f"authentication failed: {text}; check kafka.security"
    if isinstance(exc, TimeoutError) or not text:
        return f"no answer in time ({name})" if isinstance(exc, TimeoutError) else name
    return f"{name}: {text}"


def away(exc: BaseException, doing: str) -> KafkaAway:
    """The error to raise from ``exc`` when the log cannot be read or asked."""
    return KafkaAway(f"{doing}: {reason(exc)}")
