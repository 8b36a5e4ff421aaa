"""What a report is about, with what several of its sections need worked out once; and what a section is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from matplotlib.figure import Figure

from bandit.arrays import Int, Matrix
from simulator.logs.log import Log
from simulator.ope.checks.overlap import Verdict
from simulator.ope.checks.reasons import LOST, likely
from simulator.ope.checks.sample_ratio import SampleRatio, sample_ratio
from simulator.ope.differences import Data, Difference, Side, earned, lift
from simulator.ope.evaluate import EstimatorRow, evaluate
from simulator.ope.lift.pair import Pair
from simulator.ope.lift.sentence import said_of
from simulator.ope.lift.traffic import Lift
from simulator.reporting.contrasts import windows
from simulator.reporting.doubts import doubts
from simulator.reporting.figures import Mark, Picture, finished
from simulator.reporting.formatting import MEANING, Ground, changed, confidence, sentence
from simulator.reporting.glossary import Term
from simulator.studies.run import Curve
from simulator.wording import amount, capped, number, ranged

HEADLINE = "dr"  # the estimator of every statement but the table of all: chosen before any was seen
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
    pair: Pair | None = None

    @cached_property
    def rows(self) -> dict[str, list[EstimatorRow]]:
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
        """What was earned, as text."""
        return ranged(self.earned.value, self.earned.low, self.earned.high)[0]

    @cached_property
    def lift(self) -> tuple[str, Lift] | None:
        """How much more one slice of the traffic earned than another, in a sentence; None where there are no two."""
        return said_of(self.log, self.alpha, self.pair)

    @cached_property
    def ratio(self) -> SampleRatio:
        """The sample-ratio check."""
        return sample_ratio(self.log)

    @property
    def each(self) -> str:
        """The noun for a row of the log: decision, or position where there are lists."""
        return "position" if self.log.position is not None and self.log.position.any() else "decision"

    @property
    def each_head(self) -> str:
        """The noun for rows at the head of a column."""
        return f"{self.each.capitalize()}s"

    @property
    def capped(self) -> str:
        """What a cap does to every reward of the page; empty where none is set."""
        return capped(self.how.get("cap"), float(self.log.reward.max()))

    @property
    def cuts(self) -> bool:
        """Whether a cap changes any reward."""
        return self.how.get("cap") is not None and bool(self.log.reward.max() > self.how["cap"])

    @property
    def unit(self) -> str:
        """What an axis of rewards is in, for a figure that is taken out of the page."""
        return f"reward per {self.each}" + (f", capped at {amount(self.how['cap'])}" if self.cuts else "")

    @cached_property
    def reasons(self) -> list[str]:
        """The probable reasons for a refusal; empty where no target is refused."""
        refused = any(self.headline(name).verdict == "refused" for name in self.targets)
        return likely(self.log) if refused else []

    @cached_property
    def doubts(self) -> list[str]:
        """What is in doubt about all that the page says."""
        warned = [each for each in self.ratio.warnings if not (self.reasons and each.endswith(LOST))]
        return [*self._turned(), *warned, *doubts(self.log, self.data, self.each)]

    def _turned(self) -> list[str]:
        """Sentences on targets whose difference has another sign without the cap."""
        if not self.cuts:
            return []
        data, found = Data.of(self.log, {**self.how, "cap": None}), []
        for name, pi in self.targets.items():
            here, there = self.gains[name], lift(data, pi, self.alpha)
            if here.clear and there.low is not None and here.value * there.value < 0:
                less = "less" if there.value < 0 else "more"
                told = f"without the cap the point estimate is that “{name}” earns {number(abs(there.value))} {less}"
                found.append(f"{told} than was earned: the cap reverses the sign")
        return found

    @cached_property
    def gains(self) -> dict[str, Difference]:
        """Each target less what was earned, alone."""
        return {name: lift(self.data, pi, self.alpha) for name, pi in self.targets.items()}

    @cached_property
    def over_time(self) -> dict[str, list[tuple[Int, Difference]]]:
        """Each target less what was earned, window by window of the log; all the windows hold at once."""
        found = {}
        for name, pi in self.targets.items():
            parts = windows(self.log, self.headline(name).n_eff)
            found[name] = [(rows, lift(self.data.take(rows), pi[rows], self.alpha / len(parts))) for rows in parts]
        return found

    def headline(self, name: str) -> EstimatorRow:
        """A target's DR."""
        return next(row for row in self.rows[name] if row.estimator == HEADLINE)

    @property
    def shade(self) -> str:
        """How the first sentence is set: as an interval's only where nothing is in doubt."""
        said = self.headline(self.main).verdict
        return "sequence" if said == "interval" and (self.doubts or self.changed(self.main)) else said

    def changed(self, name: str) -> str:
        """How a target's difference changed over time, if it clearly did."""
        return changed([each for _, each in self.over_time[name]])

    def said(self, name: str) -> str:
        """What the log says of a target, in one sentence."""
        reward = self.log.reward
        ground = Ground(
            self.earned.value,
            self.data.span,
            (float(reward.min()), float(reward.max())),
            self.each,
            self.capped if self.cuts else "",
            self.reasons,
            bool(self.doubts),
            self.changed(name),
        )
        return sentence(name, self.headline(name), self.gains[name], ground)

    @property
    def key(self) -> str:
        """What the marks of a figure are."""
        squares = f"Open squares: {MEANING['sequence']} (confidence sequences)."
        return f"For one look. Filled circles: {self.meaning('interval')}. {squares}"

    def meaning(self, said: Verdict) -> str:
        """A verdict in words: while something is in doubt, an interval is only an interval."""
        return "an interval, see “In doubt”" if said == "interval" and self.doubts else MEANING[said]

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
    """A note that m intervals were widened to hold at once; none for a single one."""
    which = "both" if m == 2 else f"all {m}"
    return [f"Intervals are widened so that {which} of them hold at once (Bonferroni)."] if m > 1 else []
