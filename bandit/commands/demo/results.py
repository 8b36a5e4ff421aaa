"""What the server's own log says it earned, against choosing evenly and against the best single area. Pure.

Rewards here are clicks per visitor; the baselines are exact, since the reward of every area is known for each visitor.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Visitors = NDArray[np.int64]

WINDOW = 2000  # rounds a point of the learning curve is the mean of
LATE = 8000  # rounds at the end that show what was learned


class Rounds(Protocol):
    """What judging needs to know of a data set (simulator.environments.datasets.FullInformation has it)."""

    @property
    def name(self) -> str:
        """The experiment's name."""

    @property
    def event(self) -> str:
        """The reward kind's name."""

    @property
    def arms(self) -> tuple[str, ...]:
        """Ids of the K arms."""

    @property
    def reward(self) -> Vector:
        """The reward of each arm in each round, shape (n, K)."""


@dataclass(eq=False)
class Tally:
    """What was sent and answered so far, in the order in which answers came.

    Attributes:
        run: begins every decision_id of this run, so that a directory used again holds no decision twice.
        start: when the first visitor was sent, in seconds of the caller's clock.
        seen: the visitors, shape (n,); filled up to `done`.
        reward: what each earned, shape (n,).
        clicks: feedback sent.
        positions: the states of the model that decided, by their position in the log.
    """

    run: str
    start: float
    seen: Visitors
    reward: Vector
    done: int = 0
    clicks: int = 0
    positions: set[str | int | None] = field(default_factory=set)

    @classmethod
    def of(cls, n: int, run: str, start: float) -> "Tally":
        """A tally for n visitors, still empty."""
        return cls(run, start, np.zeros(n, np.int64), np.zeros(n))

    def add(self, visitor: int, reward: float, position: str | int | None) -> None:
        """One visitor is done."""
        self.seen[self.done], self.reward[self.done] = visitor, reward
        self.done += 1
        self.positions.add(position)

    def rounds_per_refresh(self) -> float:
        """How many decisions share one state of the model, on average."""
        return self.done / max(1, len(self.positions))


@dataclass(frozen=True, eq=False)
class Baselines:
    """What two rules that never look at a visitor would have earned from each visitor, shape (n,) each."""

    uniform: Vector
    fixed: Vector
    area: str


@dataclass(frozen=True, eq=False)
class Log:
    """The decisions of one run as the server logged them, in log order.

    Attributes:
        visitors: whose decision it was, shape (rounds,).
        shown: index of the arm shown, shape (rounds,).
        credited: reward credited to it by all its feedback, shape (rounds,).
        feedback: number of feedback entries.
        earlier: decisions in the same log that are not of this run.
    """

    visitors: Visitors
    shown: Visitors
    credited: Vector
    feedback: int
    earlier: int


@dataclass(frozen=True)
class Check:
    """Something that must hold of the log, and the two numbers that must be equal for it."""

    claim: str
    expected: float
    got: float

    @property
    def holds(self) -> bool:
        """Whether the two are equal: counts and whole rewards, so exactly."""
        return self.expected == self.got


class _Shown(msgspec.Struct):
    arm: str


class _Row(msgspec.Struct):
    """The fields of an exported row that are needed here; the others are skipped unread."""

    type: str
    decision_id: str = ""
    arms: list[_Shown] = []
    credited: float = 0.0


def baselines(data: Rounds, order: Visitors) -> Baselines:
    """The two rules' rewards of every visitor; the best area is the best for the visitors of this order."""
    best = int(data.reward[order].mean(axis=0).argmax())
    return Baselines(data.reward.mean(axis=1), data.reward[:, best], data.arms[best])


def read_log(rows: Iterable[bytes], data: Rounds, run: str) -> Log:
    """The run's decisions and what was credited to each.

    Args:
        rows: exported rows of the experiment's log, one JSON object each.
        data: the data set the visitors came from.
        run: what the decision ids of the run begin with; the visitor's number follows after a dash.
    """
    column = {arm: a for a, arm in enumerate(data.arms)}
    decode = msgspec.json.Decoder(_Row).decode
    names: list[str] = []  # a decision logged twice stays twice: that is what the checks are for
    shown: list[int] = []
    credited: defaultdict[str, float] = defaultdict(float)
    feedback, earlier = 0, 0
    for row in map(decode, rows):
        ours = row.decision_id.startswith(run)
        if row.type == "decision" and ours:
            names.append(row.decision_id)
            shown.append(column[row.arms[0].arm])
        elif row.type == "feedback" and ours:
            feedback += 1
            credited[row.decision_id] += row.credited
        earlier += int(row.type == "decision" and not ours)
    visitors = np.array([int(name.rpartition("-")[2]) for name in names], np.int64)
    earned = np.array([credited[name] for name in names], np.float64)
    return Log(visitors, np.array(shown, np.int64), earned, feedback, earlier)


def checks(log: Log, sent: Tally, data: Rounds) -> list[Check]:
    """What must hold between the log, what was sent, and the data."""
    earned = data.reward[log.visitors, log.shown]
    return [
        Check("decisions in the log are those asked for", sent.done, len(log.visitors)),
        Check("feedback in the log is what was sent", sent.clicks, log.feedback),
        Check("reward credited is the clicks sent", sent.clicks, float(log.credited.sum())),
        Check("decisions credited other than their visitor's click", 0, int((log.credited != earned).sum())),
    ]


def recent(values: Vector, n: int) -> float:
    """Mean of the last n values (of all, if fewer); nan of none."""
    return float(values[-n:].mean()) if len(values) else float("nan")


def moving_mean(values: Vector, window: int = WINDOW) -> tuple[Vector, Vector]:
    """Rounds, and the mean over the window that ends there; at the start over as many as there are.

    The first point stands at a tenth of the window: before it there is mostly noise.
    """
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(min(len(values), max(1, window // 10)), len(values) + 1)
    begin = np.maximum(0, end - window)
    return end.astype(np.float64), (total[end] - total[begin]) / np.maximum(1, end - begin)
