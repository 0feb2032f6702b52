"""The loss proof: what was answered with success arrives, whatever breaks.

    python -m tests.lossproof                          # every scenario once, some minutes
    python -m tests.lossproof --scenario kill --minutes 10 --seed 7 --json proof.json
    python -m tests.lossproof --record --kills 100 --jobs 2 --seed 2026     # an hour: all of it, as the README tells

One *scenario* is one kind of fault, repeated in cycles while load goes on, in one *mode* (``embedded``: ``gateway run``
with its own log; ``kafka``: ``gateway run`` with a broker; ``split``: ``serve`` and ``fanout`` as processes of their
own). The gateway is the program that users start, as its own processes, unchanged. The parts, in the order of a run:

===============  =========================================================================================
``callbacks``    request number n → its bytes and what must come of it; nothing but n and the seed decides
``history``      what was sent and what was answered, in a file that is written before and fsynced
``load``         clients that send, and write the history
``receiver``     real subscribers, well-behaved or as bad as they come
``process``      the gateway's processes; ``hooks`` end one at a chosen point, or break it on purpose
``shim``         a disk that fails and a clock that jumps, between the process and its C library
``damage``       torn and flipped bytes in the journal's files while nothing runs
``proxy``        the network between gateway and broker: cut, slow
``world``        all of it for one scenario, and what every scenario ends with
``scenarios``    the faults
``plan``         which of them a run plays, and which it must have made at its end
``stored``       what stands in the journal, or in the topics
``checker``      the proof: history against log against subscribers
``witness``      what was ever in the topics, also what an operator deleted since
``damaged``      which events the journal itself named as damaged, where a bit was flipped: those alone may be missing
``destroyed``    which events went with journal files that the test removed: those alone may be missing
``gaps``         which records of Kafka went before they were read, and were named: those alone may be missing
``report``       the table and the JSON
``recorded``     the run that the documents tell of
===============  =========================================================================================

What is proven of each scenario, from the history file, the log's files and the subscribers' own records:

1. every callback that was answered 200 (or 400 and kept as ``callbacks.rejected``) is in the log at least once and was
   delivered at least once to every subscriber whose topics and filter match;
2. nothing is in the log or at a subscriber that was not sent, and nothing at one that it did not ask for;
3. of two events of one key, where the first was answered before the second was sent, the first appears first;
4. an event has the same id and the same bytes wherever and whenever it appears;
5. repeats are counted. Delivery is at least once: they are no breach;
6. where the test destroyed what the gateway holds, the gateway named it: what is missing beyond that is lost, and what
   it named and still has is a breach.

A seed decides every draw of a scenario: which process, which fault, after how many callbacks. What the machine makes
of it (which instruction a kill hits) differs from run to run, which is why cycles are repeated. Every fault that was
really made is counted, and a scenario that is played whole is a failure when one of its faults was not made.

The proof can fail: ``--break`` starts a gateway that answers before the commit, moves a cursor before the
acknowledgement, commits ahead of completion, does not compare its files, does not name a gap, does not see that a topic
is a new one, or begins a subscriber when Kafka answers; and the checker must report it. Tests see to that.
"""
