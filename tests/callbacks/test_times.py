"""Vendor times become RFC 3339."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.callbacks import times

SHANGHAI = ZoneInfo("Asia/Shanghai")
NEW_YORK = ZoneInfo("America/New_York")
#: What a clock on the wall may show, so without a zone.
CLOCK_TIMES = st.datetimes(min_value=datetime(1980, 1, 1), max_value=datetime(2080, 1, 1))  # noqa: DTZ001
ZONES = st.sampled_from(
    [SHANGHAI, NEW_YORK, ZoneInfo("UTC"), ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Asia/Kathmandu")]
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-01-02 03:04:05", "2024-01-02T03:04:05+08:00"),
        ("2024-01-02T03:04:05", "2024-01-02T03:04:05+08:00"),
        ("2024-01-02 03:04:05.5", "2024-01-02T03:04:05.500000+08:00"),
        (" 2024-01-02 03:04:05\t", "2024-01-02T03:04:05+08:00"),
        ("2024/01/02 03:04:05", "2024-01-02T03:04:05+08:00"),
        ("20240102030405", "2024-01-02T03:04:05+08:00"),
        ("20240102", "2024-01-02T00:00:00+08:00"),
        ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z"),
        ("2024-01-02T03:04:05+05:30", "2024-01-02T03:04:05+05:30"),
        (1735000000, "2024-12-24T00:26:40Z"),
        ("1735000000", "2024-12-24T00:26:40Z"),
        (1735000000.0, "2024-12-24T00:26:40Z"),
        ("1735000000.12345", "2024-12-24T00:26:40.123450Z"),
        (1735000000123, "2024-12-24T00:26:40.123000Z"),
        ("1735000012345678", "2024-12-24T00:26:52.345678Z"),
        (1735000012345678999, "2024-12-24T00:26:52.345678Z"),
        (0, None),
        ("0", None),
        ("  ", None),
    ],
)
def test_every_form_of_the_vendor(value: object, expected: str | None) -> None:
    """Each way the vendor writes a time gives that moment, with the configured zone where it names none."""
    assert expected == times.rfc3339(value, SHANGHAI)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-03-10 02:30:00", "2024-03-10T02:30:00-05:00"),  # skipped: the offset before the change
        ("2024-11-03 01:30:00", "2024-11-03T01:30:00-04:00"),  # shown twice: the first
        ("2024-07-01 12:00:00", "2024-07-01T12:00:00-04:00"),
    ],
)
def test_the_hours_around_a_clock_change(value: str, expected: str) -> None:
    """A skipped hour and a repeated one are moments, not errors."""
    assert expected == times.rfc3339(value, NEW_YORK)


def test_a_zone_with_seconds_in_its_offset() -> None:
    """Local mean time, whose offset RFC 3339 cannot write, is written in UTC."""
    assert "1899-12-31T15:54:17Z" == times.rfc3339("1900-01-01 00:00:00", SHANGHAI)


@pytest.mark.parametrize(
    "value",
    ["null", "0000-00-00 00:00:00", "2024-13-01 00:00:00", "2024-02-30 00:00:00", "-5", -5, "9" * 21, True, [], {},
     "x" * 500, float("nan"), float("inf"), "0001-01-01 00:00:00", 10**40],
)  # fmt: skip
def test_what_is_no_time(value: object) -> None:
    """What is no time, or has no RFC 3339 form, is refused with ValueError and nothing else."""
    with pytest.raises(ValueError):  # noqa: PT011 - several reasons, one kind
        times.rfc3339(value, SHANGHAI)


@given(st.one_of(st.text(max_size=30), st.integers(), st.floats(), st.booleans(), st.none()), ZONES)
@example("9999-12-31 23:59:59", NEW_YORK)
@example("0001-01-01 00:00:00", SHANGHAI)
@example("２０２４", SHANGHAI)
def test_anything_is_a_time_or_refused(value: object, zone: ZoneInfo) -> None:
    """Any value gives an aware moment, nothing, or ValueError."""
    try:
        text = times.rfc3339(value, zone)
    except ValueError:
        return
    assert text is None or datetime.fromisoformat(text).utcoffset() is not None


@given(CLOCK_TIMES, ZONES)
def test_local_time_is_read_in_its_zone(moment: datetime, zone: ZoneInfo) -> None:
    """A zone-less time is the moment at which a clock of that zone shows it."""
    text = times.rfc3339(f"{moment:%Y-%m-%d %H:%M:%S}", zone)
    expected = moment.replace(microsecond=0, tzinfo=zone)
    assert text is not None
    assert expected.astimezone(UTC) == datetime.fromisoformat(text).astimezone(UTC)


@given(st.integers(min_value=1, max_value=4_102_444_800_000_000))
def test_the_precisions_agree(micros: int) -> None:
    """Seconds, milliseconds and microseconds of one moment give the same text, from 1973 on."""
    seconds = micros // 1_000_000
    if seconds < 10**8:
        seconds += 10**8
    written = {times.rfc3339(seconds * factor, SHANGHAI) for factor in (1, 1_000, 1_000_000, 1_000_000_000)}
    assert 1 == len(written)


@given(CLOCK_TIMES, st.sampled_from([0, 3600, -19800]))
def test_arrival_is_exact_to_the_microsecond(moment: datetime, offset_s: int) -> None:
    """The arrival is written in UTC to the microsecond it has, whatever zone it came in."""
    arrival = moment.replace(tzinfo=UTC).astimezone(tz=datetime.now(UTC).astimezone().tzinfo) + timedelta(
        seconds=offset_s
    )
    assert arrival == datetime.fromisoformat(times.recorded(arrival))
    assert len("2024-01-02T03:04:05.678901Z") == len(times.recorded(arrival))


def test_what_stands_before_rubbish() -> None:
    """The time at the head of a longer text can be had; a text without one gives nothing."""
    assert "2021-02-26T10:01:15+08:00" == times.salvaged("2021-02-26 10:01:15¤cy=USD", SHANGHAI)
    assert times.salvaged("yesterday", SHANGHAI) is None
    with pytest.raises(ValueError, match="day is out of range"):
        times.salvaged("2021-02-30 10:01:15x", SHANGHAI)
