"""Numbers and verdicts in words for people."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Literal

from simulator.differences import Difference
from simulator.evaluation import BIASED, Row
from simulator.verdict import Verdict

Said = Verdict | Literal["biased"]  # "biased": an interval around what the estimator says, not around the truth

DASH = "–"
MEANING: dict[Said, str] = {
    "interval": "can be believed (one look)",
    "sequence": "wide but safe",
    "assumed": "holds if no reward can be larger than those that came",
    "biased": "bias not included",
    "refused": "no answer",
}
ESTIMATORS = {
    "ips": "IPS",
    "clipped": "clipped IPS",
    "snips": "SNIPS",
    "dm": "DM",
    "dr": "DR",
    "sndr": "SNDR",
    "switch-dr": "SWITCH-DR",
    "dros": "DRos",
    "mrdr": "MRDR",
    "replay": "replay",
}


def number(x: float | None, digits: int = 3) -> str:
    """About three significant digits, without an exponent where that can be read."""
    if x is None or not math.isfinite(x):
        return DASH if x is None or math.isnan(x) else ("∞" if x > 0 else "−∞")
    if x == 0:
        return "0"
    size = math.floor(math.log10(abs(x)))
    text = f"{x:.{digits - 1}e}" if not -6 < size < 15 else fixed(x, max(0, digits - 1 - size))
    return text.replace("-", "−")


def fixed(x: float, decimals: int) -> str:
    """With so many decimals, thousands apart."""
    text = f"{x:,.{decimals}f}"
    return (text.removeprefix("-") if not float(text.replace(",", "")) else text).replace("-", "−")


def ranged(value: float | None, low: float | None, high: float | None) -> tuple[str, str, str]:
    """A value and its interval, each with three significant digits, or two of the interval's width if that is more."""
    if low is None or high is None or not math.isfinite(high - low):
        return number(value), DASH, DASH
    width = high - low
    least = 1 - math.floor(math.log10(width)) if width > 0 else 0

    def text(x: float | None) -> str:
        if x is None:
            return ""
        if not x:
            return "0"
        own = 2 - math.floor(math.log10(abs(x)))
        return fixed(x, min(10, max(0, own, least)))

    return text(value), text(low), text(high)


def both(value: float | None, low: float | None, high: float | None) -> tuple[str, str]:
    """`0.105` and `0.098 to 0.113`."""
    middle, first, last = ranged(value, low, high)
    return middle, DASH if first == DASH else f"{first} to {last}"


def said_of(row: Row) -> Said:
    """The verdict as it is shown: of a biased estimator, that it is one."""
    return "biased" if row.estimator in BIASED and row.verdict != "refused" else row.verdict


def noted(note: str) -> str:
    """A note of an evaluation for people: no limit at all makes DR of these estimators."""
    return re.sub(r"^(tau|lambda) inf$", r"\1 ∞, the same as DR", note)


def percent(share: float, *, sign: bool = False) -> str:
    """A share of 1 as per cent, in two significant digits below 10 %."""
    if not math.isfinite(share):
        return DASH
    x = 100 * share
    text = fixed(x, 0 if abs(x) >= 9.95 or x == 0 else max(0, min(3, 1 - math.floor(math.log10(abs(x))))))
    return f"{'+' if sign and x > 0 else ''}{text}\u00a0%"


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


def sentence(name: str, row: Row, gain: Difference, earned: str) -> str:
    """What the log says of a target, in one sentence.

    Args:
        name: of the target.
        row: its evaluation by DR.
        gain: the target less what was earned.
        earned: what was, in reward units per decision.
    """
    if row.value is None or row.low is None or row.high is None:
        return f"This log cannot say what “{name}” would have earned: {row.note}."
    value, low, high = ranged(row.value, row.low, row.high)
    part = "" if row.share == 1 else f" in the {percent(row.share)} of decisions in which it could be shown"
    than = _than(gain, earned)
    if row.verdict == "interval":
        own = f"“{name}” would have earned {value} a decision{part} ({low} to {high})"
        return f"{own}, {than}; for one look this can be believed."
    own = f"“{name}” would have earned between {low} and {high} a decision{part} (best guess {value}), {than}"
    starts = ("an interval takes", "or a cap", "state the possible")
    lacking = [note for note in row.note.split("; ") if note.startswith(starts)]
    return f"{own}; these limits are wide but safe{': ' if lacking else ''}{', '.join(lacking)}."


def _than(gain: Difference, earned: str) -> str:
    """How it compares; words come from the interval that is called clear."""
    if gain.low is None or gain.high is None:
        return f"where {earned} was earned"
    _, low, high = ranged(gain.value, gain.low, gain.high)
    if not gain.clear:
        return f"not clearly different from the {earned} that was earned (difference {low} to {high})"
    more, ends = ("more", (low, high)) if gain.low > 0 else ("less", (high, low))
    least, most = (end.replace("−", "") for end in ends)
    return f"{least} to {most} {more} than the {earned} that was earned"
