"""What several processes export, as one text: every sample gets the label ``worker``.

Rejected: the multiprocess mode of prometheus_client, in which workers share files. It knows no gauge that goes away
(``gateway_kafka_up`` of a client that was closed), keeps files of the dead, and slows the counting in hot paths.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample


class Merged(Collector):
    """Families of several expositions, each once.

    Args:
        own: of this process, in Prometheus' text format; taken as it is.
        workers: the same, by worker number.

    Raises:
        ValueError: a text is not in that format.
    """

    def __init__(self, own: str, workers: Mapping[int, str]) -> None:
        self._families: dict[str, Metric] = {}
        for family in text_string_to_metric_families(own):
            self._family(family).samples += family.samples
        for number, text in workers.items():
            label = {"worker": str(number)}
            for family in text_string_to_metric_families(text):
                self._family(family).samples += [_labelled(sample, label) for sample in family.samples]

    def collect(self) -> Iterator[Metric]:
        """The families."""
        yield from self._families.values()

    def text(self) -> bytes:
        """In Prometheus' text format."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def _family(self, like: Metric) -> Metric:
        return self._families.setdefault(like.name, Metric(like.name, like.documentation, like.type))


def _labelled(sample: Sample, label: Mapping[str, str]) -> Sample:
    return sample._replace(labels={**sample.labels, **label})
