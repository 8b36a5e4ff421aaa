"""Contexts as numbers: one compiled type for each experiment's features, JSON values in, a feature vector out.

    x[0] = 1                       the intercept
    number                         (v - mean) / scale, or [min, max] onto [-1, 1]: one column
    boolean                        0 or 1: one column
    category                       one column a level, and one for every other value if `other`

Each column is rounded to a whole number of 2^-12, then clipped to [-8, 8 - 2^-12]: an int16.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from bandit.core.sums import ONE, X_MAX
from bandit.errors import Code, Fault, Problem, json_type, nearest, pointer

X_MIN = -X_MAX - 1
D_MAX = 1024  # columns: an arm's scoring data grow with their square

# `$` alone would let a newline at the end pass; a feature's name becomes a field of a struct, which takes no " and no \
Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$(?!\n)")]
FeatureName = Annotated[str, Meta(min_length=1, max_length=128, pattern=r'^[^\x00-\x1f\x7f-\x9f"\\]*$(?!\n)')]
SMALLEST = 1e-50
Real = Annotated[float, Meta(ge=-1e50, le=1e50)]  # its products and their squares neither overflow nor vanish


class Number(msgspec.Struct, tag="number", frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A number: give mean and scale, or min and max.

    Attributes:
        name: The key of this feature in a context.
        mean: What is subtracted from the value; it goes together with scale.
        scale: What the value is divided by after the mean is subtracted, above 0; it goes together with mean.
        min: The value that becomes -1; it goes together with max, instead of mean and scale.
        max: The value that becomes 1; it goes together with min, instead of mean and scale.
    """

    name: FeatureName
    mean: Real | None = None
    scale: Annotated[float, Meta(ge=SMALLEST, le=1e50)] | None = None
    min: Real | None = None
    max: Real | None = None

    def line(self) -> tuple[float, float]:
        """(shift, scale): the column is (v - shift) / scale."""
        if self.min is not None and self.max is not None:
            return self.min / 2 + self.max / 2, self.max / 2 - self.min / 2
        return self.mean or 0.0, 1.0 if self.scale is None else self.scale

    def fault(self) -> str | None:
        """What the parameters should be, where they are wrong; else None."""
        pairs = {(self.mean is None, self.scale is None), (self.min is None, self.max is None)}
        if pairs != {(True, True), (False, False)}:
            return "mean and scale, or min and max"
        return "min < max" if self.line()[1] < SMALLEST else None


class Boolean(msgspec.Struct, tag="boolean", frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """True or false.

    Attributes:
        name: The key of this feature in a context.
    """

    name: FeatureName

    def fault(self) -> str | None:
        """None: it has no parameters."""
        return None


class Category(msgspec.Struct, tag="category", frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One of the levels; with `other`, any other string is one more level.

    Attributes:
        name: The key of this feature in a context.
        levels: The strings that each have a column of their own, at most 1,024 of at most 256 characters.
        other: Whether any other string is taken too, as one more level; else it is refused with 422; default true.
    """

    name: FeatureName
    levels: Annotated[tuple[Annotated[str, Meta(max_length=256)], ...], Meta(min_length=1, max_length=D_MAX)]
    other: bool = True

    def fault(self) -> str | None:
        """What the parameters should be, where they are wrong; else None."""
        return "levels that differ" if len(set(self.levels)) < len(self.levels) else None


Feature = Number | Boolean | Category
TYPES: Mapping[type, str] = {Number: "number", Boolean: "boolean", Category: "string"}


@dataclass(frozen=True)
class Encoder:
    """Encodes the contexts of one list of features. Make it with `compile_encoder`."""

    features: tuple[Feature, ...]
    context_type: type[msgspec.Struct]  # its fields are the linear features, then the categories
    d: int
    linear: tuple[tuple[int, Number | Boolean], ...]  # (column, feature)
    categories: tuple[tuple[int, Category, dict[str, int]], ...]  # (first column, feature, level -> column)
    columns: NDArray[np.int64] | slice  # of the linear features
    shift: NDArray[np.float64]
    step: NDArray[np.float64]  # of the grid, before the scale
    low: NDArray[np.float64]  # what is less than this after the shift is cut
    high: NDArray[np.float64]

    def encode(self, contexts: Sequence[msgspec.Struct]) -> NDArray[np.int16]:
        """Feature vectors of decoded contexts, shape (N, d)."""
        values = [msgspec.structs.astuple(context) for context in contexts]
        q = len(self.linear)
        x = np.zeros((len(values), self.d), np.int16)
        x[:, 0] = ONE
        if q:
            more = len(values[0]) > q  # categories, and what is no feature
            numbers = np.array([value[:q] for value in values] if more else values, np.float64)
            numbers -= self.shift
            # before dividing, which might overflow; both ends of the grid are met exactly
            numbers.clip(self.low, self.high, out=numbers)
            numbers /= self.step
            x[:, self.columns] = np.rint(numbers, out=numbers)
        for at, (first, feature, column) in enumerate(self.categories, q):
            other = first + len(feature.levels)
            for row, value in zip(x, values, strict=True):
                row[column.get(value[at], other)] = ONE
        return x

    def decode(self, x: NDArray[np.int16]) -> list[dict[str, Any]]:
        """The contexts of feature vectors, shape (N, d), in the features' own order; an unlisted level is None.

        Numbers have as few digits as are needed to encode to the same x.
        """
        values: dict[str, list[Any]] = {}
        for column, feature in self.linear:
            own = x[:, column]
            values[feature.name] = _numbers(feature, own) if isinstance(feature, Number) else (own != 0).tolist()
        for first, category, _ in self.categories:
            levels = [*category.levels, None]
            chosen = x[:, first : first + len(category.levels) + category.other].argmax(axis=1)
            values[category.name] = [levels[level] for level in chosen.tolist()]
        names = [feature.name for feature in self.features]
        if not names:
            return [{} for _ in x]
        return [dict(zip(names, row, strict=True)) for row in zip(*(values[name] for name in names), strict=True)]

    def faults(self, context: object, at: str) -> list[Fault]:
        """Everything that is wrong with a context that `context_type` refused; `at` is the pointer to it."""
        if not isinstance(context, dict):
            return [Fault(at, "an object", json_type(context))]
        known = [feature.name for feature in self.features]
        unknown = [
            Fault(
                at + pointer(name),
                "a feature of this experiment" + nearest(name, set(known) - set(context)),
                json_type(value),
            )
            for name, value in context.items()
            if name not in known
        ]
        return [fault for feature in self.features for fault in _value_faults(feature, context, at)] + unknown


def compile_encoder(features: Sequence[Feature]) -> Encoder:
    """The encoder of these features.

    Raises:
        Problem: names repeat, a feature's parameters contradict each other, or there are more than `D_MAX` columns.
    """
    _check(features)
    linear: list[tuple[int, Number | Boolean]] = []
    categories: list[tuple[int, Category, dict[str, int]]] = []
    d = 1
    for feature in features:
        if isinstance(feature, Category):
            categories.append((d, feature, {level: d + i for i, level in enumerate(feature.levels)}))
            d += len(feature.levels) + feature.other
        else:
            linear.append((d, feature))
            d += 1
    if d > D_MAX:
        fault = Fault("/features", f"at most {D_MAX} columns with the intercept", f"{d} columns")
        raise Problem(Code.INVALID_EXPERIMENT, f"the features make {d} columns; at most {D_MAX} are possible", [fault])
    lines = [f.line() if isinstance(f, Number) else (0.0, 1.0) for _, f in linear]
    shift, scale = np.array(lines, np.float64).reshape(-1, 2).T
    columns = np.array([column for column, _ in linear], np.int64) if categories else slice(1, d)
    low, high = scale * (X_MIN / ONE), scale * (X_MAX / ONE)
    context_type = _context_type([f for _, f in linear] + [f for _, f, _ in categories])
    return Encoder(
        tuple(features), context_type, d, tuple(linear), tuple(categories), columns, shift, scale / ONE, low, high
    )


def _check(features: Sequence[Feature]) -> None:
    names = [feature.name for feature in features]
    faults = [
        Fault(pointer("features", i), fault, "other parameters") for i, f in enumerate(features) if (fault := f.fault())
    ]
    faults += [
        Fault(pointer("features", i, "name"), "names that differ", "a name used before")
        for i, name in enumerate(names)
        if name in names[:i]
    ]
    if faults:
        detail = "; ".join(f"feature {fault.pointer} takes {fault.expected}" for fault in faults)
        raise Problem(Code.INVALID_EXPERIMENT, detail, faults)


def _context_type(features: Sequence[Feature]) -> type[msgspec.Struct]:
    """A struct whose fields are the features; unknown, missing, null and wrongly typed values are refused."""
    fields = [(f"f{i}", _field_type(feature)) for i, feature in enumerate(features)]
    rename = {f"f{i}": feature.name for i, feature in enumerate(features)}
    return msgspec.defstruct("Context", fields, rename=rename, forbid_unknown_fields=True, frozen=True, gc=False)


def _field_type(feature: Feature) -> Any:
    if isinstance(feature, Category):
        return str if feature.other else Literal[feature.levels]
    return float if isinstance(feature, Number) else bool


def _value_faults(feature: Feature, context: dict[str, Any], at: str) -> list[Fault]:
    expected, where = TYPES[type(feature)], at + pointer(feature.name)
    if feature.name not in context:
        return [Fault(where, f"a {expected}", "nothing")]
    value = context[feature.name]
    if json_type(value) != expected:
        return [Fault(where, f"a {expected}", json_type(value))]
    if isinstance(feature, Category) and not feature.other and value not in feature.levels:
        return [Fault(where, "one of the levels" + nearest(value, feature.levels), "another string")]
    return []


def _numbers(feature: Number, grid: NDArray[np.int16]) -> list[float]:
    """`_number` of each; many are equal."""
    different, which = np.unique(grid, return_inverse=True)
    numbers = [_number(feature, value) for value in different.tolist()]
    return [numbers[i] for i in which.tolist()]


def _number(feature: Number, grid: int) -> float:
    """The shortest number that is encoded as this; one that was clipped comes back as where it was clipped."""
    shift, scale = feature.line()
    exact = shift + grid / ONE * scale
    fewest = -math.floor(math.log10(scale / ONE)) - 1
    numbers = (round(exact, digits) for digits in range(fewest, fewest + 4))
    return next((number for number in numbers if round((number - shift) / scale * ONE) == grid), exact)
