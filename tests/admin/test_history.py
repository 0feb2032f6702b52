"""Charts without Prometheus: what is kept, for how long, and that nothing about them stops a gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.admin.history import FILE_NAME, MOST_SERIES, RANGES, History
from gateway.admin.rates import Step
from gateway.telemetry.metrics import bucket
from tests.admin.running import running

START = 1_760_000_400.0
NAN = float("nan")


class Time:
    """Seconds that a test counts."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(folder: Path | None, time: Time) -> AsyncIterator[History]:
    history = History(folder, clock=time)
    await history.start()
    yield history
    await history.stop()


def step(*, taken: int = 0, failed: int = 0, seconds: tuple[float, ...] = ()) -> Step:
    """Two seconds."""
    made = Step(2.0)
    if taken:
        made.count(("gateway_callbacks", ("sms-dr", "accepted")), taken)
    if failed:
        made.count(("gateway_deliveries", ("billing", "retried")), failed)
    if seconds:
        made.took(("gateway_callback_answer_seconds", ("sms-dr",)), {bucket(one): 1 for one in seconds})
    return made


async def run(history: History, time: Time, steps: int, made: Step, **levels: float) -> None:
    for _ in range(steps):
        time.now += 2.0
        await history.take(time.now, made, {name.replace("__", ":"): value for name, value in levels.items()})


def known(found: dict[str, Any], name: str) -> list[float]:
    return [value for value in found["series"][name] if value is not None]


async def test_three_ranges_are_kept_and_survive_a_restart(tmp_path: Path) -> None:
    """Ten-second, one-minute and quarter-hour points; rates are averages, levels the highest; none is 0 by default."""
    time = Time()
    async with opened(tmp_path, time) as history:
        await run(history, time, 900, step(taken=4), subscriber__billing__lag=7.0)
    async with opened(tmp_path, time) as history:
        await run(history, time, 30, step(taken=8, failed=2), subscriber__billing__lag=9.0)
        for name, points in (("hour", 180 + 6), ("day", 31), ("week", 3)):
            found = await history.read(name)
            assert len(found["times"]) == pytest.approx(points, abs=1), name
            assert known(found, "callback:sms-dr:rate")[0] == pytest.approx(2.0)
            assert known(found, "subscriber:billing:failed")[0] == 0.0
            assert known(found, "subscriber:billing:lag")[-1] == 9.0
            assert None not in found["series"]["intake:all:rate"]
        hour = await history.read("hour", ["callback:*:rate"])
        assert list(hour["series"]) == ["callback:sms-dr:rate"]
        assert known(hour, "callback:sms-dr:rate")[-2] == pytest.approx(4.0)


async def test_what_was_not_measured_is_a_gap_and_never_zero(tmp_path: Path) -> None:
    """An outage of ten minutes has no values on both finer charts; an unknown lag has none while rates go on."""
    time = Time()
    async with opened(tmp_path, time) as history:
        await run(history, time, 60, step(taken=2), subscriber__billing__lag=3.0)
    time.now += 600.0
    async with opened(tmp_path, time) as history:
        await run(history, time, 60, step(taken=2), subscriber__billing__lag=NAN)
        for name in ("hour", "day"):
            found = await history.read(name)
            (gap,) = [at for at, value in enumerate(found["series"]["intake:all:rate"]) if value is None]
            assert all(values[gap] is None for values in found["series"].values())
            assert found["times"] == sorted(found["times"])
            lags = found["series"]["subscriber:billing:lag"]
            assert set(lags[:gap]) == {3.0}
            assert set(lags[gap:]) == {None}
        week = await history.read("week")
        assert None not in week["series"]["intake:all:rate"]


async def test_quantiles_are_of_all_durations_and_not_averages(tmp_path: Path) -> None:
    """One slow answer in a thousand is the p99 of no minute, though it is that of its ten seconds."""
    time = Time()
    async with opened(tmp_path, time) as history:
        await run(history, time, 1, step(seconds=(1.0, 0.001)))
        fast = Step(2.0)
        fast.took(("gateway_callback_answer_seconds", ("sms-dr",)), {bucket(0.001): 500})
        await run(history, time, 29, fast)
        assert known(await history.read("hour"), "intake:all:p99")[0] == pytest.approx(0.001, rel=0.02)
        assert known(await history.read("day"), "intake:all:p99")[0] == pytest.approx(0.001, rel=0.02)
        (only,) = set(known(await history.read("week"), "callback:sms-dr:p50"))
        assert only == pytest.approx(0.001, rel=0.02)


async def test_a_torn_file_is_dropped_and_stops_no_start(tmp_path: Path) -> None:
    """Whatever is in it: the charts begin anew."""
    time = Time()
    async with opened(tmp_path, time) as history:
        await run(history, time, 30, step(taken=2))
    whole = (tmp_path / FILE_NAME).read_bytes()
    for content in (whole[: len(whole) // 2], b"no database" * 1000, b"\0" * 4096, whole[:4096] + b"\xff" * 8192):
        (tmp_path / FILE_NAME).write_bytes(content)
        async with opened(tmp_path, time) as history:
            await run(history, time, 10, step(taken=2))
            assert (await history.read("hour"))["times"]
    (tmp_path / FILE_NAME).unlink()
    (tmp_path / FILE_NAME).mkdir()
    async with opened(tmp_path, time) as history:
        await run(history, time, 10, step(taken=2))
        assert (await history.read("hour"))["times"]


async def test_the_file_has_a_bound(tmp_path: Path) -> None:
    """Old points go; of a thousand subscribers those with failures are kept; the file stays small."""
    time = Time()
    async with opened(tmp_path, time) as history:
        many = {f"subscriber:s-{number}:lag": float(number) for number in range(3 * MOST_SERIES)}
        for _ in range(3):
            time.now += 3000.0
            made = step(taken=2, failed=1)
            made.took_s = 10.0
            await history.take(time.now, made, many)
        found = await history.read("hour")
        assert len(found["series"]) <= MOST_SERIES + 1
        assert known(found, "subscriber:billing:failed") == [0.1, 0.1]
        assert found["times"][0] > time.now - RANGES["hour"].kept_s
    assert (tmp_path / FILE_NAME).stat().st_size < 1024 * 1024


async def test_a_gateway_answers_with_its_charts(tmp_path: Path) -> None:
    """By range; a range that there is not is refused with a sentence."""
    async with running(tmp_path) as gateway:
        for number in range(5):
            await gateway.sms(number)
        found = await gateway.until(
            "/api/history", lambda found: found["series"].get("callback:sms-dr:rate"), series="callback:*,intake:*"
        )
        assert (found["range"], found["step_s"]) == ("hour", 10.0)
        assert all(name.startswith(("callback:", "intake:")) for name in found["series"])
        assert "hour, day, week" in (await gateway.get("/api/history", 400, range="month"))["error"]
    assert (tmp_path / "data" / FILE_NAME).exists()
