"""Fan-out: every subscriber has a cursor of its own and gets its events, in order per key.

One :class:`~gateway.fanout.fanout.FanOut` owns one shared reading of the log, and one
:class:`~gateway.fanout.reader.SubscriberReader` for each subscriber; one subscriber's trouble stays its own::

                          ┌─ cursor ─┐
    main topics ── shared ┼─ cursor ─┼─┐                            ┌─ worker ─┐
                   reading└─ cursor ─┘ ├─ schedule (by key, by due) ┼─ worker ─┼─ sink ── subscriber
    retry.60s, retry.…, replay ────────┘          ▲                 └─ worker ─┘    │
              │                                   └── waits for retry ◄── decide ◄──┘
           watermark ──► commit                                              │
                                                  retry.<delay> or dlq.<subscriber>

The files, in the order an event meets them:

===================  =================================================================================
``cursor``           shared reading → filter → schedule, and completions → watermark → commit
``partition_queue``  what is taken in of one partition, and the window that bounds it
``retry_topics``     the same for parked events, in topics that all subscribers share (``retry_*``)
``filters``          CloudEvents filter dialects, compiled once, over ``paths``; ``parsed``: an event parsed once
``schedule``         pure: which event may be attempted now; one in flight for a key, in order
``dispatch``         gives out what the schedule allows; holds the timers
``workers``          the tasks that attempt, made as needed; an attempt can be cancelled by itself
``gate``             how many at once: what ``breaker``, ``concurrency`` and people say; ``rate``: how fast
``reader``           one subscriber: its cursor, its workers, and what they decide
``delivery``         one attempt as a signed webhook; ``filesink`` is the same for a file
``signing``          Standard Webhooks, ``ed25519`` for ``v1a``; ``transform`` keeps or drops fields
``guard``            refuses addresses inside; ``tls`` makes contexts
``retry``            pure: result → delivered, retry, give up or stop
``parking``          what travels in headers to the retry tiers and to the dead letters
``watermark``        completions in any order → the offset that may be committed
``state``            what must outlive the process: breaker, paused, stopped
``attempts``         what ``explain`` tells of each attempt; ``telling``: metrics and log lines
``replay``           delivering again, looking at dead letters; ``scan`` reads a stretch of the log
``stream``           subscribers that fetch: server-sent events
``planning``         an entry of ``config.yaml`` → a plan and a sink, or what is wrong with it
===================  =================================================================================

Invariants, each with a property test:

1. Events of one key are never in flight together, and go out in the order of the log. (After a *parked*
   event the following ones pass it, unless ``on_failure: block``.)
2. A position is committed only when everything before it was delivered, filtered out, parked or
   dead-lettered, the last two durably.
3. Everything in memory is bounded by the cursor's window; when it is full the cursor takes no more and is left
   behind: the log is the buffer.
4. While the breaker is open there is one attempt for each probe, and nothing is copied anywhere.

Delivery is at least once. After a crash, what was delivered but not yet committed goes out again with the
same ``webhook-id``.
"""
