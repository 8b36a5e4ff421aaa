"""What one process has counted: integers and floats in lists, added to without a lock.

    cell       [number], or of a histogram [count of each bucket, the last without a bound, then the sum of all values]
    snapshot   {metric: {label values: cell}}

The event loop's thread alone adds to cells that `cell` and `histogram` hand out. Any thread may `add` and `set`: they
write beside these cells, under a lock. So no number is ever added to by two threads at once.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Container, Mapping

import msgspec

from bandit.telemetry.table import EXPERIMENTS, LABEL_MAX, METRICS, OTHER, Metric

Cell = list[float]
Snapshot = dict[str, dict[tuple[str, ...], Cell]]


class Histogram:
    """A bound histogram: event loop only."""

    __slots__ = ("_bounds", "cell")

    def __init__(self, cell: Cell, bounds: tuple[float, ...]) -> None:
        self.cell, self._bounds = cell, bounds

    def observe(self, value: float) -> None:
        """Count a value."""
        self.cell[bisect_left(self._bounds, value)] += 1
        self.cell[-1] += value


class Counters:
    """The numbers of one process."""

    def __init__(self) -> None:
        self.moved = False  # whether anything was counted since this was last set to False; who adds to cells sets it
        self.gauges: list[Callable[[], None]] = []  # each sets gauges: called when somebody wants to see them
        self._cells: Snapshot = {name: {} for name in METRICS}
        self._beside: Snapshot = {name: {} for name in METRICS}
        self._lock = threading.Lock()
        self._experiments: dict[str, str] = {}

    def cell(self, name: str, *labels: str) -> Cell:
        """The number of these label values, to be kept and added to by the event loop.

        Raises:
            KeyError: the metric is not in the table.
        """
        return self._found(self._cells, METRICS[name], labels)

    def histogram(self, name: str, *labels: str) -> Histogram:
        """The histogram of these label values, to be kept and observed by the event loop."""
        return Histogram(self.cell(name, *labels), METRICS[name].buckets)

    def add(self, name: str, *labels: str, by: float = 1) -> None:
        """Add to a counter, from any thread."""
        with self._lock:
            self._found(self._beside, METRICS[name], labels)[0] += by
        self.moved = True

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Count a value in a histogram, from any thread."""
        metric = METRICS[name]
        with self._lock:
            Histogram(self._found(self._beside, metric, labels), metric.buckets).observe(value)
        self.moved = True

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge, from any thread."""
        with self._lock:
            self._found(self._beside, METRICS[name], labels)[0] = float(value)

    def clear(self, name: str) -> None:
        """Forget a gauge's values: those of experiments that have gone are not shown for ever."""
        with self._lock:
            self._beside[name].clear()

    def _found(self, cells: Snapshot, metric: Metric, labels: tuple[str, ...]) -> Cell:
        own = cells[metric.name]
        if (cell := own.get(labels)) is not None:
            return cell
        if len(labels) != len(metric.labels):
            raise ValueError(f"{metric.name} has the labels {metric.labels}")
        labels = tuple(value if len(value) <= LABEL_MAX else OTHER for value in labels)
        if by_experiment(metric):
            labels = (self.experiment(labels[0]), *labels[1:])
        others = (OTHER,) * len(labels)
        if labels not in own and len(own) - (others in own) >= metric.most - 1:  # the last place is theirs
            labels = others
        return own.setdefault(labels, [0.0] * (len(metric.buckets) + 2) if metric.buckets else [0.0])

    def experiment(self, name: str) -> str:
        """An experiment's label: its name, for the first `EXPERIMENTS` that come; nothing where it is none."""
        if not name:
            return name
        if name in self._experiments or len(self._experiments) < EXPERIMENTS:
            return self._experiments.setdefault(name, name)
        return OTHER

    def keep(self, experiments: Container[str]) -> None:
        """Give back the places of all experiments but these, and forget their numbers: event loop only.

        Nobody may have kept a cell of another one.
        """
        gone = {name for name in list(self._experiments) if name not in experiments and name != OTHER}
        if not gone:
            return
        with self._lock:
            for metric in filter(by_experiment, METRICS.values()):
                for cells in (self._cells[metric.name], self._beside[metric.name]):
                    for labels in [labels for labels in cells if labels[0] in gone]:
                        del cells[labels]
            for name in gone:
                del self._experiments[name]

    def look(self) -> None:
        """Bring the gauges up to date: event loop only."""
        for gauge in self.gauges:
            gauge()

    def snapshot(self) -> Snapshot:
        """A copy of everything counted so far: event loop only."""
        found: Snapshot = {
            name: {key: list(cell) for key, cell in cells.items()} for name, cells in self._cells.items()
        }
        with self._lock:
            merge(found, self._beside)
        return found

    def load(self, before: Snapshot) -> None:
        """Go on from the numbers of a process that has ended: its gauges went with it, but for lasting ones."""
        with self._lock:
            for name, cells in before.items():
                metric = METRICS.get(name)
                if metric is not None and (metric.kind != "gauge" or metric.lasting):
                    for labels, numbers in cells.items():
                        cell = self._found(self._beside, metric, labels)
                        cell[:] = _together(metric, cell, numbers)


def by_experiment(metric: Metric) -> bool:
    """Whether its first label is the experiment."""
    return metric.labels[:1] == ("experiment",)


def merge(into: Snapshot, other: Mapping[str, Mapping[tuple[str, ...], Cell]]) -> None:
    """Put another snapshot's numbers to these, each metric in its own way (`over`)."""
    for name, cells in other.items():
        if (metric := METRICS.get(name)) is None:
            continue  # of another version
        own = into.setdefault(name, {})
        for labels, numbers in cells.items():
            mine = own.get(labels)
            own[labels] = list(numbers) if mine is None else _together(metric, mine, numbers)


def _together(metric: Metric, mine: Cell, other: Cell) -> Cell:
    if len(mine) != len(other):
        return mine  # the other is of a version with other buckets
    if metric.over == "min":
        return [min(mine[0], other[0])]
    if metric.over == "max":
        return [max(mine[0], other[0])]
    return [a + b for a, b in zip(mine, other, strict=True)]


def pack(snapshot: Snapshot) -> bytes:
    """A snapshot as bytes, without what nothing was counted of."""
    return _PACK.encode({name: list(cells.items()) for name, cells in snapshot.items() if cells})


def unpack(data: bytes) -> Snapshot:
    """A snapshot from its bytes."""
    return {name: dict(cells) for name, cells in _UNPACK.decode(data).items()}


_PACK = msgspec.msgpack.Encoder()
_UNPACK = msgspec.msgpack.Decoder(dict[str, list[tuple[tuple[str, ...], list[float]]]])
