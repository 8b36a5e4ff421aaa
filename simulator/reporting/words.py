"""Numbers and verdicts in words for people."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from simulator.evaluation import BIASED, Row
from simulator.reporting.contrasts import Difference
from simulator.verdict import ENOUGH, Verdict

Said = Verdict | Literal["biased"]  # "biased": an interval around what the estimator says, not around the truth

DASH = "–"
MEANING: dict[Said, str] = {
    "interval": "can be believed",
    "sequence": "wide but safe",
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
    """A value and its interval with the decimals that its narrower side deserves; without an interval, by itself."""
    if low is None or high is None or not math.isfinite(high - low):
        return number(value), DASH, DASH
    width = high - low
    near = width if value is None else max(2 * min(value - low, high - value), width / 10)
    decimals = 3 if width <= 0 else min(10, max(0, 1 - math.floor(math.log10(near))))
    return ("" if value is None else fixed(value, decimals)), fixed(low, decimals), fixed(high, decimals)


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


def sentence(name: str, row: Row, gain: Difference, earned: str, reasons: Sequence[str]) -> str:
    """What the log says of a target, in one sentence.

    Args:
        name: of the target.
        row: its evaluation by DR.
        gain: the target less what was earned.
        earned: what was, in reward units per decision.
        reasons: why there is no answer, if there is none.
    """
    if row.value is None or row.low is None or row.high is None:
        return f"This log cannot say what “{name}” would have earned: {'; '.join(reasons)}."
    value, low, high = ranged(row.value, row.low, row.high)
    n_eff, than = fixed(row.n_eff, 0), _than(gain, earned)
    if row.verdict == "interval":
        own = f"{value} a decision ({low} to {high})"
        return f"“{name}” would have earned {own}, {than}; this can be believed: effective n {n_eff}."
    few = f"effective n is only {n_eff}"
    why = few if row.n_eff < ENOUGH else "rewards are too rare, or too uneven, for a narrow one"
    own = f"between {low} and {high} a decision"
    return f"“{name}” would have earned {own}, {than}; this range is wide but safe, because {why}."


def _than(gain: Difference, earned: str) -> str:
    if not gain.clear:
        return f"not clearly different from the {earned} that was earned"
    more = "more" if gain.value > 0 else "less"
    by = f"{percent(abs(gain.share))} " if math.isfinite(gain.share) and gain.verdict == "interval" else ""
    return f"{by}{more} than the {earned} that was earned"
