"""``gateway plan``: size an installation from the processor time of one event at some rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from gateway.capacity import measure as figures_file
from gateway.capacity.measure import measure
from gateway.capacity.model import PRICES, Assumptions, Figures, Load, Plan, Price, size
from gateway.cli.options import Number, config_option, json_option, settings_or_defaults
from gateway.cli.printing import print_json, print_table
from gateway.eventloop import run_async

EPILOG: Final = """
The figures are those of FILE, or of the recorded run of this version. Measure your own on a machine like those of the
installation, with nothing else running. Traffic is not part of the cost.

\b
Examples
  gateway plan --rate 100000 --subscribers 20 --bytes 900
  gateway plan --measure --figures mine.json
  gateway plan --rate 5000 --average 1000 --subscribers 2 --figures mine.json --json
  gateway plan --rate 5000 --price "my cloud=0.15,0.07"
"""


class _Price(click.ParamType[Price]):
    """``NAME=HOUR,GB``: US dollars of a machine for an hour, and of 10^9 bytes of disk for a month."""

    name = "NAME=HOUR,GB"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Price:
        """Return the price that a text states."""
        if isinstance(value, Price):
            return value
        name, _, numbers = str(value).rpartition("=")
        try:
            hour, disk = (float(one) for one in numbers.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a price such as 'my cloud=0.15,0.07'", param, ctx)
        if not name or not 0 <= hour < 1e6 or not 0 <= disk < 1e6:
            self.fail(f"{value!r} needs a name, and prices from 0 to 1,000,000", param, ctx)
        return Price(name, "", hour, disk, "--price", "")


@click.command(epilog=EPILOG)
@click.option("--rate", type=Number(0, 1e8, min_open=True), help="Events a second at the peak.")
@click.option("--average", type=Number(0, 1e8, min_open=True), help="Events a second over a day; default: as --rate.")
@click.option(
    "--subscribers",
    type=Number(0, 10_000),
    default=1,
    show_default=True,
    help="Subscribers that receive an event, on average.",
)
@click.option("--bytes", "event_bytes", type=Number(1, 1e8), help="Size of an event; default: as measured.")
@click.option("--measure", "is_measured", is_flag=True, help="Measure this machine first, about a minute.")
@click.option(
    "--figures",
    "path",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Figures of a machine: written with --measure, read without.",
)
@click.option("--price", "prices", type=_Price(), multiple=True, help="Your prices, instead of the list prices.")
@json_option
@config_option
def plan(
    rate: float | None,
    average: float | None,
    subscribers: float,
    event_bytes: float | None,
    is_measured: bool,
    path: Path | None,
    prices: tuple[Price, ...],
    as_json: bool,
    config_path: Path,
) -> None:
    """Size an installation: machines, processes, partitions, disks and monthly cost.

    The deduplication window comes from the configuration; all other assumptions are printed with --json.
    """
    if rate is None and not is_measured:
        raise click.UsageError("--rate is needed, or --measure")
    if rate is not None and average is not None and average > rate:
        raise click.UsageError("--average is above --rate, which is the peak")
    assumed = Assumptions(dedup_window=settings_or_defaults(config_path).ingest.dedup_window)
    figures = _figures(path, is_measured=is_measured)
    if rate is None:
        found = None
    else:
        load = Load(rate, subscribers, event_bytes or figures.event_bytes, average or rate)
        found = size(load, figures, prices or PRICES, assumed)
    if as_json:
        print_json({"figures": figures, "assumptions": assumed, "load": load if found else None, "plan": found})
        return
    click.echo(described(figures))
    if found is not None:
        click.echo()
        print_table(("Quantity", "Plan"), rows(found))
        for price in prices or PRICES:
            click.echo(quoted(price))


def _figures(path: Path | None, *, is_measured: bool) -> Figures:
    if not is_measured:
        return figures_file.load(path or figures_file.RECORDED)
    click.echo("measuring for about a minute", err=True)
    figures = run_async(measure())
    if path is not None:
        figures_file.save(figures, path)
    return figures


def described(figures: Figures) -> str:
    """Return the figures and their machine as one sentence."""
    accept, commit, deliver, rates = (
        ", ".join(f"{one:,.0f}" for one in numbers)
        for numbers in (figures.accept_us, figures.commit_us, figures.deliver_us, figures.rates_per_s)
    )
    return (
        f"Processor time of an event of {figures.event_bytes:,.0f} bytes at {rates} events a second of a process: "
        f"accept {accept} µs, store {commit} µs, deliver {deliver} µs to each subscriber. "
        f"Measured on {figures.measured} with gateway {figures.version}: {figures.machine}. "
        f"Load average before: {figures.load_average:g}; other work on the machine makes the times longer."
    )


def quoted(price: Price) -> str:
    """Return prices with their source as one sentence."""
    parts = [price.source, *([f"read on {price.read}"] if price.read else [])]
    machine = f"{price.machine}: " if price.machine else ""
    amounts = f"${price.machine_hour:g} an hour, ${price.disk_gb_month:g} for a GB-month of disk"
    return f"{price.name}: {machine}{amounts} ({', '.join(parts)})"


def rows(found: Plan) -> list[tuple[str, str]]:
    """Return the quantities of a plan as label and text, in the order of the data's way."""
    per_gb = 1e9
    return [
        ("ingest machines, one of them a spare", f"{found.ingest_machines:,}"),
        ("ingest workers of each machine", f"{found.ingest_workers}"),
        ("utilisation without the spare", f"{found.ingest_utilisation:.0%}"),
        ("journal of each machine", f"{found.journal_bytes / per_gb:,.1f} GB"),
        ("partitions of each topic", f"{found.partitions:,}"),
        ("brokers", f"{found.brokers:,}"),
        ("their used write rate", f"{found.broker_utilisation:.0%}"),
        ("disk of each broker", f"{found.kafka_bytes / per_gb:,.1f} GB"),
        ("fan-out processes, one of them a spare", f"{found.fanout_processes:,}"),
        ("their utilisation without the spare", f"{found.fanout_utilisation:.0%}"),
        ("machines for them", f"{found.fanout_machines:,}"),
        ("delivered bodies, not in the cost", f"{found.delivered_bytes_per_s / 1e6:,.1f} MB/s"),
        ("one machine of gateway run is enough", "yes" if found.fits_one_machine else "no"),
        *(
            (
                f"{one.price.name}, a month",
                f"${one.total:,.0f} (machines ${one.machines:,.0f}, disks ${one.disks:,.0f})",
            )
            for one in found.costs
        ),
    ]
