"""``python -m tests.benchmarks.decoders [callback …]``: events a second of each decoder, on one core.

Each callback gets the first accepted sample with one event, in 500 variations: ids, phone numbers and times
differ, the times within half a minute, as in a burst. Counted is request bytes to event bytes: ``decode`` and
``Event.to_json``. The best of several rounds, in CPU time of the process: the core may be shared.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator

from gateway.callbacks import CALLBACKS, CallbackRequest, DecodeContext
from tests.callbacks.samples import Sample, all_samples

VARIATIONS = 500
ROUNDS = 40
WANTED = 30_000
WANTED_OF = {"sms-dr": 60_000}

#: Samples that show the usual case best, where the first one does not.
USUAL = {
    "sms-dr": "escaped",
    "whatsapp": "text",
    "nxlink-call": "answered",
    "voice-dr": "broadcast-body",
    "pns": "newer-call",
    "did-sms": "incoming",
    "predictive-dial": "answered",
    "ai-agent-task": "completed",
    "callbot-call": "answered",
    "callbot-task": "completed",
    "messenger": "reply-text",
    "number-check": "live",
    "ota": "success",
    "zalo": "sent",
}
MORE = (
    ("sms-dr", "delivered"),
    ("sms-dr", "query-blank"),
    ("whatsapp", "status-delivered"),
    ("did-sms", "signed-incoming"),
)

_CLOCK = re.compile(rb"(2024-01-02(?: |\+|%20|T)\d\d(?::|%3A)\d\d(?::|%3A))\d\d")
_UNIX = re.compile(rb"\b(17350000)\d\d")
_PHONE = re.compile(rb"(15550100)\d\d\d")
_ID = re.compile(rb"([0-9a-f]{24}|-0000-4000-8000-0123)[0-9a-f]{8}\b")


def variations(request: CallbackRequest) -> Iterator[CallbackRequest]:
    """The request with other ids, numbers and seconds."""
    for number in range(VARIATIONS):
        yield request._replace(body=varied(request.body, number), query=varied(request.query, number))


def varied(data: bytes, number: int) -> bytes:
    """These bytes with the number worked into ids, phone numbers and times; their length stays."""
    second = b"%02d" % (number % 30)
    data = _CLOCK.sub(lambda found: found[1] + second, data)
    data = _UNIX.sub(lambda found: found[1] + second, data)
    data = _PHONE.sub(lambda found: found[1] + b"%03d" % number, data)
    return _ID.sub(lambda found: found[1] + b"%08d" % (number * 7919), data)


def play(sample: Sample) -> Callable[[], None]:
    """One round: every variation, to the bytes of its events."""
    decode = CALLBACKS[sample.callback].decode
    requests = list(variations(sample.request))
    context = DecodeContext()

    def run() -> None:
        for request in requests:
            for event in decode(request, context).events:
                event.to_json()

    return run


def best_rates(samples: list[Sample]) -> list[float]:
    """Events per second of CPU time, by each sample's best round; the rounds take turns, so all meet the same noise."""
    plays = [play(sample) for sample in samples]
    best = [float("inf")] * len(plays)
    for _ in range(ROUNDS):
        for index, run in enumerate(plays):
            begin = time.process_time()
            run()
            best[index] = min(best[index], time.process_time() - begin)
    return [VARIATIONS / seconds for seconds in best]


def chosen(names: list[str]) -> Iterator[Sample]:
    """The samples to measure."""
    samples = {
        (sample.callback, sample.case): sample
        for sample in all_samples()
        if len(sample.expected.get("events", ())) == 1 and not sample.expected.get("drift")
    }
    for name in CALLBACKS:
        if not names or name in names:
            cases = [case for callback, case in samples if callback == name]
            yield samples[name, USUAL.get(name, cases[0])]
            yield from (samples[name, case] for callback, case in MORE if callback == name)


def main() -> int:
    """Print the table; exit non-zero when a decoder is slower than wanted."""
    slow = 0
    print(f"{'callback':<16}{'sample':<26}{'bytes':>6}{'us/event':>10}{'events/s':>10}{'wanted':>9}")
    samples = list(chosen(sys.argv[1:]))
    for sample, rate in zip(samples, best_rates(samples), strict=True):
        wanted = WANTED_OF.get(sample.callback, WANTED)
        slow += rate < wanted
        size = len(sample.request.body) + len(sample.request.query)
        mark = "" if rate >= wanted else "  too slow"
        print(f"{sample.callback:<16}{sample.case:<26}{size:>6}{1e6 / rate:>10.1f}{rate:>10,.0f}{wanted:>9,}{mark}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
