"""Do subscribers that cost a processor's time hold up the platform? A part of ``python -m tests.benchmarks peers``.

Two gateways get the same constant rate, in turn: one without subscribers, and one with 20 whose receiver answers 200
with a body in thousands of chunks of one byte. Their deliveries never end, so delivering always has work. Compared is
p99 of the answers to the platform; a request without an answer counts as if it came when the round was over.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import uvloop

from tests.benchmarks import fanout, ingest, latency, report
from tests.benchmarks.machine import Service, running
from tests.ports import free_port

SUBSCRIBERS: Final = 20
#: Of what the gateway without subscribers takes from the same sender: delivering and the receiver need processors too.
SHARE: Final = 0.25
_ANSWER: Final = (
    b"HTTP/1.1 200 OK\r\n"
    + b"".join(b"X-Filling-%d: %d\r\n" % (number, number) for number in range(40))
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + b"1\r\nx\r\n" * 4000
    + b"0\r\n\r\n"
)


class Receiver(fanout.Sinkhole):
    """Answers every request with what is expensive to read."""

    answer = _ANSWER


def run(requests: Path, *, rounds: int, seconds: float, processors: tuple[set[int], set[int]]) -> dict[str, Any]:
    """Return p99 of the answers in ms, without and with the subscribers, and the ratio of the two.

    Args:
        requests: file of what is sent.
        rounds: times that the gateways take turns.
        seconds: of load, each round and gateway.
        processors: of the gateways, and of receiver and load.
    """
    messages = requests.read_bytes().split(b"\0")
    measured, loading = processors
    found: dict[str, list[float]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        receiver = Service(["-m", __name__, str(port)], port, log=folder / "receiver.log", processors=loading)
        gateways = {
            "without": ingest.gateway(folder, "without", processors=measured),
            "with": ingest.gateway(folder, "with", processors=measured, subscribers=_subscribers(port)),
        }
        with running(receiver, *gateways.values()), latency.sending_on(loading):
            capacity = uvloop.run(latency.capacity(gateways["without"].port, messages, seconds))
            for _ in range(rounds):
                for side, gateway in gateways.items():
                    times, _ = uvloop.run(
                        latency.constant(gateway.port, messages, capacity * SHARE, seconds, patience_s=seconds)
                    )
                    found[side].append(latency.percentile_ms(sorted(times), 0.99))
    return {
        "without": {"p99_ms": report.summary(found["without"], 2)},
        "with": {
            "p99_ms": report.summary(found["with"], 2),
            "of_without": report.ratio(found["with"], found["without"]),
        },
    }


def _subscribers(port: int) -> list[dict[str, Any]]:
    return [
        {
            "name": f"hostile-{number}",
            "topics": ["sms.dr"],
            "url": f"http://127.0.0.1:{port}/hook/{number}",
            "allow_private": True,
            "start": "earliest",
            "secrets": [fanout.SECRET],
        }
        for number in range(SUBSCRIBERS)
    ]


async def receive(port: int) -> None:
    """Serve the subscribers."""
    server = await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(receive(int(sys.argv[1])))
