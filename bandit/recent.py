"""The newest decisions of an experiment, each with what feedback has credited to its first place.

The log is read backwards, so that what is needed costs the same however long it is. A decision's feedback comes after
it, so whoever goes back meets it first, and the first entry met of a decision's arm has its credits as they stand: of
feedback, or of the activation with which what had waited was credited.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit.experiment import Experiment
from bandit.linear import Matrix, Vector
from bandit.log import (
    DEFERRED,
    Decision,
    Entry,
    Position,
    decision_head,
    read_config,
    unpack_activation,
    unpack_decision,
    unpack_feedback,
    unpack_x,
)
from bandit.scoring import Mask
from bandit.store import Store
from bandit.sums import Int

READ = 2000  # entries a read
MOST = 0.99  # of a kind's rewards
Credits = tuple[int, ...]


class Window(NamedTuple):
    """Which decisions are wanted: made in [since, until), both in the store's milliseconds; at most `rows` of them."""

    since_ms: int
    until_ms: int
    rows: int


@dataclass(frozen=True, eq=False)
class Recent:
    """n decisions in the order of the log, of one generation.

    Attributes:
        ms: when, shape (n,).
        slice: share of traffic that each belongs to, 0 where there are none, shape (n,).
        arm: index of the arm shown (in the first place), shape (n,).
        propensity: with which it was drawn, shape (n,).
        probability: of every arm, 0 where it was not eligible, shape (n, K).
        eligible: whether it was, shape (n, K): without exploration many that were had probability 0.
        x: feature vectors on the grid, shape (n, d).
        credits: of each kind as they stand, in the kind's units, shape (n, m).
        at: position of each decision, n of them.
        entries: all entries of the log from the first of these decisions on.
        cut: whether the window has older decisions, beyond `rows`.
        waiting: decisions left out because they were deferred and have not been activated.
    """

    ms: Int
    slice: Int
    arm: Int
    propensity: Vector
    probability: Matrix
    eligible: Mask
    x: NDArray[np.int16]
    credits: Int
    at: list[Position]
    entries: list[Entry]
    cut: bool
    waiting: int

    def __len__(self) -> int:
        return len(self.arm)


class Delays:
    """How long rewards take: learned from decisions older than the reward window, whose feedback is complete.

    Args:
        end_ms: the log's end, from which ages count.
        window_ms: the reward window.
    """

    def __init__(self, end_ms: int, window_ms: int) -> None:
        self.until = end_ms - window_ms
        self._last: dict[Hashable, tuple[Hashable, int]] = {}

    def take(self, credit: Hashable, kind: Hashable, decided_ms: int, came_ms: int) -> None:
        """A change of what a decision was credited; the last one of each `credit` counts."""
        if decided_ms <= self.until:
            self._last[credit] = kind, came_ms - decided_ms

    def matured_ms(self) -> int | None:
        """The age by which 99 % of each kind's rewards had come; None where no decision is old enough to tell."""
        kinds: dict[Hashable, list[int]] = {}
        for kind, delay in self._last.values():
            kinds.setdefault(kind, []).append(delay)
        return max((int(np.quantile(each, MOST, method="higher")) for each in kinds.values()), default=None)


def delays_of(found: Recent, experiment: Experiment, end_ms: int) -> Delays:
    """What the entries of a window say of rewards that count."""
    delays = Delays(end_ms, experiment.window_ms)
    for entry in found.entries:
        if entry.tag == b"f":
            feedback = unpack_feedback(entry.record)
            if feedback.new != feedback.old and experiment.kinds[feedback.kind].weight:
                credit = feedback.decision, feedback.arm, feedback.kind
                delays.take(credit, feedback.kind, feedback.decision.ms, entry.position.ms)
    return delays


def recent(store: Store, experiment: Experiment, upto: Position, window: Window) -> Recent:
    """The newest decisions of the window, with all feedback up to a position of the log.

    Raises:
        CorruptLog: an entry cannot be read.
    """
    reader = _Reader(experiment, window)
    for entry in _backwards(store, experiment.name, upto):
        if not reader.take(entry):
            break
    return reader.result()


def _backwards(store: Store, name: str, upto: Position) -> Iterator[Entry]:
    while entries := store.read_back(name, upto, READ):
        yield from entries
        last = entries[-1].position
        upto = Position(last.ms, last.seq - 1) if last.seq else Position(last.ms - 1, 2**64 - 1)


@dataclass
class _Reader:
    """Takes entries from the newest on."""

    experiment: Experiment
    window: Window
    decisions: list[tuple[Position, Decision, Credits]] = field(default_factory=list)
    credits: dict[tuple[Position, int], Credits] = field(default_factory=dict)
    active: set[Position] = field(default_factory=set)  # deferred decisions that have been activated
    entries: list[Entry] = field(default_factory=list)
    kept: int = 0  # entries up to the oldest decision that counts
    waiting: int = 0
    cut: bool = False

    def take(self, entry: Entry) -> bool:
        """Take one entry; False where no earlier one is wanted."""
        if entry.position.ms < self.window.since_ms or self._older(entry):
            return False
        self.entries.append(entry)
        if entry.tag == b"d":
            return self._decision(entry)
        if entry.tag == b"f":
            self._feedback(entry)
        elif entry.tag == b"a":
            self._activation(entry)
        return True

    def _older(self, entry: Entry) -> bool:
        """Whether an entry is a config of a generation before."""
        return entry.tag == b"x" and read_config(entry.record).generation < self.experiment.config.generation

    def _decision(self, entry: Entry) -> bool:
        head = decision_head(entry.record)
        if head.generation != self.experiment.config.generation or entry.position.ms >= self.window.until_ms:
            return True
        if head.flags & DEFERRED and entry.position not in self.active:
            self.waiting += 1
            return True
        if len(self.decisions) == self.window.rows:
            self.cut = True
            return False
        decision = unpack_decision(entry.record)
        start = self.experiment.defaults[: head.m]
        self.decisions.append((entry.position, decision, self.credits.get((entry.position, decision.arms[0]), start)))
        self.kept = len(self.entries)
        return True

    def _feedback(self, entry: Entry) -> None:
        feedback = unpack_feedback(entry.record)
        self.credits.setdefault((feedback.decision, feedback.arm), feedback.new)

    def _activation(self, entry: Entry) -> None:
        activation = unpack_activation(entry.record)
        self.active.add(activation.decision)
        for arm, credit in zip(activation.arms, activation.credits, strict=True):
            self.credits.setdefault((activation.decision, arm), credit)

    def result(self) -> Recent:
        """What was taken, the oldest first."""
        K, m, d = self.experiment.shape
        rows = self.decisions[::-1]
        n = len(rows)
        P, eligible, credits_ = np.zeros((n, K)), np.zeros((n, K), bool), np.zeros((n, m), np.int64)
        for i, (_, decision, credit) in enumerate(rows):
            P[i, decision.eligible], eligible[i, decision.eligible] = decision.probabilities, True
            credits_[i, : len(credit)] = credit
        return Recent(
            ms=np.array([at.ms for at, _, _ in rows], np.int64),
            slice=np.array([decision.head.slice for _, decision, _ in rows], np.int64),
            arm=np.array([decision.arms[0] for _, decision, _ in rows], np.int64),
            propensity=np.array([decision.propensities[0] for _, decision, _ in rows]),
            probability=P,
            eligible=eligible,
            x=unpack_x([(decision.x, decision.head.flags) for _, decision, _ in rows], d),
            credits=credits_,
            at=[at for at, _, _ in rows],
            entries=self.entries[: self.kept][::-1],
            cut=self.cut,
            waiting=self.waiting,
        )
