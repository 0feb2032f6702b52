"""Fan-out: every subscriber has a cursor of its own and receives its events, in the order of each key.

One :class:`~gateway.fanout.subscriptions.FanOut` owns one :class:`~gateway.fanout.reader.SubscriberReader` for each
subscriber; they share only the reading of the log, so that a failure of one subscriber does not affect the others::

    main topics ── shared reading ── cursor ─┐                          ┌─ worker ─┐
    retry.60s ─┐                             ├─ schedule (by key, due) ─┼─ worker ─┼─ sink ── subscriber
    retry.…   ─┼─ of all subscribers ── feed ┘        ▲                 └─ worker ─┘    │
    replay    ─┘       │ not attempted                └── waits for retry ◄── decide ◄──┘
                       ▼                                                       │
                   retry.…, again                                  retry.… or dlq.<subscriber>

The files, in the order an event meets them:

===================  =================================================================================
``cursor``           shared reading → filter → schedule, and completions → position → commit
``partition_queue``  outstanding events by partition, the window that limits them, and how they are settled
``retry_topics``     topics of parked and replayed events, for all subscribers: ``retry_feed`` hands their events
                     on, ``retry_moves`` appends again what no position is to wait for
``filters``          CloudEvents filter dialects, compiled once, over ``paths``
``scheduler``        which event may be attempted next: one in flight for a key, in order, at a rate; has the timer
``worker``           tasks that attempt, decide, act; an event is delivered, parked or a dead letter
``flow_control``     number of attempts at once: ``circuit_breaker``, what the subscriber can take, operators
``reader``           one subscriber: its cursor, its workers, its flow control
``webhook``          one attempt as a signed webhook, over ``webhook_client``, which reads ``http_answer``; ``file``
                     is the same for a file; ``transform`` keeps or drops fields; ``ssrf`` refuses internal addresses
``attempt``          the result of an attempt, and why it failed; ``retry`` (pure) decides what happens next
``retry_records``    headers of records in retry topics and of dead letters
``attempt_log``      metrics and log lines of attempts; ``attempts``: the record of them for ``explain``, with what
                     ``exchanges`` keeps of requests and answers
``topic_table``      follows internal topics, for what is kept of them in memory, and writes records by key
``subscriber_state`` state that outlives the process: breaker, paused, stopped, where a subscriber begins
``dead_letters``     which are open; listing and closing them; ``open_dead_letters`` follows how many are
``replay``           delivering again; ``replay_board``: what every process knows of replays
``scan``             reads a range of the log
``sse``              subscribers that fetch: server-sent events
``subscription``     an entry of ``config.yaml`` → a subscription and a sink; ``subscriber_rules``: its problems
===================  =================================================================================

Invariants, each with a property test:

1. Events of one key are never in flight together, and are sent in the order of the log. (The following ones pass
   a *parked* event, unless ``on_failure: block``.)
2. A position is committed only when everything before it was delivered, filtered out, parked or
   dead-lettered, the last two durably.
3. Windows limit everything in memory; events without room in a window stay in the log.
4. While the breaker is open there is one attempt for each probe, and no event of the main topics is copied.
   Parked events are appended again, less often the longer it lasts, because all subscribers share their topics.

Delivery is at least once. After a crash, events that were delivered but not committed are sent again with the
same ``webhook-id``.
"""
