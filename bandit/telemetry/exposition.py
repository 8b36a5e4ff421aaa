"""The numbers of all processes as Prometheus reads them: text 0.0.4 or OpenMetrics, by `prometheus_client`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector, CollectorRegistry

from bandit.telemetry.counters import Snapshot, by_experiment, merge
from bandit.telemetry.table import METRICS, OTHER, Metric


def together(parts: Iterable[tuple[str, bool, Snapshot]]) -> Snapshot:
    """The numbers of all processes.

    Args:
        parts: of each process its number, whether it lives, and what it counted. Of one that has ended gauges do not
            count, but for lasting ones.
    """
    found: Snapshot = {}
    parts = list(parts)
    named = _named_by_all([snapshot for _, _, snapshot in parts])
    for worker, lives, snapshot in parts:
        for name, cells in snapshot.items():
            metric = METRICS.get(name)
            if metric is None or (metric.kind == "gauge" and not (lives or metric.lasting)):
                continue
            if metric.over == "worker":
                found.setdefault(name, {}).update({(*labels, worker): cell for labels, cell in cells.items()})
            elif named is None or not by_experiment(metric):
                merge(found, {name: cells})
            else:
                for labels, cell in cells.items():
                    merge(found, {name: {(labels[0] if labels[0] in named else OTHER, *labels[1:]): cell}})
    return found


def _named_by_all(snapshots: list[Snapshot]) -> set[str] | None:
    """The experiments that every process names which has more than it may name: of another one some numbers are under
    `other` already, so all go there. None where there is no such process.
    """
    full = [names for snapshot in snapshots if OTHER in (names := _names(snapshot))]
    return set.intersection(*full) | {""} if full else None


def _names(snapshot: Snapshot) -> set[str]:
    metrics = [name for name in snapshot if name in METRICS and by_experiment(METRICS[name])]
    return {labels[0] for name in metrics for labels in snapshot[name]}


def rendered(snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
    """(the text, its content type), in the form that an Accept header asks for."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Numbers(snapshot))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Numbers(Collector):
    """Every metric of the table, with or without numbers."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Family]:
        """Each metric, its label sets in order."""
        for metric in METRICS.values():
            yield _family(metric, self._snapshot.get(metric.name, {}))


def _family(metric: Metric, cells: dict[tuple[str, ...], list[float]]) -> Family:
    labels = (*metric.labels, "worker") if metric.over == "worker" else metric.labels
    ordered = sorted(cells.items())
    if not ordered and not labels and metric.kind != "gauge":  # of what never happened the count is known
        ordered = [((), [0.0] * (len(metric.buckets) + 2))]
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=labels)
        bounds = [*(f"{bound:g}" for bound in metric.buckets), "+Inf"]
        for values, numbers in ordered:
            counts = list(zip(bounds, accumulate(numbers[:-1]), strict=True))
            histogram.add_metric(values, counts, numbers[-1])
        return histogram
    made = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = made(metric.name.removesuffix("_total"), metric.help, labels=labels)
    for values, numbers in ordered:
        family.add_metric(values, numbers[0])
    return family
