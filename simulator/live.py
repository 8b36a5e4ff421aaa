"""What slices earned and what a candidate would have earned on a server's newest decisions. It needs NumPy alone.

    lift, value of a slice  by users, rewards capped; the lift is one slice against another (`ope.lift`)
    value of a candidate    by DR, in the decisions in which it could be shown      lift: less what was shown in these

All with sequences that hold at every look as long as the window starts at the same time, also while policies learn
(`ope.drifting`); `bandit-simulator evaluate --looks any` on the same rows says the same. A policy is a candidate as it
had learned by the middle of the window, and is valued on the decisions after it: one that went on learning would profit
from the exploration of the policy that was shown. What it knew by then are the sums of now less what the window's later
entries added, which is exact.

The server runs this module as a process of its own, `bandit.serving.evaluation` has what the two tell each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import structs

from bandit.arrays import Matrix
from bandit.core.document import Document
from bandit.core.experiment import Config, Experiment, compile_config
from bandit.core.features import Category
from bandit.core.features.special import is_special
from bandit.core.policies import Uniform
from bandit.core.sums import ONE, Sums
from bandit.core.times import time_of
from bandit.core.validation import typed_problem
from bandit.errors import Code
from bandit.log.records import Position, read_config
from bandit.replica.recent import Recent, Window, model_then, recent
from bandit.replica.replica import Replica
from bandit.serving.child import answer_about
from bandit.serving.evaluation import (
    Asked,
    Candidate,
    Evaluation,
    Lift,
    Shadow,
    Slice,
    duration_ms,
    window_of,
    wrong,
)
from bandit.store.protocol import Store
from simulator.logs.log import Kind, Log, Played, changed
from simulator.ope.differences import Data, lift
from simulator.ope.evaluate import evaluate
from simulator.ope.lift.earned import earned_of
from simulator.ope.lift.lift import lift_of
from simulator.ope.lift.pair import Pair, pair_of, silence
from simulator.ope.lift.pair import wrong as wrong_pair
from simulator.ope.lift.sentence import told
from simulator.ope.lift.traffic import Traffic, decisions_of
from simulator.policies import specs
from simulator.wording import named

CELLS = 2**23  # decisions x arms of an evaluation: 64 MiB of probabilities
TARGETS = "uniform, fixed:ARM, or a policy such as linucb:alpha=0.5,explore=0.05 or thompson:scale=0.5"


class Source(NamedTuple):
    """What an evaluation is made from: an experiment, its sums now, and its newest decisions."""

    experiment: Experiment
    sums: Sums
    recent: Recent


class Plan(NamedTuple):
    """A target as it was asked for, and what finds its probabilities of the newest rows, shape (rows, K)."""

    text: str
    probabilities: Callable[[Source], Matrix]


def slices(source: Source, traffic: Traffic, alpha: float = 0.05) -> list[Slice]:
    """What each slice earned, and what was decided without slices, each as a lift takes it."""
    names = source.experiment.config.slices
    return [
        Slice(max(0, each.slice), names[each.slice] if each.slice >= 0 else None, *each[1:])
        for each in earned_of(traffic, alpha)
    ]


def lifted(traffic: Traffic, pair: Pair) -> Lift | None:
    """The lift of one slice over another; None where there are no two."""
    indices = pair_of(traffic, pair)
    found = lift_of(traffic, indices) if indices else None
    return msgspec.convert(told(found), Lift) if found else None


def _pair(experiment: Experiment, asked: Asked) -> Pair:
    """The two slices that are asked for.

    Raises:
        Problem: there are no such two.
    """
    pair = Pair(asked.slice or None, asked.baseline or None)
    if (found := wrong_pair(pair, experiment.config.slices)) is not None:
        raise wrong(*found, "the same one" if pair.slice == pair.baseline else "another name")
    return pair


def changes_of(configs: Sequence[tuple[int, Config]], first_ms: int) -> Iterator[tuple[int, str]]:
    """What changed of policies and weights from a time on, each with its own; shares tell of themselves."""
    if configs and configs[0][0] > first_ms:
        yield configs[0][0], "another document"  # the one before it was not read
    for (_, before), (ms, after) in pairwise(configs):
        if ms >= first_ms:
            yield from ((ms, what) for what in changed(_played(before.document), _played(after.document)))


def _played(document: Document) -> Played:
    slices = {name: each.policy for name, each in document.sliced.items()}
    return Played(document.policy, slices, {name: kind.weight for name, kind in document.rewards.items()})


def candidates(source: Source, targets: Sequence[str], alpha: float = 0.05) -> list[Candidate]:
    """What each target would have earned; see `TARGETS`.

    Raises:
        Problem: `invalid_request` or `unknown_arm`: a target is not what it should be.
    """
    plans = [_plan(source.experiment, text) for text in targets]
    if not len(source.recent):
        return []
    log = log_of(source)
    return [_candidate(source, log, plan, alpha) for plan in plans]


def log_of(source: Source, now_ms: int | None = None) -> Log:
    """The decisions as the estimators take them: the reward is sum over kinds of weight x value.

    Args:
        source: what they are from.
        now_ms: until when rewards have come, where it is asked which share of them has.
    """
    experiment, recent = source.experiment, source.recent
    steps, sliced = np.array([kind.step for kind in experiment.kinds]), bool(recent.shares.any())
    played = zip(experiment.slices, experiment.policies, strict=False)  # in shadow one policy is all there is
    even = [each.number for each, policy in played if isinstance(policy, Uniform)]
    return Log(
        arms=experiment.config.index,
        arm=recent.arm,
        reward=(recent.credits * steps) @ experiment.ridge.weights,
        propensity=recent.mixture[np.arange(len(recent)), recent.arm] if sliced else recent.propensity,
        probability=recent.mixture,
        eligible=recent.eligible,
        context=recent.x / ONE,
        time_ms=recent.ms,
        user=np.array([user.hex() for user in recent.user], np.str_),
        part=recent.slice,
        learning=True,
        shares=recent.shares if sliced else None,
        within=recent.probability if sliced else None,
        rewards=recent.earned * steps,
        kinds=tuple(_kinds(source, now_ms)),
        slices=experiment.config.slices,
        uniform=even[0] if len(even) == 1 else None,
        changes=tuple(changes_of(recent.configs, int(recent.ms[0]))) if len(recent) else (),
    )


def _kinds(source: Source, now_ms: int | None) -> Iterator[Kind]:
    """Each kind with the share of its reward that has come."""
    experiment, recent = source.experiment, source.recent
    for k, (name, kind) in enumerate(zip(experiment.config.kinds, experiment.kinds, strict=True)):
        matured = None if now_ms is None else recent.delays.matured(k, now_ms - recent.ms)
        yield Kind(name, kind.weight, kind.default, kind.cap, matured)


def _span(experiment: Experiment) -> tuple[float, float]:
    """The least and largest reward of a decision: a kind may be younger than the decision, and counts 0 then."""
    ends = [sorted((kind.weight * kind.range[0], kind.weight * kind.range[1])) for kind in experiment.kinds]
    low, high = sum(min(low, 0.0) for low, _ in ends), sum(max(high, 0.0) for _, high in ends)
    return (low, high) if low < high else (low - 0.5, high + 0.5)  # all weights 0


def _candidate(source: Source, log: Log, plan: Plan, alpha: float) -> Candidate:
    pi, span = plan.probabilities(source), _span(source.experiment)
    rows = log.take(slice(len(log) - len(pi), None))
    (row,) = evaluate(rows, pi, estimators=["dr"], alpha=alpha, reward_range=span, looks="any")
    more = lift(Data.of(rows, {"reward_range": span}), pi, alpha, looks="any")
    return Candidate(
        target=plan.text,
        value=row.value,
        low=row.low,
        high=row.high,
        lift=None if more.low is None else more.value,
        lift_low=more.low,
        lift_high=more.high,
        n=row.n,
        n_eff=row.n_eff,
        max_weight=row.max_weight,
        mean_weight=row.mean_weight,
        verdict="refused" if row.verdict == "refused" else "sequence",
        note=row.note,
    )


def _plan(experiment: Experiment, text: str) -> Plan:
    """The target that a text names."""
    wanted = named(text)
    if wanted.kind == "uniform":
        return Plan(text, _uniform)
    if wanted.kind == "fixed":
        arm = experiment.arm(wanted.rest, "/query/target")
        return Plan(text, lambda source: _fixed(source, arm))
    candidate = _policy(experiment, text)
    return Plan(text, lambda source: _learned(source, candidate))


def _uniform(source: Source) -> Matrix:
    eligible = source.recent.eligible
    P: Matrix = eligible / eligible.sum(axis=1, keepdims=True)
    return P


def _fixed(source: Source, arm: int) -> Matrix:
    P = np.zeros(source.recent.eligible.shape)
    P[:, arm] = 1.0
    return P


def _policy(experiment: Experiment, text: str) -> Experiment:
    """The experiment with the policy that a text names, and what else of a document it names."""
    kind = named(text).name
    if kind not in specs.TYPES:
        raise wrong("target", f"{TARGETS}; policies here are {', '.join(specs.TYPES)}", "another")
    try:
        spec = specs.parse(text)
    except ValueError as error:
        raise wrong("target", str(error), "another value") from None
    parts = specs.in_document(kind, spec.options)
    try:
        given = msgspec.convert({"rewards": {"any": {}}, "arms": [], **parts}, Document)
    except msgspec.ValidationError as error:
        (fault,) = typed_problem(error, Code.INVALID_REQUEST, Document).faults
        raise wrong("target", f"settings of {kind}, {fault.pointer}: {fault.expected}", fault.got) from None
    own = {field.name: getattr(given, field.name) for field in structs.fields(Document) if field.encode_name in parts}
    document = structs.replace(experiment.document, **own)
    return compile_config(structs.replace(experiment.config, document=document))


def _learned(source: Source, experiment: Experiment) -> Matrix:
    """The probabilities of a policy as it had learned by the middle of the window, on the rows after it."""
    found, rows = source.recent, slice(len(source.recent) // 2, None)
    shown = found.eligible.sum(axis=0) > 0  # those retired since, too
    model = model_then(experiment, source.sums, found, also=shown)
    return model.probabilities(found.x[rows], found.eligible[rows])


def evaluated(store: Store, asked: Asked) -> Evaluation:
    """The evaluation of a store's experiment.

    Raises:
        Problem: the request is invalid, or there is no such experiment.
    """
    now, replica = store.now_ms(), Replica.whole(asked.experiment, store)
    model = replica.served
    pair = _pair(model.experiment, asked)
    tables = 2 if model.experiment.config.slices else 1  # within a slice, and over all
    room = max(1, CELLS // max(1, tables * model.experiment.shape[0]))
    window = window_of(asked, now, min(now, replica.position.ms))
    found, matured = _matured(
        store, model.experiment, replica.position, window._replace(rows=min(window.rows, room)), asked
    )
    source, n = Source(model.experiment, model.sums, since_the_cut(store, asked.experiment, found)), len(found)
    decisions = decisions_of(replace(log_of(source, now), context=_context(source))) if n else None
    traffic = None if decisions is None or not decisions.shares.any() else replace(decisions, cut=found.cut)
    return Evaluation(
        decisions=n,
        first=time_of(int(found.ms[0])) if n else None,
        last=time_of(int(found.ms[-1])) if n else None,
        cut=found.cut,
        waiting=found.waiting,
        matured=matured,
        lift=lifted(traffic, pair) if traffic else None,
        note=silence(traffic, pair) if n else _nothing(matured),
        slices=slices(source, decisions) if decisions else [],
        targets=candidates(source, asked.targets),
        shadow=_shadow(found),
    )


def _shadow(found: Recent) -> Shadow | None:
    """How often the same arm would have been shown."""
    n = int((found.shadow >= 0).sum())
    return Shadow(n, int((found.shadow == found.arm).sum())) if n else None


def _context(source: Source) -> Matrix:
    """Contexts as an export has them: what a feature that came later was before is its mean, or another level.

    There is no column that tells when it came.
    """
    encoder, x = source.experiment.encoder, source.recent.x / ONE
    layout = encoder.layout
    for feature in encoder.features:
        if isinstance(feature, Category) and feature.other and not is_special(feature):
            places = layout.at(feature)
            x[~x[:, places].any(axis=1), places[-1]] = 1.0
    return np.delete(x, sorted({int(layout.local[column]) for column in layout.known.values()}), axis=1)


def since_the_cut(store: Store, name: str, found: Recent) -> Recent:
    """The decisions, with the config that was in force where the log was cut, if the first change came right after."""
    if not found.configs or not (data := store.base_config(name)):
        return found
    base, after = read_config(data), found.configs[0][1]
    if (base.generation, base.version + 1) != (after.generation, after.version):
        return found
    return replace(found, configs=[(0, base), *found.configs])


def _nothing(matured: float | None) -> str:
    """Why there is no lift where there are no decisions."""
    return "no lift: there is no decision" + (
        "" if matured is None else f" that is {matured:,g} seconds old (`matured`)"
    )


def _matured(
    store: Store, experiment: Experiment, end: Position, window: Window, asked: Asked
) -> tuple[Recent, float | None]:
    """The window's decisions that are old enough, and how old that is, in seconds."""
    found = recent(store, experiment, end, window)
    if asked.min_age:
        return found, duration_ms("min_age", asked.min_age) / 1000
    age = found.delays.matured_ms()
    if age is None and window.since_ms:  # what is older tells how long rewards take, though it is not asked for
        age = recent(store, experiment, end, window._replace(since_ms=0)).delays.matured_ms()
    if age is None:
        return found, None
    return recent(store, experiment, end, window._replace(until_ms=window.until_ms - age)), age / 1000


if __name__ == "__main__":
    answer_about(evaluated, Asked)
