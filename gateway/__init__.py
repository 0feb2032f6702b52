"""A gateway between the NXCloud telecom platform and a company's own systems.

The way of the data, in the order of the packages:

    request → callbacks → Event → log (journal) → publisher → Kafka topic → fanout → subscriber
"""

from typing import Final

__version__ = "0.1.0"

#: The nouns of the code, the metrics and the documents. Each has one meaning, and a module where it is defined.
GLOSSARY: Final = {
    "callback": "A request by which the platform, or another sender, reports something. ``gateway.callbacks``",
    "sender": "A system that sends callbacks: the platform, or one that the configuration names. ``gateway.callbacks``",
    "credentials": "What a sender must prove: a token, an address, a signature. ``gateway.callbacks.credentials``",
    "signature": "A hash over a request or a delivery by a shared secret or a key. ``gateway.signing``",
    "event": "What one item of a callback reports, as a CloudEvent in JSON. ``gateway.event``",
    "rejected event": "A callback that could not be decoded, stored whole. ``gateway.callbacks.rejected``",
    "drift": "A field or layout that the tables of a callback do not have. ``gateway.callbacks.callback``",
    "topic": "The name under which events of one kind are stored, published and subscribed to. ``gateway.log``",
    "key": "The text by which events are kept in order, such as a message id. ``gateway.log``",
    "record": "An event in a log, with its partition and offset. ``gateway.log``",
    "partition": "A part of a log in which records have an order. ``gateway.log``",
    "offset": "The number of a record in its partition. ``gateway.log``",
    "gap": "Records that are missing in what is read, with the reason. ``gateway.log``",
    "log": "The durable store of events that is read in order: journal or Kafka. ``gateway.log``",
    "journal": "The log on the disk of this machine, a SQLite database. ``gateway.log.journal``",
    "commit": "A transaction of the journal, which stores all that waits. ``gateway.log.journal.writer``",
    "retention": "How long, and up to which size, the journal keeps records. ``gateway.log.journal.retention``",
    "publisher": "The component that copies records of the journal to Kafka. ``gateway.publisher``",
    "cursor": "A reader's way through a log, with the position that is stored for it. ``gateway.log.cursor``",
    "position": "The offset from which a cursor continues after a restart. ``gateway.log``",
    "lag": "Records that a cursor has not finished yet. ``gateway.admin.subscriber_states``",
    "subscriber": "A receiver of events that the configuration names. ``gateway.config.settings``",
    "filter": "The condition that an event must meet for a subscriber. ``gateway.fanout.filters``",
    "delivery": "An event on its way to one subscriber, with all its attempts. ``gateway.fanout.job``",
    "attempt": "One try to hand an event to a subscriber, and its result. ``gateway.fanout.attempt``",
    "retry": "A later attempt after one that failed. ``gateway.fanout.retry``",
    "breaker": "What stops attempts at a subscriber that is down, and probes it. ``gateway.fanout.circuit_breaker``",
    "dead letter": "An event whose attempts are used up, stored with the reason. ``gateway.fanout``",
    "replay": "The repeated delivery of events that an operator selects. ``gateway.fanout.replay``",
    "process": "A child of the supervisor: ingest, log or deliver. ``gateway.processes``",
    "supervisor": "The parent, which starts the processes of a machine again. ``gateway.supervisor``",
    "link": "The socket by which other processes reach the log process. ``gateway.link``",
}
