"""The size of an installation follows its load, and nothing is planned to be busier than the headroom."""

from __future__ import annotations

import dataclasses
from itertools import accumulate
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.capacity import measure as figures_file
from gateway.capacity.model import Assumptions, Figures, Load, Plan, busy, planned, size
from gateway.config.sections import Kafka
from gateway.config.settings import FAMILIES, Settings

FIGURES = Figures(
    (1_000.0, 5_000.0), (90.0, 50.0), (60.0, 20.0), (200.0, 100.0), 1000.0, "Linux", "2026-01-01", "1", 0.0
)
FIXED = Assumptions()


@st.composite
def _figures(draw: st.DrawFn) -> Figures:
    rates = sorted(draw(st.sets(st.floats(1, 1e5), min_size=1, max_size=4)))
    times = st.lists(st.floats(0.1, 10_000), min_size=len(rates), max_size=len(rates)).map(tuple)
    return Figures(tuple(rates), draw(times), draw(times), draw(times), 1000.0, "", "", "", 0.0)


@st.composite
def _loads(draw: st.DrawFn) -> Load:
    rate = draw(st.floats(0.001, 1e8))
    subscribers = draw(st.one_of(st.just(0.0), st.floats(0.01, 10_000)))
    return Load(rate, subscribers, draw(st.floats(1, 1e6)), rate * draw(st.floats(0.01, 1)))


def amounts(plan: Plan) -> list[float]:
    """Everything that costs something, for the whole installation."""
    return [
        plan.ingest_machines,
        plan.fanout_processes,
        plan.fanout_machines,
        plan.partitions,
        plan.brokers,
        plan.journal_bytes * plan.ingest_machines,
        plan.kafka_bytes * plan.brokers,
        plan.delivered_bytes_per_s,
        not plan.fits_one_machine,
        *(cost.total for cost in plan.costs),
    ]


@given(
    _loads(),
    _figures(),
    st.sampled_from(["rate_per_s", "subscribers", "event_bytes", "average_per_s"]),
    st.floats(1, 50),
)
def test_more_load_never_needs_less(load: Load, figures: Figures, name: str, times: float) -> None:
    """In rate, subscribers, bytes and average, alone."""
    more = dataclasses.replace(load, **{name: getattr(load, name) * times})
    for before, after in zip(amounts(size(load, figures)), amounts(size(more, figures)), strict=True):
        assert after >= before * (1 - 1e-9)


@given(_loads(), _figures(), st.sampled_from(["accept_us", "commit_us", "deliver_us"]), st.floats(1, 50))
def test_slower_machine_never_needs_less(load: Load, figures: Figures, name: str, times: float) -> None:
    """In each figure, alone."""
    slower = dataclasses.replace(figures, **{name: tuple(one * times for one in getattr(figures, name))})
    for before, after in zip(amounts(size(load, figures)), amounts(size(load, slower)), strict=True):
        assert after >= before * (1 - 1e-9)


@given(_loads(), _figures())
def test_nothing_is_busier_than_the_headroom(load: Load, figures: Figures) -> None:
    """Without the spare; one machine or process less would be busier, or is the least."""
    plan = size(load, figures)
    needed = plan.ingest_machines - FIXED.spares
    assert 1 <= needed
    assert FIXED.replication <= plan.brokers
    for share in (plan.ingest_utilisation, plan.fanout_utilisation, plan.broker_utilisation):
        assert 0 <= share <= FIXED.headroom + 1e-9
    if needed > 1:
        assert size(_on_one_less(load, needed), figures).ingest_machines > plan.ingest_machines
    if load.subscribers:
        assert plan.fanout_processes <= plan.fanout_machines * FIXED.processors
        assert plan.partitions >= 2 * plan.fanout_processes >= 4
        if plan.fanout_processes > 2:
            less = _on_one_less(load, plan.fanout_processes - FIXED.spares)
            assert size(less, figures).fanout_processes > plan.fanout_processes
    else:
        assert (0, 0) == (plan.fanout_processes, plan.fanout_machines)


def _on_one_less(load: Load, needed: int) -> Load:
    """Return the load with which each of ``needed`` has what each would have if there was one less."""
    return dataclasses.replace(load, rate_per_s=load.rate_per_s * needed / (needed - 1) * (1 + 1e-9))


@given(_figures(), st.floats(0.001, 1e6), st.floats(1, 50))
def test_a_process_is_never_less_busy_at_a_higher_rate(figures: Figures, rate: float, times: float) -> None:
    """In a plan, whatever was measured: it is as busy as it was at that rate, or at a lower rate that was busier."""
    rates, costs = figures.rates_per_s, figures.accept_us
    assert planned(rates, costs, rate * times) >= planned(rates, costs, rate) * (1 - 1e-9)
    measured = accumulate((one * cost / 1e6 for one, cost in zip(rates, costs, strict=True)), max)
    assert list(measured) == pytest.approx([planned(rates, costs, one) for one in rates])


def test_busy_by_hand() -> None:
    """As the nearest outside the measured rates; halfway between them at the rate that is as often one as the other."""
    at = [busy(FIGURES.rates_per_s, FIGURES.accept_us, rate) for rate in (100, 1_000, 5_000_000**0.5, 5_000, 10_000)]
    assert [0.009, 0.09, (0.09 + 0.25) / 2, 0.25, 0.5] == pytest.approx(at)


def test_plan_by_hand() -> None:
    """The formulas of the page, with figures that can be computed without a machine."""
    plan = size(Load(100_000, 20, 900, 50_000), FIGURES)
    # 50 µs on three workers, 20 µs in the log process; all of them, with 10.2 µs of publishing, on four processors.
    assert 100_000 * 20.05e-6 / 4 == pytest.approx(plan.ingest_utilisation)
    assert (5, 3) == (plan.ingest_machines, plan.ingest_workers)
    assert (335, 84, 670) == (plan.fanout_processes, plan.fanout_machines, plan.partitions)
    assert 200 / 334 == pytest.approx(plan.fanout_utilisation)
    assert 6 == plan.brokers  # 670 partitions of 11 topics, three times each, at most 4,000 on one
    assert 100_000 * 900 * 3 / 125e6 / 6 == pytest.approx(plan.broker_utilisation)
    assert (50_000 * 28_800 / 5 + 100_000) * 900 * 1.56 == pytest.approx(plan.journal_bytes)
    assert 50_000 * 900 * 172_800 * 3 * 1.2 / 6 == pytest.approx(plan.kafka_bytes)
    assert 50_000 * 900 * 20 == plan.delivered_bytes_per_s
    assert not plan.fits_one_machine
    machines, disks = 5 + 84 + 6, (plan.journal_bytes * 5 + plan.kafka_bytes * 6) / 1e9
    assert machines * 0.2016 * 730 + disks * 0.08 == pytest.approx(plan.costs[0].total)


def test_processes_that_are_less_busy_cost_more_for_each_event() -> None:
    """With a headroom between the measured rates, six are needed where three would be at the cost of full load."""
    plan = size(Load(9_000, 1, 900, 9_000), FIGURES, assumed=Assumptions(headroom=0.3))
    assert 6 + 1 == plan.fanout_processes
    assert 0.2 + (0.5 - 0.2) * log(9_000 / 6 / 1_000, 5_000 / 1_000) == pytest.approx(plan.fanout_utilisation)


@pytest.mark.parametrize(("rate", "subscribers", "is_enough"), [(2_900, 2, True), (3_100, 2, False), (1_600, 4, False)])
def test_one_machine_is_enough_while_one_process_can_deliver(rate: float, subscribers: int, is_enough: bool) -> None:
    """``gateway run`` has one delivering process: at 100 µs, 6,000 deliveries a second with the headroom."""
    assert is_enough is size(Load(rate, subscribers, 900, rate), FIGURES).fits_one_machine


def test_assumptions_are_those_of_the_product() -> None:
    """Defaults that the configuration has, too."""
    settings = Settings()
    assert settings.ingest.dedup_window == FIXED.dedup_window
    assert len(FAMILIES) == FIXED.topics
    assert Kafka(bootstrap_servers="x:1").partitions == FIXED.least_partitions
    assert all(meaning for _, _, meaning in Assumptions.table())


def test_recorded_figures_can_be_read() -> None:
    """The file of the package, which names its machine."""
    assert "processors" in figures_file.load(figures_file.RECORDED).machine
