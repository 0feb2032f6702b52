"""What fan-out logs of attempts: all of it at debug, a few lines at info."""

from __future__ import annotations

import logging

import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from gateway.fanout.attempt import AttemptResult
from gateway.fanout.attempt_log import AttemptLog
from gateway.telemetry.metrics import Metrics
from tests.fanout.manual_clock import ManualClock
from tests.fanout.test_scheduler import job


async def test_a_subscriber_that_is_down_does_not_flood_the_log() -> None:
    """Three lines in ten seconds; the next one counts what was left out; what is given up always has its line."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    clock = ManualClock(0.0)
    refused = AttemptResult(error="connect")
    with capture_logs() as lines:
        attempt_log = AttemptLog("billing", clock=clock, metrics=Metrics(CollectorRegistry()))
        for number in range(150):
            attempt_log.failed(job(number, "k"), refused, "retried" if number % 2 else "parked", delay_s=1.0)
        attempt_log.failed(job(150, "k"), refused, "dead_lettered")
        clock.advance_to(10.0)
        attempt_log.failed(job(151, "k"), refused, "retried", delay_s=1.0)
        attempt_log.failed(job(152, "k"), refused, "retried", delay_s=1.0)
    assert [0, 1, 2, 150, 151, 152] == [int(line["id"], 16) for line in lines]
    assert [None, None, None, 147, None, None] == [line.get("lines_not_shown") for line in lines]
