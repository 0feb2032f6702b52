"""The script that lets a pod go only when its journal is in Kafka."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterator

import pytest

from deploy import drain
from tests.deploy.metrics_server import MetricsServer
from tests.rows import rows


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(drain, "LOOK_S", 0.01)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def page(lag: float, up: float = 1.0) -> str:
    """What /metrics says, with lines around it that must not be mistaken for it."""
    return (
        "# TYPE gateway_publisher_lag_records gauge\n"
        'gateway_publisher_lag_records{topic="call.event"} 0.0\n'
        f'gateway_publisher_lag_records{{topic="sms.dr"}} {lag}\n'
        'gateway_publisher_topic_up{topic="sms.dr"} 1.0\n'
        f'gateway_kafka_up{{client="publisher"}} {up}\n'
        'gateway_kafka_up{client="gateway.billing"} 0.0\n'
        "gateway_publisher_lag_records_created 1.7e9\n"
    )


def in_turn(*pages: str) -> Callable[[], str]:
    """One after the other; the last again and again."""
    left = itertools.chain(pages, itertools.repeat(pages[-1]))
    return lambda: next(left)


def wait(pages: Callable[[], str], timeout_s: float, token: str = "") -> int:
    with MetricsServer({"/metrics": pages}, token) as server:
        return drain.wait(f"http://127.0.0.1:{server.port}/metrics", token, timeout_s, None)


def test_done_when_kafka_has_everything() -> None:
    """Lag goes down to 0 and stays there."""
    assert 0 == wait(in_turn(page(500), page(0), page(3), page(0)), 10, token="t")


def test_lag_that_nobody_measured_yet_is_not_done() -> None:
    """A gauge reads 0 before the first measurement; with Kafka away that means nothing."""
    assert 1 == wait(in_turn(page(0, up=0)), 0.2)


def test_not_done_in_time_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """The pod goes all the same; the person who reads its events learns why."""
    assert 1 == wait(in_turn(page(7)), 0.2)
    assert "7 records wait" in capsys.readouterr().err


@rows(
    ("lag", "kafka", "up", "found"),
    [
        (0, 1, {"log": 1, "deliver": 1, "ingest-0": 1}, (True, "0 records wait")),
        (0, 1, {"log": 1, "deliver": 1, "ingest-0": 0}, (True, "0 records wait")),
        (1, 1, {"log": 1, "deliver": 1, "ingest-0": 1}, (False, "1 records wait")),
        (0, 0, {"log": 1, "deliver": 1, "ingest-0": 1}, (False, "Kafka is unavailable; 0 records wait")),
        (0, 1, {"log": 0, "deliver": 1, "ingest-0": 1}, (False, "the log process is down")),
    ],
)
def test_lag_of_the_one_journal_counts_while_the_log_process_is_there(
    lag: int, kafka: int, up: dict[str, int], found: tuple[bool, str]
) -> None:
    """All topics together. Ingest holds nothing that was answered."""
    lines = [
        f'gateway_publisher_lag_records{{process="deliver",topic="sms.dr"}} {lag}.0',
        'gateway_publisher_lag_records{process="deliver",topic="call.event"} 0.0',
        f'gateway_kafka_up{{client="publisher",process="deliver"}} {kafka}.0',
        *(f'gateway_process_up{{process="{name}"}} {value}.0' for name, value in up.items()),
    ]
    with MetricsServer({"/metrics": "\n".join(lines) + "\n"}) as server:
        assert found == drain.look(f"http://127.0.0.1:{server.port}/metrics", "")


def test_topics_that_cannot_be_written_are_named() -> None:
    """Kafka is there, and would be waited for in vain."""
    lines = [
        'gateway_publisher_lag_records{process="deliver",topic="sms.dr"} 5.0',
        'gateway_publisher_lag_records{process="deliver",topic="call.event"} 0.0',
        'gateway_publisher_topic_up{process="deliver",topic="sms.dr"} 0.0',
        'gateway_publisher_topic_up{process="deliver",topic="call.event"} 1.0',
        'gateway_kafka_up{client="publisher",process="deliver"} 0.0',
    ]
    with MetricsServer({"/metrics": "\n".join(lines) + "\n"}) as server:
        found = drain.look(f"http://127.0.0.1:{server.port}/metrics", "")
    assert (False, "sms.dr cannot be written, /readyz says why; 5 records wait") == found


def test_gateway_that_it_started_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Job for the journal of a replica that is gone ends by itself."""
    monkeypatch.setattr(sys, "argv", ["drain.py", "--", sys.executable, "-c", "import signal; signal.pause()"])
    with MetricsServer({"/metrics": page(0)}) as server:
        monkeypatch.setenv("GATEWAY__ADMIN__PORT", str(server.port))
        assert 0 == drain.main()


def test_gateway_that_cannot_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong configuration does not look like a drained journal."""
    monkeypatch.setattr(sys, "argv", ["drain.py", "--", sys.executable, "-c", "raise SystemExit(2)"])
    monkeypatch.setitem(os.environ, "GATEWAY__ADMIN__PORT", "1")
    assert 2 == drain.main()
