"""The Grafana dashboard as a table of panels; ``python -m deploy.render`` writes it as JSON.

One row of the table is one panel: a JSON file of two thousand lines cannot be read in a review.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

UID: Final = "nxcloud-gateway"
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH: Final = 24


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart.

    Args:
        title: what it shows, in the words of the run-book.
        queries: expression and legend of each line.
        unit: Grafana's name of the unit.
        width: of 24 columns.
        kind: timeseries, stat or table.
        help: one sentence behind the i.
    """

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    width: int = 8
    kind: str = "timeseries"
    help: str = ""


def rate(metric: str, by: str, where: str = "") -> str:
    """Events a second of a counter."""
    chosen = f'instance=~"$instance"{"," + where if where else ""}'
    return f"sum by ({by}) (rate({metric}{{{chosen}}}[$__rate_interval]))"


def quantile(share: float, metric: str, by: str = "") -> str:
    """A quantile of a histogram."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', labels)})"


def within(metric: str, window: str, where: str) -> str:
    """How many there were in a time; 0 where there were none."""
    return f'sum(increase({metric}{{instance=~"$instance",{where}}}[{window}])) or vector(0)'


def gauge(metric: str, by: str, how: str = "sum", where: str = "") -> str:
    """A gauge over the chosen instances."""
    chosen = f'instance=~"$instance"{"," + where if where else ""}'
    return f"{how} by ({by}) ({metric}{{{chosen}}})"


NOT_WELL: Final = (
    f"""count({gauge("gateway_subscriber_state", "subscriber", "max", 'state!="healthy"')} == 1) or vector(0)"""
)

ROWS: Final[tuple[tuple[str, tuple[Panel, ...]], ...]] = (
    (
        "At a glance",
        (
            Panel(
                "Callbacks accepted",
                ((rate("gateway_callbacks_total", "job", 'outcome="accepted"'), "a second"),),
                "reqps",
                4,
                "stat",
            ),
            Panel(
                "Answered 503, last hour",
                ((within("gateway_callbacks_total", "1h", 'outcome="unavailable"'), "callbacks"),),
                "short",
                4,
                "stat",
                "The platform sends most callbacks once: these may be lost.",
            ),
            Panel("Time to answer, p99", ((quantile(0.99, "gateway_callback_answer_seconds"), "p99"),), "s", 4, "stat"),
            Panel(
                "Records not acknowledged by Kafka",
                (('sum(gateway_publisher_lag_records{instance=~"$instance"})', "records"),),
                "short",
                4,
                "stat",
            ),
            Panel(
                "Subscribers down, paused or stopped",
                ((NOT_WELL, "subscribers"),),
                "short",
                4,
                "stat",
            ),
            Panel(
                "Open dead letters",
                (
                    (
                        'sum(max by (subscriber, reason) (gateway_dead_letters_open{instance=~"$instance"}))',
                        "dead letters",
                    ),
                ),
                "short",
                4,
                "stat",
            ),
        ),
    ),
    (
        "Arrival",
        (
            Panel("Callbacks", ((rate("gateway_callbacks_total", "callback"), "{{callback}}"),), "reqps"),
            Panel(
                "Callbacks not accepted",
                (
                    (
                        rate("gateway_callbacks_total", "callback, outcome", 'outcome!~"accepted|repeated"'),
                        "{{callback}} {{outcome}}",
                    ),
                ),
                "reqps",
                help="rejected: kept in callbacks.rejected. unavailable: answered 503.",
            ),
            Panel(
                "Time to answer",
                tuple(
                    (quantile(share, "gateway_callback_answer_seconds"), f"p{share * 100:g}")
                    for share in (0.5, 0.99, 0.999)
                ),
                "s",
                help="From a complete request to its answer, commit included.",
            ),
            Panel("Requests refused", ((rate("gateway_http_refused_total", "reason"), "{{reason}}"),), "reqps"),
            Panel(
                "Unknown fields and codes",
                ((rate("gateway_callback_drift_total", "callback"), "{{callback}}"),),
                "cps",
                help="Fields and codes that the platform does not document. data.raw keeps them.",
            ),
            Panel(
                "Processes restarted or not answering",
                (
                    (
                        rate("gateway_process_restarts_total", "instance, process"),
                        "restarted: {{instance}} {{process}}",
                    ),
                    (
                        "1 - " + gauge("gateway_process_up", "instance, process", "min"),
                        "not answering: {{instance}} {{process}}",
                    ),
                ),
                help="log, deliver, and one ingest process for each worker.",
            ),
        ),
    ),
    (
        "Journal",
        (
            Panel("Records stored", ((rate("gateway_journal_events_total", "stream"), "{{stream}}"),), "cps"),
            Panel(
                "Time of a commit",
                tuple(
                    (quantile(share, "gateway_journal_commit_seconds"), f"p{share * 100:g}") for share in (0.5, 0.99)
                ),
                "s",
                help="A commit includes one sync of the disk. Every answer waits for a commit.",
            ),
            Panel(
                "Records in one commit",
                tuple((quantile(share, "gateway_journal_batch_events"), f"p{share * 100:g}") for share in (0.5, 0.99)),
            ),
            Panel("Bytes used", ((gauge("gateway_journal_used_bytes", "instance", "max"), "{{instance}}"),), "bytes"),
            Panel(
                "Age of the oldest record",
                ((gauge("gateway_journal_oldest_age_seconds", "instance", "max"), "{{instance}}"),),
                "s",
                help="The limit of a replay.",
            ),
            Panel(
                "Failures, damage, expiry",
                (
                    (rate("gateway_journal_failures_total", "reason"), "commit failed: {{reason}}"),
                    (rate("gateway_journal_damaged_segments_total", "instance"), "damaged: {{instance}}"),
                    (rate("gateway_journal_expired_events_total", "group"), "expired: {{group}}"),
                ),
                "cps",
                help="Each series should be empty.",
            ),
        ),
    ),
    (
        "Kafka",
        (
            Panel("Up", ((gauge("gateway_kafka_up", "client", "min"), "{{client}}"),), "bool_yes_no"),
            Panel(
                "Problems by error word",
                ((gauge("gateway_kafka_problems", "client, word"), "{{client}}: {{word}}"),),
                help="The panel should be empty.",
            ),
            Panel(
                "Throttling by quotas, seconds per second",
                ((rate("gateway_kafka_throttled_seconds_total", "client"), "{{client}}"),),
            ),
            Panel("Records acknowledged", ((rate("gateway_kafka_written_events_total", "topic"), "{{topic}}"),), "cps"),
            Panel("Waiting in the journal", ((gauge("gateway_publisher_lag_records", "topic"), "{{topic}}"),)),
            Panel(
                "Topics that can be written",
                ((gauge("gateway_publisher_topic_up", "topic", "min"), "{{topic}}"),),
                "bool_yes_no",
            ),
            Panel(
                "Batches sent again, events too large for Kafka",
                (
                    (rate("gateway_kafka_producer_failures_total", "client"), "sent again: {{client}}"),
                    (rate("gateway_publisher_dead_letters_total", "topic"), "too large: {{topic}}"),
                ),
                "cps",
            ),
            Panel(
                "Rebalances in an hour",
                (
                    (
                        'sum by (group) (increase(gateway_kafka_rebalances_total{instance=~"$instance"}[1h]))',
                        "{{group}}",
                    ),
                ),
            ),
            Panel(
                "Offsets expired unread, topics recreated",
                (
                    (rate("gateway_kafka_skipped_offsets_total", "group"), "expired: {{group}}"),
                    (rate("gateway_kafka_recreated_topics_total", "group"), "recreated: {{group}}"),
                ),
                "cps",
            ),
        ),
    ),
    (
        "Delivery",
        (
            Panel(
                "Delivered",
                ((rate("gateway_deliveries_total", "subscriber", 'outcome="delivered"'), "{{subscriber}}"),),
                "cps",
            ),
            Panel(
                "Failed attempts",
                (
                    (
                        rate("gateway_deliveries_total", "subscriber, outcome", 'outcome!~"delivered|skipped"'),
                        "{{subscriber}} {{outcome}}",
                    ),
                ),
                "cps",
            ),
            Panel(
                "Time of an attempt, p99",
                ((quantile(0.99, "gateway_delivery_attempt_seconds", "subscriber"), "{{subscriber}}"),),
                "s",
            ),
            Panel("Lag", ((gauge("gateway_subscriber_lag_records", "subscriber"), "{{subscriber}}"),)),
            Panel("Attempts in progress", ((gauge("gateway_delivery_in_flight", "subscriber"), "{{subscriber}}"),)),
            Panel(
                "State",
                (
                    (
                        gauge("gateway_subscriber_state", "subscriber, state", "max") + " == 1",
                        "{{subscriber}} {{state}}",
                    ),
                ),
                help="down: its events wait in the log. degraded: gateway subscribers list gives the reason.",
            ),
            Panel(
                "Parked events appended again",
                ((rate("gateway_retry_moved_total", "reason"), "{{reason}}"),),
                "cps",
                help="Not attempted, because the subscriber is down, paused, slow or removed.",
            ),
            Panel(
                "Attempts not recorded",
                ((rate("gateway_attempts_unrecorded_total", "instance"), "{{instance}}"),),
                "cps",
            ),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    """The whole, as Grafana reads it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS:
        panels.append({"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "panels": []})
        panels[-1]["gridPos"] = {"x": 0, "y": y, "w": _WIDTH, "h": 1}
        y += 1
        x = 0
        height = 4 if row[0].kind == "stat" else 8
        for panel in row:
            if x + panel.width > _WIDTH:
                x, y = 0, y + height
            panels.append(_panel(len(panels) + 1, panel, {"x": x, "y": y, "w": panel.width, "h": height}))
            x += panel.width
        y += height
    return {
        "uid": UID,
        "title": "NXCloud gateway",
        "tags": ["nxcloud-gateway"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "panels": panels,
    }


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    options: dict[str, Any] = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    if panel.kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.help,
        "datasource": _DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": options,
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": _DATASOURCE, "expr": expression, "legendFormat": legend}
            for at, (expression, legend) in enumerate(panel.queries)
        ],
    }


def _variables() -> list[dict[str, Any]]:
    instances = 'label_values(up{job="nxcloud-gateway"}, instance)'
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1},
        {
            "name": "instance",
            "label": "Instance",
            "type": "query",
            "datasource": _DATASOURCE,
            "query": {"query": instances, "refId": "instances"},
            "definition": instances,
            "refresh": 2,
            "includeAll": True,
            "multi": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        },
    ]
