"""Vendor times become RFC 3339."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.callbacks import times
from tests.rows import rows

SHANGHAI = ZoneInfo("Asia/Shanghai")
NEW_YORK = ZoneInfo("America/New_York")
#: What a clock on the wall may show, so without a zone.
CLOCK_TIMES = st.datetimes(min_value=datetime(2000, 1, 2), max_value=datetime(2080, 1, 1))  # noqa: DTZ001
ZONES = st.sampled_from(
    [SHANGHAI, NEW_YORK, ZoneInfo("UTC"), ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Asia/Kathmandu")]
)


@rows(
    ("value", "expected"),
    [
        ("2024-01-02 03:04:05", "2024-01-01T19:04:05.000000Z"),
        ("2024-01-02T03:04:05", "2024-01-01T19:04:05.000000Z"),
        ("2024-01-02 03:04:05.5", "2024-01-01T19:04:05.500000Z"),
        ("2024-01-02 03:04:05,123", "2024-01-01T19:04:05.123000Z"),
        (" 2024-01-02 03:04:05\t", "2024-01-01T19:04:05.000000Z"),
        ("2024/01/02 03:04:05", "2024-01-01T19:04:05.000000Z"),
        ("2024-01-02 03:04", "2024-01-01T19:04:00.000000Z"),
        ("20240102030405", "2024-01-01T19:04:05.000000Z"),
        (20240102030405, "2024-01-01T19:04:05.000000Z"),
        ("20240102030405123", "2024-01-01T19:04:05.123000Z"),
        (20240102030405123, "2024-01-01T19:04:05.123000Z"),
        ("202401020304", "2024-01-01T19:04:00.000000Z"),
        ("20240102", "2024-01-01T16:00:00.000000Z"),
        (1735000000, "2024-12-24T00:26:40.000000Z"),
        ("1735000000", "2024-12-24T00:26:40.000000Z"),
        (1735000000.0, "2024-12-24T00:26:40.000000Z"),
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
    """Each way the vendor writes a time gives that moment in UTC, with the configured zone where it names none."""
    assert expected == times.rfc3339(value, SHANGHAI)


@rows(
    ("zone", "hours"),
    [
        ("Z", 0),
        (" Z", 0),
        (" UTC", 0),
        (" GMT", 0),
        (" utc", 0),
        ("+00:00", 0),
        ("+08:00", 8),
        ("+0800", 8),
        ("+08", 8),
        (" +07:00", 7),
        ("-05:00", -5),
        ("+05:30", 5.5),
        (" 07:00", 7),  # a + that a form turned into a space
        (" 0700", 7),
        (" GMT+8", 8),
        (" UTC+08:00", 8),
        ("+08:00[Asia/Shanghai]", 8),
    ],
)
@rows("clock", ["2024-01-02 03:04:05", "2024-01-02T03:04:05", "2024-01-02 03:04:05.000", "2024-01-02 03:04"])
def test_a_zone_behind_a_time(clock: str, zone: str, hours: float) -> None:
    """A zone that the sender names is read, in every way it is written, and the configured one does not count."""
    expected = datetime.fromisoformat(clock).replace(tzinfo=timezone(timedelta(hours=hours)))
    text = times.rfc3339(clock + zone, NEW_YORK)
    assert text is not None
    assert expected == datetime.fromisoformat(text)


@rows(
    ("value", "hour"),
    [("12:04:05 AM", 0), ("03:04:05 AM", 3), ("12:04:05 PM", 12), ("03:04:05 pm", 15), ("15:04:05 PM", 15)],
)
def test_halves_of_the_day(value: str, hour: int) -> None:
    """AM and PM count."""
    text = times.rfc3339(f"2024-01-02 {value}", UTC)
    assert text is not None
    assert hour == datetime.fromisoformat(text).hour


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-03-10 02:30:00", "2024-03-10T07:30:00.000000Z"),  # skipped: the offset before the change
        ("2024-11-03 01:30:00", "2024-11-03T05:30:00.000000Z"),  # shown twice: the first
        ("2024-07-01 12:00:00", "2024-07-01T16:00:00.000000Z"),
    ],
)
def test_the_hours_around_a_clock_change(value: str, expected: str) -> None:
    """A skipped hour and a repeated one are moments, not errors."""
    assert expected == times.rfc3339(value, NEW_YORK)


@rows(
    "value",
    ["null", "0000-00-00 00:00:00", "2024-13-01 00:00:00", "2024-02-30 00:00:00", "-5", -5, "9" * 21, True, [], {},
     "x" * 500, float("nan"), float("inf"), "0001-01-01 00:00:00", 10**40,
     "1970-01-01 08:00:00", "2611-05-19 01:00:30", 202499999999, 20241399999999, 17350000001234567, 4102444800,
     "2024-01-02 03:04:05 CST", "2024-01-02 03:04:05 +25:00", "2024-01-02 15:04:05 AM"],
)  # fmt: skip
def test_what_is_no_time(value: object) -> None:
    """What is no time, or one that cannot be right, is refused with ValueError and nothing else."""
    with pytest.raises(ValueError):  # noqa: PT011 - several reasons, one kind
        times.rfc3339(value, SHANGHAI)


FORM = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@given(st.one_of(st.text(max_size=30), st.integers(), st.floats(), st.booleans(), st.none()), ZONES)
@example("9999-12-31 23:59:59", NEW_YORK)
@example("0001-01-01 00:00:00", SHANGHAI)
@example("２０２４", SHANGHAI)
def test_anything_is_a_time_or_refused(value: object, zone: ZoneInfo) -> None:
    """Any value gives a moment of this century in the one form that sorts as text, nothing, or ValueError."""
    try:
        text = times.rfc3339(value, zone)
    except ValueError:
        return
    assert text is None or FORM.fullmatch(text)


@given(st.lists(CLOCK_TIMES, min_size=2, max_size=5), ZONES)
def test_times_sort_as_text(moments: list[datetime], zone: ZoneInfo) -> None:
    """Sorted as text they are in the order in which they happened, arrivals among them."""
    texts = [times.rfc3339(moment.isoformat(), zone) for moment in moments]
    texts += [times.recorded(moment.replace(tzinfo=UTC)) for moment in moments]
    assert sorted(texts, key=str) == sorted(texts, key=lambda text: datetime.fromisoformat(text or ""))


@given(st.integers(1, 20).flatmap(lambda digits: st.integers(10 ** (digits - 1), 10**digits - 1)))
def test_no_number_gives_an_impossible_year(number: int) -> None:
    """However many digits a number has, it is a moment of our time or none; as number and as text it is the same."""
    results = []
    for value in (number, str(number)):
        try:
            results.append(times.rfc3339(value, SHANGHAI))
        except ValueError:
            results.append("refused")
    assert results[0] == results[1]
    assert results[0] == "refused" or FORM.fullmatch(results[0] or "")


@given(CLOCK_TIMES, ZONES)
def test_local_time_is_read_in_its_zone(moment: datetime, zone: ZoneInfo) -> None:
    """A zone-less time is the moment at which a clock of that zone shows it."""
    text = times.rfc3339(f"{moment:%Y-%m-%d %H:%M:%S}", zone)
    expected = moment.replace(microsecond=0, tzinfo=zone)
    assert text is not None
    assert expected.astimezone(UTC) == datetime.fromisoformat(text).astimezone(UTC)


@given(st.integers(min_value=1_000_000_000, max_value=4_102_444_799))
def test_the_precisions_agree(seconds: int) -> None:
    """Seconds, milliseconds, microseconds and nanoseconds of one moment give the same text."""
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
    assert "2021-02-26T02:01:15.000000Z" == times.salvaged("2021-02-26 10:01:15¤cy=USD", SHANGHAI)
    for zone in (" CST", "[Asia/Jakarta]", "（东八区）", " (UTC+7)", " 下午", "下午", " オフ", "\u221207:00", " p.m."):
        assert times.salvaged("2021-02-26 10:01:15" + zone, SHANGHAI) is None, zone
    assert times.salvaged("yesterday", SHANGHAI) is None
    # Python 3.14 words it anew.
    with pytest.raises(ValueError, match=r"day (is out of range|\d+ must be in range)"):
        times.salvaged("2021-02-30 10:01:15¤x", SHANGHAI)
