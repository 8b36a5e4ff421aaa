"""The sections of a report that say what its answers rest on."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence

import numpy as np

import bandit
from simulator.logs.log import eligible_of
from simulator.ope.checks.sample_ratio import Share
from simulator.ope.differences import earned
from simulator.ope.evaluate import evaluate
from simulator.reporting.contrasts import average, calibration
from simulator.reporting.figures import draw_calibration, draw_learning
from simulator.reporting.formatting import plain
from simulator.reporting.glossary import INTRODUCTION, terms
from simulator.reporting.model import BELOW, Section, Subject, Table, mark_alone, widened
from simulator.studies.across_seeds import bands
from simulator.studies.run import Curve
from simulator.wording import DASH, both, number

SHARES = 10  # of the sample-ratio check, the ones furthest off


def model(of: Subject) -> Section:
    """The reward model's predictions against what was observed."""
    predicted, bins = calibration(of.data)
    sides = [earned(of.data.take(rows), of.alpha / len(bins)) for rows in bins]
    means = [average(predicted[rows], of.log.take(rows)) for rows in bins]
    found = list(zip(means, bins, sides, strict=True))
    lines = [(number(q), f"{len(rows):,}", *both(r.value, r.low, r.high)) for q, rows, r in found]
    off = sum(len(rows) * abs(q - r.value) for q, rows, r in found) / len(of.log)
    alt = f"Observed against predicted mean reward in {len(bins)} bins, with the diagonal of a perfect model. {BELOW}"
    return Section(
        "model",
        "The reward model",
        [f"{INTRODUCTION['model']} Predicted and observed differ by {number(off, 2)} on average over these bins."],
        of.drawn(draw_calibration(means, [mark_alone("", side) for side in sides], of.unit), "model", alt),
        "Dashed: perfect calibration. Predictions are out of sample unless q or q_fit says otherwise.",
        Table("By prediction", ("Predicted", of.each_head, "Observed", f"{of.level} interval"), lines),
        widened(len(bins)),
    )


def learning(of: Subject) -> Section:
    """Learning curves over seeds."""
    found = bands(of.curves, of.alpha)
    levels = {"best choice": _mean(of.curves, "best"), "even choice": _mean(of.curves, "uniform")}
    seeds = len({curve.seed for curve in of.curves})
    lines = [(each.policy, f"{each.ends[-1]:,}", *both(each.mean[-1], each.low[-1], each.high[-1])) for each in found]
    names = ", ".join(band.policy for band in found)
    alt = f"Learning curves of {names} over {seeds} seeds with {of.level} intervals. Their ends are in the table below."
    return Section(
        "learning",
        "Learning curves",
        [f"Mean expected reward per round in each window, over {seeds} seeds, with the {of.level} t interval of each."],
        of.drawn(draw_learning(found, levels), "learning", alt),
        "Dashed: the best choice; dotted: a uniform choice; both averaged over all rounds.",
        Table("The last window", ("Policy", "Until round", "Mean", f"{of.level} interval"), lines),
        ["One seed alone has no interval."] if seeds < 2 else [],
    )


def _mean(curves: Sequence[Curve], name: str) -> float:
    return float(np.mean([np.mean(getattr(curve, name)) for curve in curves]))


def ratio(of: Subject) -> Section:
    """Whether arms were shown as often as their propensities say."""
    worst = sorted(of.ratio.shares, key=lambda each: -abs(each.z) / max(each.limit, 1e-9))[:SHARES]
    failed = of.ratio.failures()
    why = "".join(f" Perhaps: {each}." for each in of.reasons)
    sound = "Arms were shown as often as their propensities say, as far as chance allows."
    broken = f"The log or the draw is broken: {'; '.join(failed)}. No result computed from it can be trusted.{why}"
    weak = "Only the propensity of the arm shown was logged, so this check has little power."
    counted = "Sum of 1 / propensity" if of.ratio.basis == "rows" else "Shown"
    head = ("Arm", "Slice", counted, "Expected", "z", "Limit of |z|", "Verdict")
    return Section(
        "ratio",
        "Sample-ratio check",
        [broken if failed else sound],
        table=Table(
            f"The {len(worst)} shares furthest from their expectation", head, list(map(_share, worst)), ("Verdict",)
        ),
        notes=[weak] if of.ratio.basis == "rows" else [],
    )


def _share(of: Share) -> Sequence[str]:
    numbers = (number(x) for x in (of.observed, of.expected, of.z, of.limit))
    return (
        of.arm or "all arms",
        DASH if of.part is None else str(of.part),
        *numbers,
        "broken" if of.flagged else "sound",
    )


def cleaning(of: Subject) -> Section:
    """What was done to the log, and what it has."""
    done = [(what, f"{count:,}") for what, count in of.log.cleaning.items()]
    text = "These rows or values were changed or dropped." if done else "Nothing had to be cleaned."
    table = Table("What was done", ("What", "How many"), done) if done else None
    return Section("cleaning", "The log and its cleaning", [text, " ".join(_described(of))], table=table)


def _described(of: Subject) -> Iterator[str]:
    log = of.log
    full = "the probability of every arm" if log.probability is not None else "the propensity of the arm shown"
    others = {"users": log.user, "row weights": log.weight, "slices": log.part, "positions": log.position}
    yield f"Logged: {', '.join([full, *(name for name, each in others.items() if each is not None)])}."
    yield f"On average {number(float(eligible_of(log, slice(None)).sum(axis=1).mean()))} arms were eligible."
    yield f"The logging policy {'learned' if log.learning else 'is assumed not to have learned'} while it logged."


def settings(of: Subject) -> Section:
    """Everything that the numbers depend on."""
    options = inspect.signature(evaluate).parameters.values()
    defaults = {each.name: each.default for each in options if each.kind is each.KEYWORD_ONLY}
    own = {"targets": list(of.targets), "segment": of.segment, "version": bandit.__version__}
    lines = [(name, plain(value)) for name, value in {**of.settings, **defaults, **of.how, **own}.items()]
    table = Table("Settings", ("Name", "Value"), lines, prose=("Value",))
    return Section("settings", "Settings and seeds", [INTRODUCTION["settings"]], table=table)


def guide(of: Subject) -> Section:
    """How to read it all."""
    return Section("guide", "How to read this", [INTRODUCTION["guide"]], terms=terms())
