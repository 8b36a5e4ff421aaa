"""What a report is about, with what several of its sections need worked out once; and what a section is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from matplotlib.figure import Figure

from bandit.linear import Matrix
from simulator.differences import Data, Difference, Side, earned, lift
from simulator.evaluation import Row, evaluate
from simulator.logged import Log
from simulator.reporting.figures import Mark, Picture, finished
from simulator.reporting.guide import Term
from simulator.reporting.words import MEANING, confidence, ranged, sentence
from simulator.runs import Curve
from simulator.sample_ratio import SampleRatio, sample_ratio

HEADLINE = "dr"  # the estimator of every statement but the table of all: chosen before any was seen
KEY = (
    f"For one look. Filled circles: {MEANING['interval']}. Open squares: {MEANING['sequence']} (confidence sequences)."
)
BELOW = "The numbers are in the table below."


@dataclass(frozen=True)
class Table:
    """A table; columns named in `words` are text, those in `prose` long text, the others numbers."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[str] = ()
    prose: Sequence[str] = ()
    refused: str = MEANING["refused"]

    def kind(self, column: int) -> str:
        """How a column is set."""
        name = self.head[column]
        return "text" if name in self.words else "prose" if name in self.prose else "number"


@dataclass(frozen=True)
class Section:
    """One part of the page."""

    anchor: str
    title: str
    text: Sequence[str] = ()
    picture: Picture | None = None
    caption: str = ""
    table: Table | None = None
    notes: Sequence[str] = ()
    terms: Sequence[Term] = ()


@dataclass(frozen=True, eq=False)
class Subject:
    """What a report is about. Arguments are those of `report`; `png`: whether figures are also wanted as bitmaps."""

    log: Log
    targets: Mapping[str, Matrix]
    how: Mapping[str, Any]
    settings: Mapping[str, object]
    curves: Sequence[Curve]
    segment: str | None
    png: bool

    @cached_property
    def rows(self) -> dict[str, list[Row]]:
        """Every target's evaluation, DR among it."""
        names = self.how.get("estimators")
        how = {**self.how, "estimators": names if names is None or HEADLINE in names else [HEADLINE, *names]}
        return {name: evaluate(self.log, target, **how) for name, target in self.targets.items()}

    @cached_property
    def data(self) -> Data:
        """The log with its model; rewards capped where that is asked for."""
        return Data.of(self.log, self.how)

    @property
    def alpha(self) -> float:
        """1 - confidence."""
        return float(self.how.get("alpha", 0.05))

    @property
    def level(self) -> str:
        """The confidence for people."""
        return confidence(self.alpha)

    @cached_property
    def main(self) -> str:
        """The target that the report is about: the best of those clearly better than what was earned, else the first.

        Clear means clear for all of them at once: the best of many looks better than it is.
        """
        gains = {name: lift(self.data, pi, self.alpha / len(self.targets)) for name, pi in self.targets.items()}
        better = {name: gain.value for name, gain in gains.items() if gain.clear and gain.value > 0}
        return max(better, key=better.__getitem__, default=next(iter(self.targets)))

    @cached_property
    def earned(self) -> Side:
        """What the log's own policy earned."""
        return earned(self.data, self.alpha)

    @property
    def earnings(self) -> str:
        """The same for people."""
        return ranged(self.earned.value, self.earned.low, self.earned.high)[0]

    @cached_property
    def ratio(self) -> SampleRatio:
        """The sample-ratio check."""
        return sample_ratio(self.log)

    def headline(self, name: str) -> Row:
        """A target's DR."""
        return next(row for row in self.rows[name] if row.estimator == HEADLINE)

    def said(self, name: str) -> str:
        """What the log says of a target, in one sentence."""
        return sentence(name, self.headline(name), lift(self.data, self.targets[name], self.alpha), self.earnings)

    def drawn(self, figure: Figure, name: str, alt: str) -> Picture:
        """The figure as files in memory."""
        return finished(figure, name, alt, png=self.png)


def mark_of(name: str, found: Difference) -> Mark:
    """A difference to be drawn."""
    return Mark(name, found.value, found.low, found.high, found.verdict)


def mark_alone(name: str, side: Side) -> Mark:
    """A mean to be drawn."""
    return Mark(name, side.value, side.low, side.high, side.verdict)


def widened(m: int) -> list[str]:
    """That m intervals stand together."""
    return [f"Intervals are widened so that all {m} of them hold at once (Bonferroni)."] if m > 1 else []
