"""What came in contexts lately, feature by feature, beside what was declared: counted in the log itself.

So the figures are of all servers and outlive each of them, and what they cost is bounded by the decisions looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from bandit.core.experiment import Experiment
from bandit.core.features import X_MIN, Bins, Boolean, Category, Number, Rank, Valued, Vector
from bandit.core.features.special import encoded
from bandit.core.sums import ONE, X_MAX
from bandit.core.times import time_of
from bandit.log.records import Entry, Position, decision_head, unpack_decision
from bandit.log.vectors import unpack_x
from bandit.store.protocol import Store

ROWS = 10_000  # decisions looked at, the newest
ENTRIES = 50_000  # entries read for them
READ = 2000
ENOUGH = 100  # decisions: of fewer nothing is suggested
FULL, BEYOND = 0.95, 0.1  # shares in one bin, and beyond the edges, from which other edges are suggested
EDGES = "edges elsewhere would tell more apart; they ask for ?reset=true"
Grid = NDArray[np.int16]


class FeatureSeen(msgspec.Struct):
    """What came of one feature.

    Attributes:
        name: The feature's name.
        type: The feature's type.
        decisions: How many of the decisions looked at had it.
        missing: Of how many the value was absent or null; where a value stands for these, of how many it was that.
        other: Of how many the string was none of the levels.
        clipped: Of how many the number was out of what can be told apart: 8 scales from the mean; of a rank, at or
            beyond the first or the last edge.
        mean: The mean of the numbers that came (with log, of their logarithms); of a boolean the share of true.
        spread: The standard deviation of these numbers; of a vector the mean of its norms.
        declared_mean: What the document has for the mean, or what its min and max come to.
        declared_scale: What the document has for the scale, or what its min and max come to.
        suggestion: What would fit better, for people; left out where nothing stands out.
    """

    name: str
    type: str
    decisions: int
    missing: int = 0
    other: int | UnsetType = UNSET
    clipped: int | UnsetType = UNSET
    mean: float | UnsetType = UNSET
    spread: float | UnsetType = UNSET
    declared_mean: float | UnsetType = UNSET
    declared_scale: float | UnsetType = UNSET
    suggestion: str | UnsetType = UNSET


class FeaturesAnswer(msgspec.Struct):
    """What came in the newest decisions, at most 10,000 of them.

    Attributes:
        decisions: How many decisions were looked at.
        since: When the first of these was made, RFC 3339 in UTC; null where there is none.
        features: What came of each feature.
    """

    decisions: int
    since: str | None
    features: list[FeatureSeen]


def survey(store: Store, experiment: Experiment, upto: Position, rows: int = ROWS) -> FeaturesAnswer:
    """What came of each feature in the newest decisions of this generation up to a position of the log."""
    entries = list(islice(newest_decisions(store, experiment, upto), rows))
    decisions = [unpack_decision(entry.record) for entry in entries]
    layout, encoder = experiment.layout, experiment.encoder
    x = unpack_x([(each.x, each.head.flags) for each in decisions], encoder.d, layout)
    totals = np.array([layout.total_at(each.head.version) for each in decisions], np.int64)
    found = []
    for feature in encoder.features:
        had = totals > min(layout.columns[feature.name])
        found.append(_seen(feature, x[had][:, layout.at(feature)]))
    since = time_of(entries[-1].position.ms) if entries else None
    return FeaturesAnswer(len(entries), since, found)


def newest_decisions(store: Store, experiment: Experiment, upto: Position) -> Iterator[Entry]:
    """The newest decisions of this generation, the newest first."""
    read = 0
    while read < ENTRIES and (entries := store.read_back(experiment.name, upto, READ)):
        read += len(entries)
        for entry in entries:
            if entry.tag == b"d" and decision_head(entry.record).generation == experiment.config.generation:
                yield entry
        upto = entries[-1].position.before()


def _seen(feature: Valued, x: Grid) -> FeatureSeen:
    """What these columns of one feature tell."""
    told = FeatureSeen(feature.name, str(feature.__struct_config__.tag), len(x))
    present, elsewhere = x, ""
    if feature.missing != "refuse":
        gone = (x == encoded(feature, [None])).all(axis=1)
        told.missing = int(gone.sum())
        if feature.missing == "indicator":
            present = x[~gone, :-1]
    if isinstance(feature, Category) and feature.other:
        told.other = int((present[:, len(feature.levels)] != 0).sum())
    elif isinstance(feature, Number) and feature.transform is not None:
        elsewhere = _transformed(feature.transform, present, told)
    elif isinstance(feature, Number) and feature.cycle is None:
        _numbers(feature, present[:, 0], told)
    elif isinstance(feature, Boolean) and len(present):
        told.mean = float((present[:, 0] != 0).mean())
    elif isinstance(feature, Vector) and len(present):
        told.spread = float(np.sqrt((present / ONE) ** 2 @ np.ones(feature.length)).mean())
        told.clipped = int(((present == X_MAX) | (present == X_MIN)).any(axis=1).sum())
    if len(x) >= ENOUGH and (text := _suggestion(feature, told, elsewhere)):
        told.suggestion = text
    return told


def _numbers(feature: Number, column: Grid, told: FeatureSeen) -> None:
    told.declared_mean, told.declared_scale = feature.line()
    told.clipped = int(((column == X_MAX) | (column == X_MIN)).sum())
    if len(column):
        told.mean = told.declared_mean + told.declared_scale * float(column.mean()) / ONE
        told.spread = told.declared_scale * float(column.std()) / ONE


def _transformed(how: Bins | Rank, present: Grid, told: FeatureSeen) -> str:
    """Whether other edges would tell more apart, in words; and how many lie beyond those of a rank."""
    if isinstance(how, Bins):
        alone = int((present != 0).sum(axis=0).max(initial=0)) > FULL * len(present)
        return "nearly all are in one bin: " + EDGES if alone else ""
    told.clipped = int((np.abs(present[:, 0]) == ONE).sum())
    return "many are beyond the edges: " + EDGES if told.clipped > BEYOND * len(present) else ""


def _suggestion(feature: Valued, told: FeatureSeen, elsewhere: str) -> str:
    """What might be changed, in words; `elsewhere` is what `_transformed` says."""
    if 2 * told.missing > told.decisions and getattr(feature, "missing", None) == "indicator":  # else some were sent so
        return "it is mostly missing: leave it out, or see why"
    if told.other is not UNSET and 5 * told.other > told.decisions:
        return "many are none of the levels: add the frequent ones, which is live"
    if isinstance(feature, Number) and feature.transform is not None:
        return elsewhere
    if told.clipped is not UNSET and 100 * told.clipped > told.decisions:
        return _scaled(feature, told, "many are clipped")
    if isinstance(feature, Vector) and told.spread is not UNSET and not 0.1 <= told.spread <= 3:
        return "its norm should be about 1: divide it before it is sent"
    if UNSET in (told.mean, told.spread, told.declared_scale) or isinstance(feature, Vector):
        return ""
    far = abs(told.mean - told.declared_mean) > told.declared_scale  # type: ignore[operator]
    if far or not 1 / 3 <= told.spread / told.declared_scale <= 3:  # type: ignore[operator]
        return _scaled(feature, told, "what comes lies otherwise than declared")
    return ""


def _scaled(feature: Valued, told: FeatureSeen, why: str) -> str:
    """Why, and which scaling fits what came."""
    if isinstance(feature, Vector):
        return f"{why}: divide it before it is sent"
    of = " (of its logarithm)" if isinstance(feature, Number) and feature.log else ""
    return f"{why}: mean {told.mean:.3g} and scale {told.spread:.3g}{of} would fit; they ask for ?reset=true"
