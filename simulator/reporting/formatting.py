"""Numbers and verdicts in words for people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from simulator.ope.checks.overlap import Verdict
from simulator.ope.checks.reasons import explained
from simulator.ope.differences import Difference
from simulator.ope.evaluate import EstimatorRow
from simulator.wording import TINY, amount, beside, percent, ranged

ALIKE = 1e-9  # of an interval's width: a difference that is none
MEANING: dict[Verdict, str] = {
    "interval": "can be believed (one look)",
    "sequence": "wide but safe",
    "assumed": "holds only if no reward can exceed those observed",
    "biased": "bias not included",
    "refused": "no answer",
}


def confidence(alpha: float) -> str:
    """`95 %`."""
    return f"{100 * (1 - alpha):g}\u00a0%"


def when(time_ms: int) -> str:
    """A time of the log, in UTC, to the minute."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def plain(value: object) -> str:
    """A setting for people; the same in every process."""
    match value:
        case None:
            return "not set"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case list() | tuple():
            return ", ".join(plain(each) for each in value)
    shape = getattr(value, "shape", None)
    return re.sub(r" at 0x[0-9a-f]+", "", str(value)) if shape is None else f"a table of shape {tuple(shape)}"


class Ground(NamedTuple):
    """What a sentence about a target is based on.

    Attributes:
        earned: the mean reward, in reward units per decision or position.
        span: the lowest and the highest possible reward, as far as known.
        came: the lowest and the highest reward of the log.
        each: what a row is called: decision or position.
        capped: what a cap does; empty where there is none.
        reasons: why the log is refused, if it is.
        doubtful: whether anything is in doubt, and is said elsewhere.
        changed: how it changed over time, if it clearly did.
    """

    earned: float
    span: tuple[float, float]
    came: tuple[float, float]
    each: str = "decision"
    capped: str = ""
    reasons: Sequence[str] = ()
    doubtful: bool = False
    changed: str = ""


DOUBT = "see “In doubt” before believing it"
BESIDE = ("effective n is optimistic", "clustered by", "rewards above", "on the ")  # no reason for a refusal


def sentence(name: str, row: EstimatorRow, gain: Difference, of: Ground) -> str:
    """What the log says of a target, in one sentence, after one of a cap.

    Args:
        name: of the target.
        row: its evaluation by DR.
        gain: the target less what was earned.
        of: what else it stands on.
    """
    if row.value is None or row.low is None or row.high is None:
        notes = explained(row.note, list(of.reasons)).split("; ")
        why = "; ".join(each for each in notes if not each.startswith(BESIDE))
        return f"This log cannot say what “{name}” would have earned: {why}."
    start = f"{of.capped[0].upper()}{of.capped[1:]}. With rewards so capped, “{name}”" if of.capped else f"“{name}”"
    value, low, high = _within(row, of)
    part = "" if row.share == 1 else f" in the {percent(row.share)} of {of.each}s in which it could have been played"
    than = f"{_than(row, gain, of)}{_beyond(row, of)}"
    if row.verdict == "interval":
        own = f"{_value(row, gain, of)[0]} per {of.each}{part} ({low} to {high})"
        return f"{start} would have earned {own}, {than}; {_belief(of)}."
    guess = f"between {low} and {high} per {of.each}{part} (estimate {value})"
    return f"{start} would have earned {guess}, {than}; {_limits(row, of)}."


def _belief(of: Ground) -> str:
    """Whether an interval can be believed."""
    told = [*([f"but this {of.changed}"] if of.changed else []), *([DOUBT] if of.doubtful else [])]
    return "; ".join(told) or "for one look this can be believed"


def _limits(row: EstimatorRow, of: Ground) -> str:
    """What the limits of a sequence are worth, and what a normal interval needs."""
    advice = _advice(row.note.split("; "), of)
    safe = "" if of.doubtful else " but safe"
    if row.verdict == "assumed":
        safe = ", and hold only if no reward can exceed those observed"
    limits = f"these limits are wide{safe}{': ' if advice else ''}{advice}"
    return "; ".join([*([f"this {of.changed}"] if of.changed else []), limits, *([DOUBT] if of.doubtful else [])])


def _within(row: EstimatorRow, of: Ground) -> tuple[str, str, str]:
    """Value and ends, none of them beyond the possible rewards."""
    inside = (min(max(x, of.span[0]), of.span[1]) for x in (row.value, row.low, row.high) if x is not None)
    return ranged(*inside)


def _beyond(row: EstimatorRow, of: Ground) -> str:
    """A remark that the estimate itself is beyond the possible rewards, where that can be seen."""
    value, width = row.value or 0.0, (row.high or 0.0) - (row.low or 0.0)
    if max(of.span[0] - value, value - of.span[1]) <= TINY * width:
        return ""
    return f" (the estimate itself, {beside(value, width)}, is beyond the possible rewards)"


def _value(row: EstimatorRow, gain: Difference, of: Ground) -> tuple[str, str]:
    """The value and what was earned, with digits enough to tell them apart where they clearly differ."""
    value = min(max(row.value or 0.0, of.span[0]), of.span[1])
    width = (row.high or 0.0) - (row.low or 0.0)
    if gain.clear and gain.low is not None and gain.high is not None and value != of.earned:
        while beside(value, width) == beside(of.earned, width) and width > (gain.high - gain.low) / 100:
            width /= 10
    return beside(value, width), beside(of.earned, width)


def _than(row: EstimatorRow, gain: Difference, of: Ground) -> str:
    """How it compares; words come from the interval that is called clear."""
    earned = _value(row, gain, of)[1]
    was = f"{earned} {'of the logging policy' if of.capped else 'that was earned'}"
    if gain.low is None or gain.high is None:
        return f"beside the {was}"
    if max(abs(gain.low), abs(gain.high)) <= ALIKE * ((row.high or 0.0) - (row.low or 0.0)):
        return f"and plays exactly as the logging policy did, which earned {earned}"
    _, low, high = ranged(gain.value, gain.low, gain.high)
    if not gain.clear:
        return f"not clearly different from the {was} (difference {low} to {high})"
    more, ends = ("more", (low, high)) if gain.low > 0 else ("less", (high, low))
    least, most = (end.replace("−", "") for end in ends)
    return f"{least} to {most} {more} than the {was}"


def _advice(notes: Sequence[str], of: Ground) -> str:
    """What a normal interval needs, from an evaluation's notes; empty if nothing helps."""
    takes = []
    if any(note.startswith("state the possible") for note in notes):
        low, high = map(amount, of.came)
        takes.append(f"the possible rewards to be stated (observed: {low} to {high})")
    for note in notes:
        if note.startswith("a normal interval needs"):
            more = note.removeprefix("a normal interval needs ").replace(" decisions like", f" {of.each}s like")
            takes.append(re.sub(r", or 1 times as much exploration$", "", more).replace(", or", " or"))
    cap = next((found[1] for note in notes if (found := re.search(r"^or a cap.*\(cap=([^)]+)\)", note))), None)
    ways = [f"a normal interval needs {' and '.join(takes)}"] if takes else []
    if cap is not None and float(cap) < of.came[1]:
        ways.append(f"a cap of {amount(float(cap))}: the value is then of the capped reward")
    return ", or ".join(ways)


def changed(found: Sequence[Difference]) -> str:
    """A phrase on windows of the log that clearly contradict each other; empty where none do."""
    clear = [each.value > 0 for each in found if each.clear]
    if all(clear) or not any(clear):
        return ""
    more, less = sum(clear), len(clear) - sum(clear)
    return f"changed over time: clearly more than was earned in {more} of {len(found)} windows, clearly less in {less}"
