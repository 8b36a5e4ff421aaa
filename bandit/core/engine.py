"""The engine: a model learns events and decides. It is pure: the server and the simulator run the same one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit.arrays import Int, Mask, Matrix, Vector
from bandit.core.draw import Choice, draw
from bandit.core.experiment import Experiment
from bandit.core.features import Layout
from bandit.core.policies import Rule, Shown, Uniform
from bandit.core.policies.lists import draw_lists
from bandit.core.ridge.estimates import EVERY, Estimates
from bandit.core.ridge.evidence import Evidence
from bandit.core.ridge.linear import loose_range, rounded_scale
from bandit.core.ridge.scoring import SMALL, Rows, Scorer
from bandit.core.sums import LIMB, ONE, Events, Sums, increments
from bandit.core.waiting import Waiting

SCRATCH = 8 << 20  # bytes that learning and refreshing take beside the model
CHUNK = 64  # arms refreshed at a time: short enough not to hold up a decision


class ShownScores(NamedTuple):
    """The scores of the arms shown, one row an arm, in order; they are answered, and not needed to learn."""

    score: Vector  # (n,)
    means: Matrix  # (n, m) x'theta_k of each kind
    width: Vector  # (n,)


class Decided(NamedTuple):
    """N decisions."""

    choices: list[Choice]
    probabilities: Matrix  # (N, K) of every arm at the first place, which were drawn from
    shown: ShownScores
    each: list[Matrix]  # (N, K) of each policy that was asked


class Previewed(NamedTuple):
    """What one context would be answered: of every arm by index, 0 of arms that are not scored."""

    probabilities: list[Vector]  # (K,) of each policy
    scores: list[Vector]  # (K,) by each policy
    mean: Vector  # (K,)
    width: Vector  # (K,)
    sigma: Vector  # (K,)
    kinds: Matrix  # (K, m)
    warming_up: bool


class Loose(NamedTuple):
    """A kind of reward whose range is far wider than the rewards that came, all in reward units."""

    kind: str
    size: float  # mean size of those rewards, less the default
    low: float
    high: float


class Outdated(Exception):  # noqa: N818
    """The model has a later version of its experiment than the one that was decided for."""


class Model:
    """One experiment's sums, and the scoring data of its arms that are not retired.

    One thread learns, refreshes and adopts; any thread may decide. `lock` keeps the scoring data whole while they are
    read; `learning` keeps the sums whole, together with what else is changed while it is held.

    Args:
        experiment: the version in force.
        sums: what was learned so far; None: nothing.
        also: arms to score although they are retired, shape (K,), until another version is adopted.
    """

    def __init__(self, experiment: Experiment, sums: Sums | None = None, also: Mask | None = None) -> None:
        K, m, d = experiment.shape
        self.experiment = experiment
        self.sums = sums or Sums.zeros(K, m, d)
        self.lock, self.learning = threading.Lock(), threading.RLock()
        scored = _live(experiment) if also is None else _live(experiment) | also
        self.scorer = Scorer(K, m, d, experiment.ridge, np.flatnonzero(scored))
        self.waiting = Waiting()
        self.refreshed: list[int] = []  # arms of the last turn
        self._shared, self._rules, self._warm_up = self._active(), self._placed(), experiment.warm_up
        self._squares = _squares(self.sums, experiment.layout)
        self._impressions = int(self.sums.n.sum())
        self._evidence = Evidence()
        self._rescale()
        self.waiting.mark(np.flatnonzero(self.sums.n), factor=True)

    def adopt(self, experiment: Experiment) -> None:
        """Take a later version of the same generation: new arms, kinds, columns, weights or settings, at once and live.

        What takes long is computed while the old version decides, and only put in place under the lock.
        """
        K, m, d = experiment.shape
        was, now = self.experiment.ridge, experiment.ridge
        refactor = (was.lam, was.pooled) != (now.lam, now.pooled)
        scored = np.flatnonzero(_live(experiment))
        before, own = self.experiment.layout.own, experiment.layout.own
        if m < self.sums.shape[1]:  # a kind may go only while nothing has been learned
            sums, scorer = Sums.zeros(K, m, d), Scorer(K, m, d, experiment.ridge, scored)
        elif not np.array_equal(before, own):
            sums = self.sums.grown(K, m).laid(before, own)
            scorer, self._squares = self._anew(experiment, sums, scored), _squares(sums, experiment.layout)
            refactor = refactor or now.pooled
        else:
            sums = self.sums if (K, m) == self.sums.shape[:2] else self.sums.grown(K, m)
            scorer = self._scorer(experiment, scored)
        derived = scorer.derive(experiment.ridge)
        with self.learning, self.lock:
            self.experiment, self.sums, self.scorer = experiment, sums, scorer
            scorer.ridge, scorer.derived = experiment.ridge, derived
            self._shared, self._rules, self._warm_up = self._active(), self._placed(), experiment.warm_up
        if refactor:
            scorer.common = None
            self.waiting.renew(K)
        if refactor or self._evidence.looking:
            self._evidence = Evidence()

    def _anew(self, experiment: Experiment, sums: Sums, scored: Int) -> Scorer:
        """A scorer of other columns, with every arm computed: none may be shown by what is left of it meanwhile."""
        K, m, d = sums.shape
        norm = _squares(sums, experiment.layout) / ONE**2 / self._impressions if self._impressions else 1.0
        scorer = Scorer(K, m, d, experiment.ridge, scored, rounded_scale(norm), self.scorer.chosen)
        seen, size = np.flatnonzero(sums.n), min(CHUNK, max(1, SCRATCH // (40 * d**2)))
        for start in range(0, len(seen), size):
            arms = seen[start : start + size]
            scorer.install(arms, scorer.compute(sums, arms, factor=True), factor=True)
        return scorer

    def _scorer(self, experiment: Experiment, scored: Int) -> Scorer:
        """A scorer with room for this version: the present one, where that has it."""
        K, m, _ = experiment.shape
        if (K, m) == self.sums.shape[:2] and np.array_equal(scored, self.scorer.scored):
            return self.scorer
        back = self._returning(scored)
        scorer = self.scorer.grown(K, m, experiment.ridge, scored)
        for arms, rows in back:
            scorer.install(arms, rows, factor=True)
        return scorer

    def _returning(self, scored: Int) -> list[tuple[Int, Rows]]:
        """The rows of arms that were retired and come back: computed before they can be shown."""
        known = scored[scored < len(self.scorer.slot)]
        back = known[self.scorer.slot[known] < 0]
        size = min(CHUNK, self.at_once)
        parts = [back[start : start + size] for start in range(0, len(back), size)]
        return [(arms, self.scorer.compute(self.sums, arms, factor=True)) for arms in parts]

    def preview(
        self, experiment: Experiment, other: Experiment, x: NDArray[np.int16], eligible: Mask, baseline: Sequence[int]
    ) -> Previewed:
        """What one context, x (1, d), would be answered by another version with the same arms, kinds and columns.

        Args:
            experiment: the version in force, which x and eligible (1, K) were made for.
            other: the version that decides.
            baseline: as in `decide`.

        Raises:
            Outdated: the model has taken a later version meanwhile.
        """
        with self.lock:
            if self.experiment is not experiment:
                raise Outdated
            scorer, warm = self.scorer, self._impressions < other.warm_up
            derived = scorer.derived if other is experiment else scorer.derive(other.ridge)
            own = scorer.own(eligible)
            estimates = Estimates(scorer.rows.factors, derived, x, own, bool(own.all()))
            rules: list[Rule] = self._placed(other)
            if warm:
                rules = [rule if isinstance(rule, Shown) else Uniform() for rule in rules]
            if baseline:
                rules = [Shown(scorer.slot[list(baseline)], other.baseline_explore), *rules]
            each = [rule.probabilities(estimates) for rule in rules]
            width, mean = estimates.wide, estimates.X.dot(derived.theta.T)
            kinds = (derived.thetas @ estimates.X[0])[None]
        whole = scorer.whole
        scores = [whole(rule.score(derived, EVERY, mean, width))[0] for rule in rules]
        by_kind = np.stack([whole(kinds[:, :, k])[0] for k in range(kinds.shape[2])], axis=1)
        sigma = whole(derived.sigma[None])[0]
        found = [whole(p)[0] for p in each]
        return Previewed(found, scores, whole(mean)[0], whole(width)[0], sigma, by_kind, warm)

    def _active(self) -> tuple[Mask, bool]:
        """(which of the scored arms the experiment shows, shape (1, S); whether that is all of them)."""
        own = self.scorer.own(self.experiment.active[None])
        return own, bool(own.all())

    def _placed(self, other: Experiment | None = None) -> list[Rule]:
        """The rules of the experiment's policies, or of another version's, for the arms that are scored."""
        experiment = other or self.experiment
        slot, index = self.scorer.slot, experiment.arm_index

        def slot_of(arm: str) -> int:
            return int(slot[index[arm]]) if arm in index else -1

        return [policy.rule(slot_of) for policy in experiment.policies]

    def _ruling(self) -> list[Rule]:
        """The rules that are in force: while it warms up, what has been learned decides nothing."""
        if not self._warm_up or self._impressions >= self._warm_up:
            return self._rules
        return [rule if isinstance(rule, Shown) else Uniform() for rule in self._rules]

    def loose_ranges(self) -> list[Loose]:
        """Kinds of reward with a range of more than a hundred times the mean size of the rewards that came."""
        with self.learning:
            kinds, n = list(zip(self.experiment.config.kinds, self.experiment.kinds, strict=True)), self.sums.n
            moments = [_from_default(self.sums, k, kind.credit(kind.default)) for k, (_, kind) in enumerate(kinds)]
            impressions = max(1, int(n.sum()))
        loose = []
        for (name, kind), (square, total) in zip(kinds, moments, strict=True):
            per = kind.step / impressions
            if (size := loose_range(square * per * kind.step, total * per, *kind.range)) is not None:
                loose.append(Loose(name, size, *kind.range))
        return loose

    def learn(self, events: Events) -> Int:
        """Add events to the sums; what they changed waits for `refresh`. Returns the arms that changed."""
        arms: Int = np.unique(events.arm)
        most = self.at_once
        for at in range(0, len(arms), most):
            whole = len(arms) <= most
            part, increment = increments(events if whole else events[np.isin(events.arm, arms[at : at + most])])
            with self.learning:
                self.sums.add(part, increment)
            self._squares += _squares(increment, self.experiment.layout)
            self._impressions += int(increment.n.sum())
            self.waiting.mark(part[increment.n == 0], factor=False)
            self.waiting.mark(part[increment.n > 0], factor=True)
        self._rescale()
        return arms

    @property
    def at_once(self) -> int:
        """Arms whose sums are worked on at a time: each takes five or eight matrices beside what is kept of it."""
        return max(1, SCRATCH // ((64 if self.experiment.ridge.pooled else 40) * self.sums.shape[2] ** 2))

    @property
    def busy(self) -> bool:
        """Whether there is something to refresh, or to look for."""
        return bool(self.waiting) or self._evidence.looking

    def refresh(self, limit: int = CHUNK) -> bool:
        """Bring the scoring data of the longest-waiting arms up to date; False where nothing waits.

        Factors are computed without a lock; only putting them in place keeps a decision waiting.
        """
        self._reconsider(limit)
        chosen = self.waiting.first(min(limit, self.at_once))
        self.refreshed = [arm for arm, _ in chosen]
        if not chosen:
            return self._evidence.looking
        for factor in (True, False):
            if len(arms := np.array([arm for arm, needs in chosen if self._needs(arm, needs) is factor], np.int64)):
                rows = self.scorer.compute(self.sums, arms, factor)
                with self.lock:
                    self.scorer.install(arms, rows, factor)
        self.waiting.done(chosen)
        derived = self.scorer.derive()
        with self.lock:
            self.scorer.derived = derived
        return True

    def _needs(self, arm: int, factor: bool) -> bool:
        """Whether an arm's rows are computed whole: its factor is out of date, or what is kept of it is not enough."""
        return factor or self.scorer.common is not None or bool(self.scorer.slot[arm] < 0)

    def probabilities(self, x: NDArray[np.int16], eligible: Mask) -> Matrix:
        """What `decide` draws the first position from by the experiment's first policy, shape (N, K)."""
        estimates = self.scorer.estimate(x, eligible)
        return self.scorer.whole(self._ruling()[0].probabilities(estimates))

    def decide(
        self, experiment: Experiment, x: NDArray[np.int16], eligible: Mask | None, k: Sequence[int], u: Vector,
        play: Sequence[int] = (), baseline: Sequence[int] = (),
    ) -> Decided:  # fmt: skip
        """Decide N times at once.

        Args:
            experiment: the version that x and eligible were made for.
            x: feature vectors on the grid, shape (N, d).
            eligible: which arms may be shown, shape (N, K) or (1, K), none of them retired; at least k[i] in row i.
                None: the experiment's active arms.
            k: how many arms to show each time.
            u: the numbers drawn with, in [0, 1), shape (N,).
            play: which of the experiment's policies decides each, N of them; by default the first one decides all.
            baseline: the arm that the policy without a name of its own shows each time, N of them, where there is one.

        Raises:
            Outdated: the model has taken a later version meanwhile; read the requests again.
        """
        with self.lock:
            if self.experiment is not experiment:
                raise Outdated
            shared = self._shared if eligible is None else (eligible, None)
            estimates, rules = self.scorer.estimate(x, *shared), self._ruling()
            if baseline:
                rules = [Shown(self.scorer.slot[list(baseline)], experiment.baseline_explore), *rules]
            each = [rule.probabilities(estimates) for rule in rules]
            probabilities = each[0]
            if len(rules) > 1:
                probabilities = np.stack(each)[list(play), np.arange(len(u))]
            slots = draw(probabilities, u)  # among the scored arms, as everything up to the end
            choices = [_single(slot, float(probabilities.item(i, slot))) for i, slot in enumerate(slots.tolist())]
            if max(k) > 1:
                several, played = np.array(k) > 1, np.array(play or [0] * len(u))
                for at, rule in enumerate(rules):
                    own = np.flatnonzero(several & (played == at))
                    lists = draw_lists(rule, estimates.only(own), each[at][own], np.array(k)[own], u[own].tolist())
                    for i, choice in zip(own.tolist(), lists, strict=True):
                        choices[i] = choice
            shown, whole = self._shown(rules, play, estimates, choices), self.scorer.whole
            by_policy = [whole(p) for p in each] if len(each) > 1 else []
            return Decided(self._by_index(choices), whole(probabilities), shown, by_policy)

    def _shown(
        self, rules: Sequence[Rule], play: Sequence[int], estimates: Estimates, choices: list[Choice]
    ) -> ShownScores:
        places = [(i, slot) for i, choice in enumerate(choices) for slot in choice.arms]
        if len(places) == 1:  # arrays of one number would take as long as those of many
            return self._one_shown(rules[play[0] if play else 0], estimates, *places[0])
        row, slots = np.array(places, np.int64).T
        width, mean, derived = estimates.width(row, slots), estimates.mean[row, slots], self.scorer.derived
        score = rules[0].score(derived, slots, mean, width)
        for at, rule in enumerate(rules[1:], 1):
            score = np.where(np.array(play)[row] == at, rule.score(derived, slots, mean, width), score)
        return ShownScores(score, self.scorer.kinds(estimates.X[row], slots), width)

    def _one_shown(self, rule: Rule, estimates: Estimates, row: int, slot: int) -> ShownScores:
        width, mean = estimates.one_width(row, slot), float(estimates.mean.item(row, slot))
        score = rule.score(self.scorer.derived, slot, mean, width)
        all_ = np.array([[score, width, *self.scorer.derived.thetas[slot].dot(estimates.X[row]).tolist()]])
        return ShownScores(all_[:, 0], all_[:, 2:], all_[:, 1])

    def _by_index(self, choices: list[Choice]) -> list[Choice]:
        """The choices with arms by their own indices instead of their slots among the scored."""
        if len(self.scorer.scored) == len(self.scorer.slot):
            return choices
        arms = self.scorer.scored
        return [choice._replace(arms=tuple(arms[list(choice.arms)].tolist())) for choice in choices]

    def _rescale(self) -> None:
        """Bring v up to date; where it moved a step, every arm is factored again in the background."""
        norm = self._squares / ONE**2 / self._impressions if self._impressions else 1.0
        if (v := rounded_scale(norm)) != self.scorer.v:
            self.scorer.v = v
            self.waiting.renew(len(self.sums.n))
            if self._evidence.looking:  # by the old v
                self._evidence = Evidence()

    def _reconsider(self, limit: int) -> None:
        """Look on for what all rewards speak for; where that is something else, every arm is factored again."""
        self._evidence.grow(self.scorer, self.sums, self._impressions)
        found = self._evidence.step(self.scorer, self.sums, min(limit, self.at_once))
        if found and (found.common or found.lam != self.scorer.chosen):
            self.scorer.chosen, self.scorer.common = found
            self.waiting.renew(len(self.sums.n))


def _single(arm: int, p: float) -> Choice:
    return Choice((arm,), (p,), (p,))


def _live(experiment: Experiment) -> Mask:
    """(K,): which arms are in the document, so not retired; paused ones are."""
    return np.array([name in experiment.arms for name in experiment.config.index], bool)


def _from_default(sums: Sums, kind: int, default: int) -> tuple[int, int]:
    """(sum of squares, sum over the arms of |sum|) of a kind's credits less its default: 0 where no reward came."""
    n, b = sums.n.tolist(), [total // ONE for total in sums.B[:, kind, 0].tolist()]
    q = sum((high << LIMB) + low for high, low in sums.R[:, kind, kind].tolist())
    square = q - 2 * default * sum(b) + default**2 * sum(n)
    return square, sum(abs(total - default * count) for total, count in zip(b, n, strict=True))


def _squares(sums: Sums, layout: Layout) -> int:
    """The sum over all impressions of |x|^2 without the intercept and other constants, in squares of the grid."""
    squares: list[int] = np.einsum("kii->ki", sums.A).sum(axis=0).tolist()
    return sum(squares) - sum(squares[column] for column in layout.constants)


def model_bytes(arms: int, kinds: int, d: int) -> int:
    """Memory of a model in a worker: of each arm sums in 8-byte numbers, its factor, and its packed inverse."""
    each = 18 * d * d + 36 * kinds * d + 40 * d + 48 * kinds * kinds + 200
    return arms * each + 4 * min(arms * (d * (d + 1) // 2), SMALL)  # a small inverse takes 8 bytes a number, not 4
