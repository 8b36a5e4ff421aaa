"""The sections of a report that answer: of targets, arms, segments and windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from bandit.arrays import Matrix, Vector
from simulator.logs.log import Log
from simulator.ope.checks.overlap import row_weights
from simulator.ope.checks.reasons import explained
from simulator.ope.differences import Difference, Side, compared, earned, lift
from simulator.ope.evaluate import EstimatorRow
from simulator.ope.terms import ESTIMATORS
from simulator.reporting.contrasts import arms_of
from simulator.reporting.figures import Arm, Mark, draw_arms, draw_over_time, draw_weights, forest
from simulator.reporting.formatting import MEANING, when
from simulator.reporting.glossary import INTRODUCTION
from simulator.reporting.model import BELOW, Section, Subject, Table, mark_alone, mark_of, widened
from simulator.reporting.segments import chosen, segments
from simulator.wording import DASH, amount, both, counted, fixed, noted, number, percent

ARMS_DRAWN, ARMS_LISTED = 20, 100


def facts(of: Subject) -> Iterator[str]:
    """What else is said at the top: of the log, what is in doubt about it, and of the other targets."""
    log = of.log
    value, ends = both(of.earned.value, of.earned.low, of.earned.high)
    time = "" if log.time_ms is None else f", {when(int(log.time_ms.min()))} to {when(int(log.time_ms.max()))} UTC"
    own = f"the logging policy earned {value} per {of.each}" + (f" ({ends})" if ends != DASH else "")
    yield f"The log: {_size(of)} among {counted(log.K, 'arms')}{time}; {own}{_uncapped(of)}."
    yield from (f"In doubt: {doubt}." for doubt in of.doubts)
    for name in of.targets:
        if name != of.main:
            yield of.said(name)


def _size(of: Subject) -> str:
    """How many rows there are, and of lists how many lists."""
    rows = counted(len(of.log), f"{of.each}s")
    if of.each == "decision":
        return rows
    ids = of.log.decision_id
    return f"{rows} of lists" if ids is None else f"{counted(len(np.unique(ids)), 'lists')} with {rows}"


def _uncapped(of: Subject) -> str:
    """What was earned without the cap."""
    if not of.capped:
        return ""
    if not of.cuts:
        return f"; {of.capped}"
    r, cap = of.log.reward, amount(of.how["cap"])
    share = percent(float(np.average(r > of.how["cap"], weights=row_weights(of.log))))
    came = number(float(np.average(r, weights=row_weights(of.log))))
    return f", where the {share} of rewards above {cap} count as {cap}; uncapped, it earned {came}"


def values(of: Subject) -> Section:
    """Every target by every estimator."""
    groups = _apart(of)
    figure = forest(groups, of.unit, of.earned.value, f"logging policy, {of.earnings}")
    names = ", ".join(of.rows)
    alt = f"Values of {names} by each estimator with {of.level} intervals, beside the {of.earnings} earned. {BELOW}"
    common = {name: _common(of, rows) for name, rows in of.rows.items()}
    titled = len(groups) > 1
    lines = [_value_line(of, name, row, common[name], titled) for name, rows in of.rows.items() for row in rows]
    head = ("Target: estimator" if titled else "Estimator", "Value", f"{of.level} interval", "Verdict", "Notes")
    return Section(
        "values",
        "What each target would have earned",
        [INTRODUCTION["values"]],
        of.drawn(figure, "values", alt),
        f"{of.key} Grey diamonds: {MEANING['biased']}. An arrow: the interval extends beyond the axis.",
        Table(_titled(of, f"Reward per {of.each}"), head, lines, ("Verdict",), ("Notes",)),
        [
            *(["None of these intervals includes what is in doubt, at the top of the page."] if of.doubts else []),
            *(f"{name}, all estimators: {'; '.join(map(noted, notes))}." for name, notes in common.items() if notes),
        ],
    )


def _apart(of: Subject) -> dict[str, list[Mark]]:
    """The marks of each target, those of biased estimators below: their narrow bars are around something else."""
    groups: dict[str, list[Mark]] = {}
    for name, rows in of.rows.items():
        for row in rows:
            title = f"biased, {name}" if ESTIMATORS[row.estimator].biased else name
            groups.setdefault(title, []).append(_mark(row))
    return groups


def _mark(row: EstimatorRow) -> Mark:
    return Mark(ESTIMATORS[row.estimator].label, row.value, row.low, row.high, row.verdict)


def _common(of: Subject, rows: Sequence[EstimatorRow]) -> list[str]:
    """Notes that stand beside every row of a target."""
    split = [_notes(of, row) for row in rows]
    return [note for note in split[0] if note and len(rows) > 1 and all(note in each for each in split)]


def _notes(of: Subject, row: EstimatorRow) -> list[str]:
    """What is noted of an estimator; of a refusal what it probably comes from, first."""
    reasons = of.reasons if row.verdict == "refused" and row.value is not None else []
    return explained(row.note, reasons).split("; ")


def _titled(of: Subject, caption: str) -> str:
    """The caption of a table of rewards, with what a cap does to them."""
    return f"{caption}; {of.capped}" if of.cuts else caption


def _value_line(of: Subject, name: str, row: EstimatorRow, common: Sequence[str], titled: bool) -> Sequence[str]:
    said = of.meaning(row.verdict)
    own = "; ".join(noted(note) for note in _notes(of, row) if note not in (*common, said))
    label = ESTIMATORS[row.estimator].label
    return f"{name}: {label}" if titled else label, *both(row.value, row.low, row.high), said, own


def differences(of: Subject) -> Section:
    """Targets against what was earned and against the first one, on the same rows."""
    others, m = [name for name in of.targets if name != of.main], 2 * len(of.targets) - 1
    found = {f"{name} − earned": lift(of.data, target, of.alpha / m) for name, target in of.targets.items()}
    first = of.targets[of.main]
    found |= {f"{name} − {of.main}": compared(of.data, of.targets[name], first, of.alpha / m) for name in others}
    return _of_differences(of, "differences", "Differences", INTRODUCTION["differences"], found, "Difference")


def _of_differences(
    of: Subject, anchor: str, title: str, text: str, found: Mapping[str, Difference], what: str, *notes: str
) -> Section:
    """A section that is a forest and a table of differences."""
    marks = [mark_of(name, each) for name, each in found.items()]
    figure = forest({"": marks}, f"difference in {of.unit}", 0.0, "no difference")
    alt = f"{title}: {len(found)} differences in reward per {of.each} with {of.level} intervals. {BELOW}"
    table = _difference_table(of, what, found)
    return Section(anchor, title, [text], of.drawn(figure, anchor, alt), of.key, table, [*widened(len(found)), *notes])


def _difference_table(of: Subject, what: str, found: Mapping[str, Difference]) -> Table:
    head = (what, of.each_head, "Difference", f"{of.level} interval", "Per cent", "Verdict")
    return Table(
        _titled(of, f"In reward per {of.each}"), head, [_difference_line(*each) for each in found.items()], ("Verdict",)
    )


def _difference_line(name: str, found: Difference) -> Sequence[str]:
    if found.low is None:
        return name, f"{found.n:,}", DASH, DASH, DASH, MEANING["refused"]
    same = found.low == found.high == 0
    said = (
        "the same"
        if same
        else "not clear"
        if not found.clear
        else "clearly more"
        if found.value > 0
        else "clearly less"
    )
    share = percent(found.share, sign=True)
    return name, f"{found.n:,}", *both(found.value, found.low, found.high), share, said


def spread_of_weights(of: Subject) -> Section:
    """Importance weights of every target."""
    at = np.arange(len(of.log)), of.log.arm
    w: dict[str, Vector] = {name: target[at] / of.log.propensity for name, target in of.targets.items()}
    lines = [_weight_line(name, each, of.headline(name)) for name, each in w.items()]
    titles = [f"{line[0]}: effective n {line[1]} of {len(of.log):,}" for line in lines]
    head = ("Target", "Effective n", "Largest", "Mean (should be 1)", "Weight 0")
    return Section(
        "weights",
        "How much the log says about each target",
        [INTRODUCTION["weights"]],
        of.drawn(draw_weights(w, titles), "weights", f"Histograms of importance weights. {'; '.join(titles)}."),
        f"Logarithmic axes. Dashed: weight 1, the arm equally likely in both. {of.each_head} of weight 0 are left out.",
        Table("Importance weights", head, lines),
    )


def _weight_line(name: str, w: Vector, row: EstimatorRow) -> Sequence[str]:
    return name, fixed(row.n_eff, 0), number(row.max_weight), number(row.mean_weight), percent(float((w == 0).mean()))


def per_arm(of: Subject) -> Section:
    """Mean reward of each arm, and how often it was shown and would have been."""
    order = arms_of(of.log, ARMS_LISTED)
    found = {a: _earned_by(of, a, of.alpha / len(order)) for a in order}
    shares = [_shares(of.log, each) for each in (None, *of.targets.values())]
    drawn = [_arm(of.log.arms[a], found[a], shares[0][a], shares[1][a]) for a in order[:ARMS_DRAWN]]
    lines = [_arm_line(of.log, a, found[a], [share[a] for share in shares]) for a in order]
    head = ("Arm", "Shown", "Mean reward", f"{of.level} interval", "Share", *(f"In {name}" for name in of.targets))
    most = (
        f"the {len(drawn)} arms shown most"
        if len(drawn) < of.log.K
        else "both arms"
        if len(drawn) == 2
        else f"all {len(drawn)} arms"
    )
    left_out = of.log.K - len(order)
    return Section(
        "arms",
        "Arms",
        [INTRODUCTION["arms"]],
        of.drawn(draw_arms(drawn, of.main, of.each, of.unit), "arms", f"Mean reward and share of {most}. {BELOW}"),
        f"Drawn: {most}.",
        Table(_titled(of, "Arms, the most shown first"), head, lines),
        [*widened(len(order)), *([f"{left_out:,} more arms are not listed."] if left_out else [])],
    )


def _earned_by(of: Subject, a: int, alpha: float) -> Side | None:
    """What an arm earned by 1 / propensity, so that arms are compared on the same visitors; None if it was never shown.

    Plain means are of whom each was shown to: where propensities and rewards move together, one of equal arms wins.
    """
    rows = np.flatnonzero(of.log.arm == a)
    if not len(rows):
        return None
    data = of.data.take(rows)
    return earned(replace(data, log=replace(data.log, weight=row_weights(data.log) / data.log.propensity)), alpha)


def _shares(log: Log, target: Matrix | None) -> list[float]:
    """Each arm's share of the decisions, in the log or in a target."""
    s = row_weights(log)
    shares: list[float] = ((np.bincount(log.arm, s, log.K) if target is None else s @ target) / s.sum()).tolist()
    return shares


def _arm(name: str, side: Side | None, shown: float, wanted: float) -> Arm:
    mark = Mark(name, None, None, None, "refused") if side is None else mark_alone(name, side)
    return Arm(mark, shown, wanted)


def _arm_line(log: Log, a: int, side: Side | None, shares: Sequence[float]) -> Sequence[str]:
    means = (DASH, DASH) if side is None else both(side.value, side.low, side.high)
    return log.arms[a], f"{int((log.arm == a).sum()):,}", *means, *(percent(share) for share in shares)


def per_segment(of: Subject) -> Section:
    """The first target's difference from what was earned, segment by segment."""
    name, title = chosen(of.log, of.segment), "Segments"
    if name is None:
        return Section("segments", title, ["The log has neither features nor positions to split it by."])
    cut = segments(of.log, name)
    target, m = of.targets[of.main], len(cut)
    found = {each: lift(of.data.take(rows), target[rows], of.alpha / m) for each, rows in cut.items()}
    clear = sum(each.clear for each in found.values())
    text = f"“{of.main}” less what was earned, by {name}: {clear} of {m} segments differ clearly from 0."
    return _of_differences(of, "segments", title, text, found, name, INTRODUCTION["segments"])


def over_time(of: Subject) -> Section:
    """The first target's difference from what was earned, window by window."""
    parts, found = zip(*of.over_time[of.main], strict=True)
    m = len(parts)
    starts = [_start(of.log, int(rows[0])) for rows in parts]
    figure = draw_over_time(list(map(mark_of, starts, found)), f"difference in\n{of.unit}")
    numbered = {f"{i}. {start}": each for i, (start, each) in enumerate(zip(starts, found, strict=True), 1)}
    alt = f"{of.main} less what was earned in {m} windows over the log, with {of.level} intervals. {BELOW}"
    told = f"“{of.main}” less what was earned, in {m} windows with equal numbers of {of.each}s."
    moved = f" This {of.changed(of.main)}." if of.changed(of.main) else ""
    return Section(
        "time",
        "Over time",
        [f"{told}{moved} {INTRODUCTION['time']}"],
        of.drawn(figure, "time", alt),
        f"{of.key} Each window is named by its start.",
        _difference_table(of, "From", numbered),
        widened(m),
    )


def _start(log: Log, row: int) -> str:
    """The name of a window by its first row."""
    return f"row {row + 1:,}" if log.time_ms is None else when(int(log.time_ms[row]))
