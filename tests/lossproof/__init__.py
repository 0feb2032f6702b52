"""The loss proof: what was answered with success arrives, whatever breaks.

    python -m tests.lossproof --short                  # two minutes without Kafka: try-to-lose-an-event.md
    python -m tests.lossproof                          # every scenario once, some minutes
    python -m tests.lossproof --scenario kill --minutes 10 --seed 7 --json proof.json
    python -m tests.lossproof --record --kills 100 --jobs 2 --seed 2026     # an hour: all of it, as guarantees.md shows

One *scenario* is one kind of fault, repeated in cycles while load goes on, in one *mode* (``embedded``: ``gateway run``
with its own log; ``kafka``: ``gateway run`` with a broker; ``split``: ``gateway serve`` and ``gateway fanout``). The
gateway is the program that users start, unchanged: a supervisor over processes of three kinds, ``log``, ``deliver`` and
two of ``ingest``. Each kind is killed, stopped, asked to end and made to end at chosen points by itself, and the
supervisor has to start it again; the supervisor is killed alone, and with all its children. The parts, in the order of
a run:

===============  =========================================================================================
``callbacks``    request number n → its bytes and what must come of it; nothing but n and the seed decides
``history``      what was sent and what was answered, in a file that is written before and fsynced
``load``         clients that send, and write the history
``receiver``     real subscribers, well-behaved or as bad as they come
``process``      a supervisor and its children; ``hooks`` end one at a chosen point, or break it on purpose
``shim``         a disk that fails and a clock that jumps, between the process and its C library
``damage``       torn and flipped bytes in the journal's files while nothing runs
``proxy``        the network between gateway and broker: cut, slow
``roles``        who takes part: processes by mode, and subscribers
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
5. repeats are counted. Delivery is at least once: they are no breach. In the journal each event is once, also when
   the log process died after the commit and before its acknowledgement, and got the same again. Where a disk fails, a
   commit that failed may be there all the same: the sender's next attempt is stored once more;
6. where the test destroyed what the gateway holds, the gateway named it: what is missing beyond that is lost, and what
   it named and still has is a breach;
7. no process ends but those that the test ended. A log process that is back soon costs no callback: what waited for it
   is answered with success.

A seed decides every draw of a scenario: which process, which fault, after how many callbacks. What the machine makes
of it (which instruction a kill hits) differs from run to run, which is why cycles are repeated. Every fault that was
really made is counted, and a scenario that is played whole is a failure when one of its faults was not made.

The proof can fail: ``--break`` starts a gateway that acknowledges before the commit, drops what waits for a new log
process or takes it for stored, forgets which events are stored, moves a cursor before the acknowledgement, commits
ahead of completion, does not compare its files, does not name a gap, does not see that a topic is a new one, or begins
a subscriber when Kafka answers; and the checker must report it. Tests see to that.
"""
