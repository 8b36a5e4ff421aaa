"""What slices earned and what a candidate would have earned on a server's newest decisions. It needs NumPy alone.

    value of a slice       mean reward of what was shown
    value of a candidate   mean of w r, w = pi / mu         lift: the mean of (w - 1) r, against what was shown

All with sequences that hold at every look as long as the window starts at the same time, also while policies learn
(`simulator.moving`). A candidate that learns starts from what the server knew when the window began: the sums of now
less what the window's entries added, which is exact. From there it is told the log as the server was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from bandit.engine import Model
from bandit.evaluation import Candidate, Slice, wrong
from bandit.experiment import Document, Experiment, compile_config
from bandit.fold import read_events
from bandit.linear import Matrix, Vector
from bandit.recent import Recent
from bandit.sums import ONE, Events, Sums, increments
from simulator import specs
from simulator.intervals import Band
from simulator.logged import Log
from simulator.moving import moving_lift, moving_value
from simulator.sample_ratio import sample_ratio
from simulator.verdict import overlap, ratios, too_few

REFRESHES = 100  # of a candidate that learns, over the window
TARGETS = "uniform, fixed:ARM, or a policy such as linucb:alpha=0.5,explore=0.05"


class Source(NamedTuple):
    """What there is to judge by: an experiment, its sums now, and its newest decisions."""

    experiment: Experiment
    sums: Sums
    recent: Recent


class Plan(NamedTuple):
    """A target as it was asked for, and how its probabilities are found: pi(a|x), shape (n, K)."""

    text: str
    probabilities: Callable[[Source], Matrix]


def slices(source: Source, alpha: float = 0.05) -> list[Slice]:
    """The value of each slice."""
    log, (low, high), recent = log_of(source), _span(source.experiment), source.recent
    found = []
    for part in np.unique(recent.slice).tolist():
        r = log.reward[recent.slice == part]
        ends = _scaled(moving_value(np.ones(len(r)), (r - low) / (high - low), alpha, 1.0), low, high)
        found.append(Slice(part, len(r), float(r.mean()), *ends))
    return found


def candidates(source: Source, targets: Sequence[str], alpha: float = 0.05) -> list[Candidate]:
    """What each target would have earned; see `TARGETS`.

    Raises:
        Problem: `invalid_request` or `unknown_arm`: a target is not what it should be.
    """
    plans = [_plan(source.experiment, text) for text in targets]
    if not len(source.recent):
        return []
    log = log_of(source)
    broken = sample_ratio(log).failures()
    return [_candidate(source, log, plan, broken, alpha) for plan in plans]


def log_of(source: Source) -> Log:
    """The decisions as the estimators take them: the reward is sum over kinds of weight x value."""
    experiment, recent = source.experiment, source.recent
    steps = np.array([kind.step for kind in experiment.kinds])
    return Log(
        arms=experiment.config.index,
        arm=recent.arm,
        reward=(recent.credits * steps) @ experiment.ridge.weights,
        propensity=recent.propensity,
        probability=recent.probability,
        eligible=recent.eligible,
        context=recent.x / ONE,
        time_ms=recent.ms,
        part=recent.slice,
        learning=True,
    )


def _span(experiment: Experiment) -> tuple[float, float]:
    """The least and largest reward of a decision: a kind may be younger than the decision, and counts 0 then."""
    ends = [sorted((kind.weight * kind.range[0], kind.weight * kind.range[1])) for kind in experiment.kinds]
    low, high = sum(min(low, 0.0) for low, _ in ends), sum(max(high, 0.0) for _, high in ends)
    return (low, high) if low < high else (low - 0.5, high + 0.5)  # all weights 0


def _scaled(band: Band, low: float, high: float) -> tuple[float, float]:
    """The last interval, of rewards in [0, 1], in reward units."""
    return low + (high - low) * float(band.low[-1]), low + (high - low) * float(band.high[-1])


def _candidate(source: Source, log: Log, plan: Plan, broken: Sequence[str], alpha: float) -> Candidate:
    pi = plan.probabilities(source)
    w, support = pi[np.arange(len(log)), log.arm] / log.propensity, overlap(log, pi)
    notes = [*support.failures(), *broken, *too_few(support.n_eff)]
    ends = (None,) * 4 if notes else _ends(source, w, log, float(ratios(pi, source.recent.probability).max()), alpha)
    return Candidate(
        target=plan.text,
        value=float((w * log.reward).mean()),
        low=ends[0],
        high=ends[1],
        lift=float(((w - 1) * log.reward).mean()),
        lift_low=ends[2],
        lift_high=ends[3],
        n=len(log),
        n_eff=support.n_eff,
        max_weight=support.max_weight,
        mean_weight=support.mean_weight,
        verdict="refused" if notes else "sequence",
        note="; ".join(notes),
    )


def _ends(source: Source, w: Vector, log: Log, bound: float, alpha: float) -> tuple[float, float, float, float]:
    """Ends of the value and of the lift."""
    low, high = _span(source.experiment)
    r = (log.reward - low) / (high - low)
    value, lift = moving_value(w, r, alpha, bound), moving_lift(w, r, alpha, bound)
    return *_scaled(value, low, high), *_scaled(lift, 0.0, high - low)


def _plan(experiment: Experiment, text: str) -> Plan:
    """The target that a text names."""
    if text == "uniform":
        return Plan(text, _uniform)
    if text.startswith("fixed:"):
        arm = experiment.arm(text.removeprefix("fixed:"), "/query/target")
        return Plan(text, lambda source: _fixed(source, arm))
    candidate, refresh = _policy(experiment, text)
    return Plan(text, lambda source: _learned(source, candidate, refresh))


def _uniform(source: Source) -> Matrix:
    eligible = source.recent.eligible
    P: Matrix = eligible / eligible.sum(axis=1, keepdims=True)
    return P


def _fixed(source: Source, arm: int) -> Matrix:
    P = np.zeros(source.recent.eligible.shape)
    P[:, arm] = 1.0
    return P


def _policy(experiment: Experiment, text: str) -> tuple[Experiment, int | None]:
    """The experiment with the policy, lambda and noise that a text names; decisions between two refreshes, if given."""
    kind = text.partition(":")[0]
    if kind not in specs.TYPES:
        raise wrong("target", f"{TARGETS}; policies here are {', '.join(specs.TYPES)}", "another")
    try:
        spec = specs.parse(text)
    except ValueError as error:
        raise wrong("target", str(error), "another value") from None
    own = {name: value for name, value in spec.options.items() if name not in specs.DOCUMENT}
    rest = {name: value for name, value in spec.options.items() if name in specs.DOCUMENT}
    try:
        given = msgspec.convert({"rewards": {"any": {}}, "arms": [], "policy": {"type": kind} | own} | rest, Document)
    except msgspec.ValidationError as error:
        raise wrong("target", f"settings of {kind}: {error}", "others") from None
    now = experiment.document
    lam, noise = given.lam if "lambda" in rest else now.lam, given.noise if "noise" in rest else now.noise
    document = msgspec.structs.replace(now, policy=given.policy, lam=lam, noise=noise)
    return compile_config(msgspec.structs.replace(experiment.config, document=document)), spec.refresh


def _learned(source: Source, experiment: Experiment, refresh: int | None) -> Matrix:
    """The probabilities of a policy that goes on learning from what the server knew when the window began."""
    recent, n = source.recent, len(source.recent)
    pieces = list(_pieces(source, refresh or max(1, -(-n // REFRESHES))))
    sums = source.sums.copy()
    for _, events in pieces:
        arms, added = increments(events)
        sums.add(arms, Sums(-added.A, -added.B, -added.R, -added.n))
    model, P = Model(experiment, sums), np.zeros(recent.probability.shape)
    for rows, events in pieces:
        while model.refresh():
            pass
        P[rows] = experiment.document.policy.probabilities(model.scorer.estimate(recent.x[rows], recent.eligible[rows]))
        model.learn(events)
    return P


def _pieces(source: Source, size: int) -> Iterator[tuple[slice, Events]]:
    """The window's decisions, some at a time, with what the log says from the first of them to the next ones."""
    recent, experiment = source.recent, source.experiment
    place = {entry.position: i for i, entry in enumerate(recent.entries)}
    _, m, d = experiment.shape
    for start in range(0, len(recent), size):
        end = place[recent.at[start + size]] if start + size < len(recent) else len(recent.entries)
        entries = recent.entries[place[recent.at[start]] : end]
        events = read_events(entries, experiment.config.generation, experiment.defaults, m, d).events
        yield slice(start, start + size), events
