"""Fan-out: every subscriber has a cursor of its own and receives its events, in the order of each key.

One :class:`~gateway.fanout.fanout.FanOut` owns one :class:`~gateway.fanout.reader.SubscriberReader` for each
subscriber; they share only the reading of the log, so that a failure of one subscriber does not affect the others::

    main topics ── shared reading ── cursor ─┐                          ┌─ worker ─┐
    retry.60s ─┐                             ├─ schedule (by key, due) ─┼─ worker ─┼─ sink ── subscriber
    retry.…   ─┼─ of all subscribers ── feed ┘        ▲                 └─ worker ─┘    │
    replay    ─┘       │ not attempted                └── waits for retry ◄── decide ◄──┘
                       ▼                                                       │
                   retry.…, again                                  retry.… or dlq.<subscriber>

The files, in the order an event meets them:

===================  =================================================================================
``cursor``           shared reading → filter → schedule, and completions → watermark → commit
``partition_queue``  outstanding events by partition, the window that limits them, and how they are settled
``retry_topics``     topics of parked and replayed events, for all subscribers: ``retry_feed`` hands their events
                     on, ``retry_moves`` appends again what no position is to wait for
``filters``          CloudEvents filter dialects, compiled once, over ``paths``; ``parsed``: an event parsed once
``schedule``         pure: which event may be attempted now; one in flight for a key, in order
``dispatch``         hands out jobs that the schedule allows; has the timers
``workers``          tasks for attempts, created as needed; a single attempt can be cancelled
``flow_control``     number of attempts at once, from ``breaker``, ``concurrency`` and operators; ``rate``: how fast
``reader``           one subscriber: its cursor, its workers, its flow control
``delivery_worker``  an event: attempt, decide, act; delivered, parked, dead letter
``delivery``         one attempt as a signed webhook; ``filesink`` is the same for a file
``signing``          Standard Webhooks, ``ed25519`` for ``v1a``; ``transform`` keeps or drops fields
``ssrf``             refuses internal addresses; ``tls`` creates contexts
``retry``            pure: result → delivered, retry, give up or stop
``retry_records``    headers of records in retry topics and of dead letters
``watermark``        completions in any order → the offset that may be committed
``topic_table``      follows internal topics, for what is kept of them in memory, and writes records by key
``subscriber_state`` state that outlives the process: breaker, paused, stopped, where a subscriber begins
``attempts``         record of attempts for ``explain``; ``telling``: metrics and log lines
``dead_letters``     which are open; listing and closing them; ``open_dead_letters`` follows how many are
``replay``           delivering again; ``replay_board``: what every process knows of replays
``scan``             reads a range of the log
``stream``           subscribers that fetch: server-sent events
``subscriber_rules`` problems of an entry of ``config.yaml``, for check, start and reload
``planning``         an entry of ``config.yaml`` → a plan and a sink
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
