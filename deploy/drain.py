"""Wait until Kafka has acknowledged everything in the journal of the gateway that runs on this host.

Two uses. Before a pod goes (``preStop``), so that its volume can be forgotten::

    python drain.py --settle 5 --timeout 60

And to empty a journal that nobody runs any more: start the gateway on it, wait, stop it again::

    python drain.py --timeout 3600 -- gateway serve

Asks ``/metrics`` of the admin port on loopback for ``gateway_publisher_lag_records`` of all topics and
``gateway_kafka_up``. A gauge that nobody has set yet reads 0, so drained means: Kafka up and lag 0, at several looks in
a row. A topic that cannot be written (``gateway_publisher_topic_up``) is named. While the log process is down
(``gateway_process_up``) the lag is that of before, so that looks at such a time do not count. The port and the token
come from ``GATEWAY__ADMIN__PORT``, ``GATEWAY__ADMIN__TOKEN`` or ``ADMIN_TOKEN``, as the gateway's own.

Nothing but the standard library, as it runs in the image. Ends with 0 when drained, 1 when not in time, 2 when the
gateway that it started ended by itself.
"""

# ruff: noqa: T201  # a command: it speaks to its terminal

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request

#: Looks in a row that must agree, a second apart: longer than the publisher's own pause between measurements.
LOOKS = 4
LOOK_S = 1.0
#: From SIGTERM to SIGKILL; the gateway ends within 28 s.
STOP_S = 35.0


def samples(text: str, name: str, labels: str = "") -> list[float]:
    """A metric's samples in Prometheus' text format: one for each process that reports it."""
    found = re.findall(rf"^{name}(?:\{{([^}}]*)\}})? (\S+)$", text, re.MULTILINE)
    return [float(value) for shown, value in found if labels in shown]


def stuck(text: str) -> list[str]:
    """Topics that cannot be written."""
    found = re.findall(r'^gateway_publisher_topic_up\{[^}]*topic="([^"]*)"[^}]*\} 0(?:\.0)?$', text, re.MULTILINE)
    return sorted(set(found))


def look(url: str, token: str) -> tuple[bool, str]:
    """Whether the journal is drained, and a sentence."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310
            text = response.read().decode()
    except OSError as exc:
        return False, f"{url}: {exc}"
    if not all(samples(text, "gateway_process_up", 'process="log"')):
        return False, "the log process is down"
    lags = samples(text, "gateway_publisher_lag_records")
    up = samples(text, "gateway_kafka_up", 'client="publisher"')
    if not lags or not up:
        return False, "the gateway reports no gateway_publisher_lag_records: it has no kafka section"
    if topics := stuck(text):
        return False, f"{', '.join(topics)} cannot be written, /readyz says why; {sum(lags):.0f} records wait"
    if not all(up):
        return False, f"Kafka is unavailable; {sum(lags):.0f} records wait"
    return not any(lags), f"{sum(lags):.0f} records wait"


def wait(url: str, token: str, timeout_s: float, child: subprocess.Popen[bytes] | None) -> int:
    """Look until it is drained, the time is over, or the gateway we started has ended."""
    end = time.monotonic() + timeout_s
    agreed = 0
    said = ""
    while True:
        is_drained, sentence = look(url, token)
        if sentence != said:
            print(f"drain: {sentence}", flush=True)
            said = sentence
        agreed = agreed + 1 if is_drained else 0
        if agreed == LOOKS:
            return 0
        if child is not None and child.poll() is not None:
            print(f"drain: the gateway ended by itself with {child.returncode}", file=sys.stderr)
            return 2
        if time.monotonic() >= end:
            print(f"drain: not done in {timeout_s:g} s; others stay in the journal. {sentence}", file=sys.stderr)
            return 1
        time.sleep(LOOK_S)


def stop(child: subprocess.Popen[bytes]) -> None:
    """End what we started, as an orchestrator would."""
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def main() -> int:
    """The command."""
    environ = os.environ
    port = int(environ.get("GATEWAY__ADMIN__PORT", "8081"))
    parser = argparse.ArgumentParser(description="Wait until Kafka has everything that is in the journal.")
    parser.add_argument("--port", type=int, default=port, help="admin port; default: %(default)d")
    parser.add_argument("--settle", type=float, default=0.0, help="seconds to wait first, for requests on their way")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds; default: %(default)g")
    parser.add_argument("command", nargs="*", help="after --: a gateway to start, then to stop")
    given = parser.parse_args()
    token = environ.get("GATEWAY__ADMIN__TOKEN") or environ.get("ADMIN_TOKEN", "")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what we started is ended, too
    time.sleep(given.settle)
    url = f"http://127.0.0.1:{given.port}/metrics"
    child = subprocess.Popen(given.command) if given.command else None  # noqa: S603
    try:
        return wait(url, token, given.timeout, child)
    finally:
        if child is not None and child.poll() is None:
            stop(child)


if __name__ == "__main__":
    sys.exit(main())
