"""Fan-out: every subscriber has a cursor of its own and gets its events, in order per key.

One :class:`~gateway.fanout.fanout.FanOut` owns one :class:`~gateway.fanout.reader.SubscriberReader` for each
subscriber; they share the reading of the log and nothing else, so that one subscriber's trouble stays its own::

    main topics ── shared reading ── cursor ─┐                          ┌─ worker ─┐
    retry.60s ─┐                             ├─ schedule (by key, due) ─┼─ worker ─┼─ sink ── subscriber
    retry.…   ─┼─ of all subscribers ── feed ┘        ▲                 └─ worker ─┘    │
    replay    ─┘       │ not attempted                └── waits for retry ◄── decide ◄──┘
                       ▼                                                       │
                   retry.…, again                                  retry.… or dlq.<subscriber>

The files, in the order an event meets them:

===================  =================================================================================
``cursor``           shared reading → filter → schedule, and completions → watermark → commit
``partition_queue``  what is taken in of one partition, and the window that bounds it
``retry_topics``     the topics of what was parked or is replayed, for all subscribers: ``retry_feed`` hands their
                     events on, ``retry_moves`` (pure) says what is appended again, ``retry_ahead`` who waits behind
``retry_takeover``   what is left in retry topics of the layout before
``filters``          CloudEvents filter dialects, compiled once, over ``paths``; ``parsed``: an event parsed once
``schedule``         pure: which event may be attempted now; one in flight for a key, in order
``dispatch``         gives out what the schedule allows; holds the timers
``workers``          the tasks that attempt, made as needed; an attempt can be cancelled by itself
``flow_control``     how many at once: what ``breaker``, ``concurrency`` and people say; ``rate``: how fast
``reader``           one subscriber: its cursor, its workers, its flow control
``delivery_worker``  an event: attempt, decide, act; delivered, parked, dead letter
``delivery``         one attempt as a signed webhook; ``filesink`` is the same for a file
``signing``          Standard Webhooks, ``ed25519`` for ``v1a``; ``transform`` keeps or drops fields
``ssrf``             refuses addresses inside; ``tls`` makes contexts
``retry``            pure: result → delivered, retry, give up or stop
``retry_records``    what travels in headers to the retry topics and to the dead letters
``watermark``        completions in any order → the offset that may be committed
``state``            what must outlive the process: breaker, paused, stopped
``attempts``         what ``explain`` tells of each attempt; ``telling``: metrics and log lines
``replay``           delivering again, looking at dead letters; ``scan`` reads a stretch of the log
``stream``           subscribers that fetch: server-sent events
``subscriber_rules`` what is wrong with an entry of ``config.yaml``, for check, start and reload alike
``planning``         an entry of ``config.yaml`` → a plan and a sink
===================  =================================================================================

Invariants, each with a property test:

1. Events of one key are never in flight together, and go out in the order of the log. (After a *parked*
   event the following ones pass it, unless ``on_failure: block``.)
2. A position is committed only when everything before it was delivered, filtered out, parked or
   dead-lettered, the last two durably.
3. Everything in memory is bounded by windows; what a window has no room for stays in the log.
4. While the breaker is open there is one attempt for each probe, and nothing of the main topics is copied anywhere.
   Parked events are appended again, the less often the longer it lasts, as their topics are everybody's.

Delivery is at least once. After a crash, what was delivered but not yet committed goes out again with the
same ``webhook-id``.
"""
