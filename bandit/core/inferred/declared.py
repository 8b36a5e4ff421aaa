"""A column of values known before a decision as a feature of a document, or the reason why it is none."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import numpy as np

from bandit.arrays import Vector
from bandit.core.features import SMALLEST, Boolean, Category, Feature, Hashed, Number
from bandit.core.features import Vector as Listed
from bandit.core.inferred.columns import Column
from bandit.core.inferred.words import ID, MISSING

LEVELS = 30  # of a category, the most frequent
COVERED = 0.9  # of the rows must have one of these, or it is hashed
RARE, FEW = 0.005, 200  # a level in a smaller share of the rows is one of the others, from so many rows on
ABSENT = 0.98  # of the rows have no value: too few are left to learn from
BITS = 4, 6  # of a hashed one
LENGTH = 256  # of a vector that is taken
WORDS = 4  # on average in a text: prose, not a name
NAME = re.compile(r'[^\x00-\x1f\x7f-\x9f"\\]{1,128}')
LEVEL = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,256}")
CODES = {
    "zip", "plz", "postcode", "postal", "code", "type", "category", "class", "segment", "cluster", "group",
} | (ID - {"number", "num", "no"})  # fmt: skip
CYCLES = (
    ({"hour", "stunde", "heure"}, 24),
    ({"weekday", "dow", "wochentag", "dayofweek"}, 7),
    ({"month", "monat", "mois"}, 12),
)  # fmt: skip
SEND = "send it as a string"
MOSTLY = 0.5  # of the values are numbers, or begin with one, so that the others are asked about
WITH_UNIT = re.compile(r"[-+−]?\d[\d.,]*\s?[^\W\d_]{1,8}[.²³]?")


class Declared(NamedTuple):
    """A feature, or None; why; and what is doubtful about it."""

    feature: Feature | None
    why: str
    doubt: str = ""


def declared(column: Column) -> Declared:
    """A column as a feature."""
    rows, missing = len(column.cells), column.missing
    if not NAME.fullmatch(column.name):
        return Declared(None, "a feature's name has up to 128 characters, no control character, no quotation mark")
    if column.kind == "empty":
        return Declared(None, "it has no values")
    if rows >= FEW and missing > ABSENT * rows:
        return Declared(None, f"only {rows - missing} of {rows} rows have a value")
    if column.distinct == 1 and not missing:
        return Declared(None, "it has one value in all rows, which teaches nothing")
    if column.kind == "time":
        return Declared(None, "times: send the hour (cycle 24) or the weekday (cycle 7) as a feature instead")
    by_kind = {"boolean": _boolean, "number": _number, "vector": _vector, "text": _text}
    return by_kind[column.kind](column)


def _missing(column: Column) -> dict[str, str]:
    """What stands for a missing value: a column of its own, where some are."""
    return {"missing": "indicator"} if column.missing else {}


def _boolean(column: Column) -> Declared:
    numbers = any(text.lower() not in ("true", "false") for text in column.texts)
    why = "only 0 and 1: send false or true" if numbers else "only true and false"
    return Declared(Boolean(column.name, **_missing(column)), why)  # type: ignore[arg-type]


def _number(column: Column) -> Declared:
    if column.whole and column.words & CODES:
        told = _text(column)
        return told._replace(why=f"numbers that are codes by their name: {told.why}")
    values = column.values[~np.isnan(column.values)]
    if column.whole and column.mostly_different and _counts_rows(values):
        return Declared(None, "it counts the rows")
    doubt = f"{column.strange} of its values are no numbers and count as missing" if column.strange else ""
    for words, cycle in CYCLES:
        if column.words & words and values.min() >= 0 and cycle / 2 < values.max() <= cycle:
            why = f"goes round: after {cycle} it begins anew"
            return Declared(Number(column.name, cycle=cycle, **_missing(column)), why, doubt)  # type: ignore[arg-type]
    return _line(column, values, doubt)


def _counts_rows(values: Vector) -> bool:
    return bool(np.ptp(values) == len(values) - 1 and len(np.unique(values)) == len(values))


def _line(column: Column, values: Vector, doubt: str) -> Declared:
    """A number on a straight line, or on its logarithm where amounts differ by powers of ten."""
    low, middle, high = (float(q) for q in np.quantile(values, (0.01, 0.5, 0.99)))
    missing = _missing(column)
    if values.min() >= 0 and values.max() <= 1 and low < 0.2 and high > 0.8:
        why = "a share: from 0 to 1"
        return Declared(Number(column.name, min=0.0, max=1.0, **missing), why, doubt)  # type: ignore[arg-type]
    log = bool(values.min() >= 0 and high >= 20 and high >= 10 * max(middle, 1.0))
    v = np.log1p(values) if log else values
    mean, scale = _usual(v)
    if not SMALLEST <= scale <= 1e50:
        return Declared(None, "its values differ too little to be told apart, or are too large")
    shown = "of the logarithm, as amounts differ by powers of ten" if log else "of most values, without the extreme 1 %"
    extra = {"log": True} if log else {}
    feature = Number(column.name, mean=mean, scale=scale, **extra, **missing)  # type: ignore[arg-type]
    why = f"numbers from {values.min():g} to {values.max():g}; mean and scale {shown}"
    send = f"; send {column.unplain!r} as {column.numbers[column.unplain]!r}" if column.unplain else ""
    return Declared(feature, why + send, doubt)


def _usual(v: Vector) -> tuple[float, float]:
    """(mean, standard deviation) with the lowest and highest hundredth pulled in, in round numbers."""
    mild = np.clip(v, *np.quantile(v, (0.01, 0.99)))
    mild = mild if np.ptp(mild) > 1e-9 * np.abs(mild).max() else v
    size = float(np.abs(mild).max()) or 1.0  # squares of large numbers overflow
    mean, scale = float((mild / size).mean()) * size, float((mild / size).std()) * size
    if not scale > 1e-12 * abs(mean) or not math.isfinite(scale):
        return mean, 0.0
    digits = min(15, 3 + max(0, math.ceil(math.log10(abs(mean) / scale)) if mean else 0))
    return float(f"{mean:.{digits}g}"), float(f"{scale:.3g}")


def _vector(column: Column) -> Declared:
    length = column.length
    if length > LENGTH:
        return Declared(None, f"lists of {length} numbers: at most {LENGTH} are proposed; shorten them first")
    feature = Listed(column.name, length, **_missing(column))  # type: ignore[arg-type]
    return Declared(feature, f"lists of {length} numbers; scale them so that their norm is about 1")


def _text(column: Column) -> Declared:
    there = column.texts.total()
    if column.mostly_different:
        return Declared(None, "nearly every row has a value of its own, so that nothing repeats to learn from")
    if (
        sum(len(text.split()) * count for text, count in column.texts.items()) >= WORDS * there
        and column.distinct > LEVELS
    ):
        return Declared(None, "prose: send an embedding of it as a vector instead")
    fit = {text: count for text, count in column.texts.most_common() if LEVEL.fullmatch(text)}
    least = max(2.0, RARE * there) if there >= FEW else 1.0
    often = [text for text, count in fit.items() if count >= least][:LEVELS]
    covered = sum(fit[text] for text in often) / there
    missing = _missing(column)
    if often and (column.distinct <= LEVELS or covered >= COVERED):
        rest = column.distinct - len(often)
        others = f"; {rest} rare ones are among the others" if rest else ""
        category = Category(column.name, tuple(often), missing=missing.get("missing", "refuse"))
        return Declared(category, f"{len(often)} levels{others}; {SEND}")
    bits = min(max(math.ceil(math.log2(max(column.distinct, 2))), BITS[0]), BITS[1])
    why = f"{column.distinct} different texts, too many to list: hashed to {2**bits} columns; {SEND}"
    return Declared(Hashed(column.name, bits, **missing), why, _nearly_numbers(column))


def _nearly_numbers(column: Column) -> str:
    """Whether a column of texts would be one of numbers but for a few words, or but for units."""
    if column.kind != "text":
        return ""
    if column.strange <= (1 - MOSTLY) * column.texts.total():
        word = next(text for text in column.texts if text not in column.numbers and text not in MISSING)
        return f"most of its values are numbers, but not {word!r}: leave empty what has none, and it is one of numbers"
    unit = [text for text in column.texts if WITH_UNIT.fullmatch(text)]
    if sum(column.texts[text] for text in unit) >= MOSTLY * column.texts.total():
        return f"its values look like numbers with a unit, as {unit[0]!r}: without it they are numbers"
    return ""
