"""The newest decisions of an experiment, each with what feedback has credited to its first position.

The log is read backwards, so the cost does not depend on its length. A decision's feedback comes after it, so it is met
first, and the first entry that is met of a decision's arm has its credits as they stand now; that entry is feedback, or
the activation that credited feedback which had waited for it. What is known of a decision is dropped where the decision
is met, and what came after the window's middle goes into sums as it is read: so memory grows with the number of rows
asked for, not with the log.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit.arrays import Int, Mask, Matrix, Vector
from bandit.core.draw import draw
from bandit.core.engine import Model
from bandit.core.experiment import Config, Experiment
from bandit.core.sums import Sums, increments
from bandit.log.events import read_events
from bandit.log.records import (
    DEFERRED,
    PENDING,
    Entry,
    Position,
    decision_head,
    read_config,
    unpack_activation,
    unpack_decision,
    unpack_feedback,
)
from bandit.log.vectors import unpack_x
from bandit.store.protocol import Store

READ = 2000  # entries a read
FOLD = 8192  # entries put into sums at a time
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
        slice: slice that each was decided by, 0 where there are none, shape (n,).
        shares: of each slice of the generation at that decision, all 0 where traffic was not sliced, shape (n, G).
        user: whose decision it is, empty where nobody was named, n of them.
        arm: index of the arm shown (at the first position), shape (n,).
        propensity: with which it was drawn, shape (n,).
        probability: of every arm within the slice, 0 where it was not eligible, shape (n, K).
        mixture: of every arm over all slices, shape (n, K); the same array where traffic is not sliced.
        eligible: whether it was, shape (n, K): without exploration many that were had probability 0.
        shadow: index of the arm that would have been shown, had it not been in shadow; -1 where it was not, shape (n,).
        x: feature vectors on the grid, shape (n, d).
        credits: of each kind as they stand, in the kind's units, shape (n, m).
        earned: the same of all arms of a list together, shape (n, m).
        at: position of each decision, n of them.
        arms: indices of the arms that have learned since the middle decision (n // 2), ascending.
        later: what the log added to the sums of these arms since then, one row each.
        delays: how long the rewards took that came since the first of these decisions.
        cut: whether the window has older decisions, beyond `rows`.
        waiting: decisions left out because they were deferred and have not been activated.
        configs: the experiment's changes, the oldest first, each with its time, and what these decisions began with
            where it was met.
    """

    ms: Int
    slice: Int
    shares: Matrix
    user: list[bytes]
    arm: Int
    propensity: Vector
    probability: Matrix
    mixture: Matrix
    eligible: Mask
    shadow: Int
    x: NDArray[np.int16]
    credits: Int
    earned: Int
    at: list[Position]
    arms: Int
    later: Sums
    delays: Delays
    cut: bool
    waiting: int
    configs: list[tuple[int, Config]]

    def __len__(self) -> int:
        return len(self.arm)


class Delays:
    """How long rewards take, from decisions older than the reward window, whose feedback is complete.

    Args:
        end_ms: the log's end, from which ages count.
        window_ms: the reward window.
    """

    def __init__(self, end_ms: int, window_ms: int) -> None:
        self.until = end_ms - window_ms
        self._of: dict[Hashable, array[int]] = {}

    def take(self, kind: Hashable, decided_ms: int, came_ms: int) -> None:
        """Note when a decision's credit for an arm and a kind last changed."""
        if decided_ms <= self.until:
            self._of.setdefault(kind, array("q")).append(came_ms - decided_ms)

    def sizes(self) -> dict[Hashable, int]:
        """How many of each kind have been taken so far."""
        return {kind: len(each) for kind, each in self._of.items()}

    def cut(self, sizes: dict[Hashable, int]) -> None:
        """Leave out what was taken after these sizes were asked for."""
        self._of = {kind: self._of[kind][:size] for kind, size in sizes.items()}

    def matured(self, kind: Hashable, ages_ms: Int) -> float | None:
        """The share of a kind's rewards that has come to decisions of these ages; None where nothing tells."""
        if not (known := self._of.get(kind)) or not len(ages_ms):
            return None
        return float(np.searchsorted(np.sort(known), ages_ms, side="right").mean()) / len(known)

    def matured_ms(self) -> int | None:
        """The age by which 99 % of each kind's rewards had come; None where no decision is old enough to tell."""
        return max((int(np.quantile(each, MOST, method="higher")) for each in self._of.values()), default=None)


def recent(store: Store, experiment: Experiment, upto: Position, window: Window) -> Recent:
    """The newest decisions of the window, with all feedback up to a position of the log.

    Raises:
        CorruptLog: an entry cannot be read.
    """
    reader = _Reader(experiment, window, Delays(upto.ms, experiment.window_ms))
    for entry in _backwards(store, experiment.name, upto):
        if not reader.take(entry):
            break
    return reader.result()


def _backwards(store: Store, name: str, upto: Position) -> Iterator[Entry]:
    while entries := store.read_back(name, upto, READ):
        yield from entries
        upto = entries[-1].position.before()


@dataclass
class _Open:
    """What later entries say of a decision that has not been met yet."""

    credits: dict[int, Credits] = field(default_factory=dict)  # of each arm
    changed: set[tuple[int, int]] = field(default_factory=set)  # arms and kinds whose last change has been met
    active: bool = False  # it was deferred, and has been activated


@dataclass
class _Reader:
    """Takes entries from the newest to the oldest."""

    experiment: Experiment
    window: Window
    delays: Delays
    rows: list[tuple[Entry, _Open]] = field(default_factory=list)  # decisions that count
    open: dict[Position, _Open] = field(default_factory=dict)
    sizes: dict[Hashable, int] = field(default_factory=dict)  # of delays, up to the oldest decision that counts
    waiting: int = 0
    cut: bool = False
    configs: list[tuple[int, Config]] = field(default_factory=list)  # the newest first

    def __post_init__(self) -> None:
        self.sums, self.learned = Sums.zeros(*self.experiment.shape), np.zeros(self.experiment.shape[0], bool)
        self.later: list[Entry] = []  # from the middle decision on, not in the sums yet
        self.earlier: deque[Entry] = deque()  # the others, newest first
        self.middle = 0  # decisions that count among the later ones

    def take(self, entry: Entry) -> bool:
        """Take one entry; False where no earlier one is wanted."""
        if entry.position.ms < self.window.since_ms or self._older(entry):
            return False
        if entry.tag == b"d":
            return self._decision(entry)
        if entry.tag == b"f":
            self._feedback(entry)
        elif entry.tag == b"a":
            self._activation(entry)
        elif entry.tag == b"x":
            self.configs.append((entry.position.ms, read_config(entry.record)))
        return True

    def _older(self, entry: Entry) -> bool:
        """Whether an entry is a config of an earlier generation."""
        return entry.tag == b"x" and read_config(entry.record).generation < self.experiment.config.generation

    def _decision(self, entry: Entry) -> bool:
        known = self.open.pop(entry.position, None) or _Open()
        head = decision_head(entry.record)
        waits = bool(head.flags & DEFERRED) and not known.active
        if head.generation != self.experiment.config.generation:
            return True
        if waits or entry.position.ms >= self.window.until_ms:
            self.waiting += waits and entry.position.ms < self.window.until_ms
            if not head.flags & DEFERRED:
                self._keep(entry)
            return True
        if len(self.rows) == self.window.rows:
            self.cut = True
            return False
        self.rows.append((entry, known))
        self._keep(entry)
        self._move()
        self.sizes = self.delays.sizes()
        return True

    def _feedback(self, entry: Entry) -> None:
        feedback = unpack_feedback(entry.record)
        if feedback.generation != self.experiment.config.generation:
            return
        if not feedback.flags & PENDING:
            self._keep(entry)
        known = self.open.setdefault(feedback.decision, _Open())
        known.credits.setdefault(feedback.arm, feedback.new)
        change = feedback.arm, feedback.kind
        same = feedback.new == feedback.old or feedback.refund_of  # a few refunds, weeks later, would make all immature
        if same or change in known.changed or not self.experiment.kinds[feedback.kind].weight:
            return
        known.changed.add(change)
        self.delays.take(feedback.kind, feedback.decision.ms, entry.position.ms)

    def _activation(self, entry: Entry) -> None:
        activation = unpack_activation(entry.record)
        if activation.generation != self.experiment.config.generation:
            return
        self._keep(entry)
        known = self.open.setdefault(activation.decision, _Open())
        known.active = True
        for arm, credit in zip(activation.arms, activation.credits, strict=True):
            known.credits.setdefault(arm, credit)

    def _keep(self, entry: Entry) -> None:
        """Keep an entry for the sums; what is newer than every decision that counts is later than their middle."""
        (self.earlier if self.rows else self.later).append(entry)
        if len(self.later) >= FOLD:
            self._fold()

    def _move(self) -> None:
        """Move the middle: of n decisions that count, the newer n - n // 2 are later."""
        while self.middle < len(self.rows) - len(self.rows) // 2:
            entry = self.earlier.popleft()
            self.later.append(entry)
            self.middle += entry is self.rows[self.middle][0]

    def _fold(self) -> None:
        _, m, d = self.experiment.shape
        batch = read_events(
            self.later, self.experiment.config.generation, self.experiment.defaults, m, d, self.experiment.layout
        )
        arms, added = increments(batch.events)
        self.sums.add(arms, added)
        self.learned[arms] = True
        self.later = []

    def result(self) -> Recent:
        """What was taken, the oldest first."""
        self._fold()
        self.learned &= len(self.rows) > 0
        self.delays.cut(self.sizes)
        K, m, d = self.experiment.shape
        n, arms = len(self.rows), np.flatnonzero(self.learned)
        P, eligible, credits_ = np.zeros((n, K)), np.zeros((n, K), bool), np.zeros((2, n, m), np.int64)
        slice_, arm, propensity = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n)
        shares, mixture = np.zeros((n, len(self.experiment.config.slices))), P
        shadow = np.full(n, -1)
        users: list[bytes] = []
        x: list[tuple[bytes, int]] = []
        for i, (entry, known) in enumerate(reversed(self.rows)):
            decision = unpack_decision(entry.record)
            P[i, decision.eligible], eligible[i, decision.eligible] = decision.probabilities, True
            slice_[i], arm[i], propensity[i] = decision.head.slice, decision.arms[0], decision.propensities[0]
            if decision.slices and mixture is P:
                mixture = np.zeros((n, K))
                mixture[:i] = P[:i]
            if mixture is not P and not decision.slices:
                mixture[i] = P[i]
            for part in decision.slices:
                shares[i, part.slice] = part.share
                mixture[i, decision.eligible] += part.share * part.probabilities
                if (self.experiment.config.slices[part.slice], part.share) == ("learned", 0.0):
                    shadow[i] = decision.eligible[draw(part.probabilities[None], np.array([decision.head.u]))[0]]
            start = self.experiment.defaults[: decision.head.m]
            each = [known.credits.get(shown, start) for shown in decision.arms]
            credits_[:, i, : len(each[0])] = each[0], np.sum(each, axis=0) if len(each) > 1 else each[0]
            users.append(decision.user)
            x.append((decision.x, decision.head.flags))
        at = [entry.position for entry, _ in reversed(self.rows)]
        return Recent(
            ms=np.array([position.ms for position in at], np.int64),
            slice=slice_,
            shares=shares,
            user=users,
            arm=arm,
            propensity=propensity,
            probability=P,
            mixture=mixture,
            eligible=eligible,
            shadow=shadow,
            x=unpack_x(x, d, self.experiment.layout),
            credits=credits_[0],
            earned=credits_[1],
            at=at,
            arms=arms,
            later=Sums(*(part[arms] for part in (self.sums.A, self.sums.B, self.sums.R, self.sums.n))),
            delays=self.delays,
            cut=self.cut,
            waiting=self.waiting,
            configs=self.configs[::-1],
        )


def model_then(experiment: Experiment, sums: Sums, found: Recent, also: Mask) -> Model:
    """The model as it stood at the middle of these decisions: by the sums of now less what the log added since.

    Args:
        experiment: the version in force.
        sums: of now.
        found: the decisions.
        also: arms that it scores although they are retired, shape (K,).
    """
    before, added = sums.copy(), found.later
    before.add(found.arms, Sums(-added.A, -added.B, -added.R, -added.n))
    model = Model(experiment, before, also=also)
    while model.refresh():
        pass
    return model
