"""Words between people and programs: numbers and phrases to be read, and names of targets and settings as written.

A value beside its interval has the digits that the interval's width deserves; what is tiny against that width is 0.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import msgspec

DASH = "–"
TINY = 1e-4  # of an interval's width: a value that nobody could tell from 0
NOUNS = "row|column|line|example|file|decision|place|position|list|value|arm|user|time"
VERBS = {"stand": "stands", "are": "is", "were": "was", "have": "has", "look": "looks", "sound": "sounds"}
TargetKind = Literal["uniform", "fixed", "list", "csv", "document", "policy"]


def number(x: float | None, digits: int = 3) -> str:
    """About three significant digits, without an exponent where that can be read."""
    if x is None or not math.isfinite(x):
        return DASH if x is None or math.isnan(x) else ("∞" if x > 0 else "−∞")
    if x == 0:
        return "0"
    size = _size(x, digits)
    text = f"{x:.{digits - 1}e}" if not -6 < size < 15 else fixed(x, max(0, digits - 1 - size))
    return text.replace("-", "−")


def fixed(x: float, decimals: int) -> str:
    """With so many decimals, thousands apart."""
    text = f"{x:,.{decimals}f}"
    return (text.removeprefix("-") if not float(text.replace(",", "")) else text).replace("-", "−")


def amount(x: float) -> str:
    """A reward that was given or that came, with all its digits, thousands apart."""
    if not 1e-9 <= abs(x) < 1e15:
        return number(x)
    text = f"{Decimal(repr(float(x))):,f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def ranged(value: float | None, low: float | None, high: float | None) -> tuple[str, str, str]:
    """A value and its interval, each with three significant digits, or two of the interval's width if that is more."""
    if low is None or high is None or not math.isfinite(high - low):
        return number(value), DASH, DASH
    return beside(value, high - low), beside(low, high - low), beside(high, high - low)


def beside(x: float | None, width: float) -> str:
    """One number beside an interval of this width."""
    if x is None:
        return ""
    if not math.isfinite(x):
        return number(x)
    if not x or abs(x) < TINY * width:
        return "0"
    least = 1 - math.floor(math.log10(width)) if width > 0 else 0
    return fixed(x, min(10, max(0, 2 - _size(x, 3), least)))


def _size(x: float, digits: int) -> int:
    """The power of ten of the first digit, after rounding: of .09998 that is .100."""
    return int(f"{x:.{digits - 1}e}".partition("e")[2])


def both(value: float | None, low: float | None, high: float | None) -> tuple[str, str]:
    """`0.105` and `0.098 to 0.113`."""
    middle, first, last = ranged(value, low, high)
    return middle, DASH if first == DASH else f"{first} to {last}"


def percent(share: float, *, sign: bool = False) -> str:
    """A share of 1 as per cent, in two significant digits below 10 %."""
    if not math.isfinite(share):
        return DASH
    x = 100 * share
    text = fixed(x, 0 if abs(x) >= 9.95 or x == 0 else max(0, min(3, 1 - math.floor(math.log10(abs(x))))))
    return f"{'+' if sign and x > 0 else ''}{text}\u00a0%"


def counted(count: int, what: str) -> str:
    """`1 row dropped: ...`, `2 rows dropped: ...`: of what is told in the plural."""
    if count != 1:
        return f"{count:,} {what}"
    one = re.sub(rf"^({NOUNS})s\b", r"\1", re.sub("^(categor|entr)ies", r"\1y", what))
    if one == what:
        return f"1 {what}"
    one = re.sub(rf"\b({'|'.join(VERBS)})\b", lambda verb: VERBS[verb[0]], one, count=1)
    return f"1 {one.replace(' their ', ' its ', 1)}"


def capped(cap: float | None, largest: float | None = None, low: float | None = None) -> str:
    """What a cap does to every number beside it; empty where there is none.

    Args:
        cap: rewards above it count as it.
        largest: reward that came, where it is known.
        low: rewards below it count as it.
    """
    if cap is None:
        return ""
    if largest is not None and largest <= cap:
        return f"no reward is above the cap of {amount(cap)}"
    below = "" if low is None else f", those below {amount(low)} as {amount(low)}"
    return f"rewards above {amount(cap)} count as {amount(cap)}{below}: values are of these capped rewards"


def noted(notes: str) -> str:
    """Notes of an evaluation for people: no exponents; an infinite tau or lambda is shown as ∞, the same as DR."""
    return "; ".join(map(_noted, notes.split("; ")))


def _noted(note: str) -> str:
    note = re.sub(r"^(tau|lambda) inf$", r"\1 ∞, the same as DR", note)
    if cap := re.fullmatch(r"or a cap: .*\(cap=([^)]*)\)", note):
        return f"or a cap of {_plainly(cap[1])} (cap={cap[1]}): the value is then of the capped reward"
    note = note.removesuffix(", or 1 times as much exploration")
    return re.sub(r"\b\d+(\.\d+)?e[+]\d+\b", lambda found: _plainly(found[0]), note)


def _plainly(text: str) -> str:
    """A number of a note with its thousands apart."""
    try:
        return amount(float(text))
    except ValueError:
        return text


def settings(text: str, *, flags: bool = False) -> dict[str, Any]:
    """a=1,b=x: values are JSON where they can be, else text.

    Args:
        text: parts with commas between them; one within brackets parts nothing.
        flags: whether a name alone is a part too, and true.

    Raises:
        ValueError: a part is not NAME=VALUE, nor a flag where they are taken.
    """
    pairs = [part.partition("=") for part in re.split(r",(?![^\[]*\])", text) if part]
    if not flags and (wrong := [name for name, sep, _ in pairs if not sep]):
        raise ValueError(f"expected NAME=VALUE, got {wrong[0]!r}")
    return {name: value_of(value) if sep else True for name, sep, value in pairs}


def value_of(text: str) -> Any:
    """A value as JSON, or as the text that it is."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


class Named(NamedTuple):
    """What a text says of a target.

    Attributes:
        kind: which kind of target it is.
        name: the first word: that of the kind, the path of a file, or which policy.
        rest: what follows the colon: the arm, the arms of a list, or settings.
    """

    kind: TargetKind
    name: str
    rest: str = ""


def named(text: str) -> Named:
    """The target that a text names, as far as it is known before any file is read or any policy is looked up.

    uniform  fixed:ARM  list:ARM,ARM,...  FILE.csv (or .csv.gz)  FILE.json:a=1,...  POLICY:a=1,...
    """
    name, colon, rest = text.partition(":")
    if text == "uniform":
        return Named("uniform", text)
    if colon and name == "fixed":
        return Named("fixed", name, rest)
    if colon and name == "list":
        return Named("list", name, rest)
    if text.removesuffix(".gz").endswith(".csv"):
        return Named("csv", text)
    return Named("document" if name.endswith(".json") else "policy", name, rest)
