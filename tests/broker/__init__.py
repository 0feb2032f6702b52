"""A real Apache Kafka for tests and for people, assembled from Maven Central.

    python -m tests.broker start            # one node, prints its bootstrap address
    python -m tests.broker start --nodes 3  # a cluster that survives one death
    python -m tests.broker start --secure   # TLS, SASL and an authorizer beside the plain listener
    python -m tests.broker stop

Needs Java 17 and Maven. The libraries are fetched once (about 45 MB) into the user's cache folder; a node is up in
two to three seconds. Groups, rebalances, idempotence, broker death and replication are what our tests are
about, and stand-ins differ exactly there.
"""
