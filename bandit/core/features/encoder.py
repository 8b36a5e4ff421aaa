"""Contexts as numbers: one compiled type for each experiment's features, JSON values in, a feature vector out.

    x[0] = 1                       the intercept
    number                         (v - mean) / scale, or [min, max] onto [-1, 1]: one column
    boolean                        0 or 1: one column
    category                       one column a level, and one for every other value if `other`
    interaction                    the products of two features' columns, rounded again
    other ways                     in `special`, and those of fixed transforms in `transforms`

Each column is rounded to a whole number of 2^-12, then clipped to [-8, 8 - 2^-12]: an int16. Where a column is, the
`layout` says; for features that were added later, one column more is 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from bandit.core.features.layout import SINCE, Layout, by_name, numbered
from bandit.core.features.special import Special, decoded, encoded, is_special
from bandit.core.features.transforms import Placed, Waves, place, placed, waves
from bandit.core.features.types import (
    D_MAX,
    TYPES,
    X_MIN,
    Bins,
    Boolean,
    Category,
    Derived,
    Feature,
    Fourier,
    Interaction,
    Number,
    Rank,
    Valued,
    Vector,
    may_miss,
)
from bandit.core.sums import ONE, X_MAX
from bandit.errors import Code, Fault, Problem, json_type, nearest, pointer


class Choices(NamedTuple):
    """A category, and where its columns are."""

    feature: Category
    columns: list[int]  # of its levels, then of all others
    column: dict[str, int]  # of each level
    other: int


@dataclass(frozen=True)
class Encoder:
    """Encodes the contexts of one list of features. Make it with `compile_encoder`."""

    features: tuple[Valued, ...]  # that a context has values of
    context_type: type[msgspec.Struct]  # its fields: the linear features, the categories, the special, the placed ones
    d: int
    linear: tuple[tuple[int, Number | Boolean], ...]  # (column, feature)
    categories: tuple[Choices, ...]
    special: tuple[Special, ...]
    placed: tuple[Placed, ...]
    products: tuple[tuple[list[int], list[int], list[int]], ...]  # columns of the one and the other, and of products
    waves: tuple[Waves, ...]
    layout: Layout
    since: list[int]  # columns that are the same for all contexts
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
        if self.since:
            x[:, self.since] = SINCE
        if q:
            more = bool(values) and len(values[0]) > q  # categories, special ones, and what is no feature
            numbers = np.array([value[:q] for value in values] if more else values, np.float64)
            numbers -= self.shift
            # before dividing, which might overflow; both ends of the grid are met exactly
            numbers.clip(self.low, self.high, out=numbers)
            numbers /= self.step
            x[:, self.columns] = np.rint(numbers, out=numbers)
        for at, (_, _, column, other) in enumerate(self.categories, q):
            for row, value in zip(x, values, strict=True):
                row[column.get(value[at], other)] = ONE
        for at, (feature, columns) in enumerate(self.special, q + len(self.categories)):
            x[:, columns] = encoded(feature, [value[at] for value in values])
        if self.placed:
            for row, value in zip(x, values, strict=True):
                place(row, value, self.placed)
        for one, another, columns in self.products:
            both = x[:, one, None].astype(np.float64) * x[:, None, another]
            x[:, columns] = np.rint(both / ONE).clip(X_MIN, X_MAX).reshape(len(x), -1)
        for each in self.waves:
            each.put(x)
        return x

    def decode(self, x: NDArray[np.int16]) -> list[dict[str, Any]]:
        """The contexts of feature vectors, shape (N, d), in the features' own order; an unlisted level is None.

        Numbers have as few digits as are needed to encode to the same x. Of a feature whose values may be missing, None
        is one that is known to be missing, and an unlisted level some string that is none.
        """
        values: dict[str, list[Any]] = {}
        for column, feature in self.linear:
            own = x[:, column]
            values[feature.name] = _numbers(feature, own) if isinstance(feature, Number) else (own != 0).tolist()
        for category, columns, _, _ in self.categories:
            levels = [*category.levels, None]
            chosen = x[:, columns].argmax(axis=1)
            values[category.name] = [levels[level] for level in chosen.tolist()]
        others: list[Special | Placed] = [*self.special, *self.placed]
        for special in others:
            values[special.feature.name] = decoded(special.feature, x[:, special.columns])
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


def compile_encoder(features: Sequence[Feature], layout: Layout | None = None) -> Encoder:
    """The encoder of these features, their columns where a layout has them; None: in their order.

    Raises:
        Problem: names repeat, a feature's parameters contradict each other, or there are more than `D_MAX` columns.
    """
    _check(features)
    layout = layout or numbered(features)
    if (d := len(layout.own)) > D_MAX:
        fault = Fault("/features", f"at most {D_MAX} columns with the intercept", f"{d} columns")
        raise Problem(Code.INVALID_EXPERIMENT, f"the features make {d} columns; at most {D_MAX} are possible", [fault])
    linear: list[tuple[int, Number | Boolean]] = []
    categories: list[Choices] = []
    special: list[Special] = []
    by_transform: list[tuple[Number, Bins | Rank, list[int]]] = []
    products, made, named = [], list[Waves](), by_name(features)
    for feature in features:
        columns = layout.at(feature)
        if isinstance(feature, Fourier):
            numbers = [layout.at(named[name])[0] for name in feature.of]
            made.append(waves(feature, _sliced(numbers), _sliced(columns)))
        elif isinstance(feature, Interaction):
            one, other = (_factors(named[name], layout) for name in feature.of)
            products.append((one, other, columns))
        elif isinstance(feature, Number) and feature.transform is not None:
            by_transform.append((feature, feature.transform, columns))
        elif is_special(feature):
            special.append(Special(feature, columns))
        elif isinstance(feature, Category):
            categories.append(Choices(feature, columns, dict(zip(feature.levels, columns, strict=False)), columns[-1]))
        elif isinstance(feature, Number | Boolean):
            linear.append((columns[0], feature))
    lines = [f.line() if isinstance(f, Number) else (0.0, 1.0) for _, f in linear]
    shift, scale = np.array(lines, np.float64).reshape(-1, 2).T
    low, high = scale * (X_MIN / ONE), scale * (X_MAX / ONE)
    said = [*(f for _, f in linear), *(each.feature for each in categories), *(each.feature for each in special)]
    in_place = [placed(*each, at) for at, each in enumerate(by_transform, len(said))]
    return Encoder(
        features=tuple(feature for feature in features if not isinstance(feature, Derived)),
        context_type=_context_type([*said, *(each.feature for each in in_place)]),
        d=d,
        linear=tuple(linear),
        categories=tuple(categories),
        special=tuple(special),
        placed=tuple(in_place),
        products=tuple(products),
        waves=tuple(made),
        layout=layout,
        since=layout.constants[1:],
        columns=_sliced([column for column, _ in linear]),
        shift=shift,
        step=scale / ONE,
        low=low,
        high=high,
    )


def _factors(feature: Feature, layout: Layout) -> list[int]:
    """The columns of a feature's values, which interactions multiply."""
    columns = layout.at(feature)
    return columns[: len(columns) - (not isinstance(feature, Derived) and feature.missing == "indicator")]


def _sliced(columns: list[int]) -> NDArray[np.int64] | slice:
    """The columns, as a slice where they follow each other: it is quicker."""
    if columns == list(range(columns[0], columns[0] + len(columns)) if columns else ()):
        return slice(columns[0], columns[-1] + 1) if columns else slice(0)
    return np.array(columns, np.int64)


def _check(features: Sequence[Feature]) -> None:
    names, named = [feature.name for feature in features], by_name(features)
    faults = [
        Fault(pointer("features", i), fault, "other parameters") for i, f in enumerate(features) if (fault := f.fault())
    ]
    faults += [
        Fault(pointer("features", i, "name"), "names that differ", "a name used before")
        for i, name in enumerate(names)
        if name in names[:i]
    ]
    faults += [
        Fault(pointer("features", i, "transform", "edges", j), "an edge above the one before", "one that is not")
        for i, feature in enumerate(features)
        if isinstance(feature, Number) and feature.transform is not None
        for j, (low, high) in enumerate(pairwise(feature.transform.edges), 1)
        if not low < high
    ]
    faults += [
        Fault(pointer("features", i, "of", j), expected, "another name")
        for i, feature in enumerate(features)
        if isinstance(feature, Derived)
        for j, name in enumerate(feature.of)
        if (expected := _wrong_part(feature, named.get(name)))
    ]
    if faults:
        detail = "; ".join(f"feature {fault.pointer} takes {fault.expected}" for fault in faults)
        raise Problem(Code.INVALID_EXPERIMENT, detail, faults)


def _wrong_part(feature: Derived, of: Feature | None) -> str:
    """What a feature that is made of others should be made of; empty where it is."""
    if isinstance(feature, Interaction):
        right, expected = not isinstance(of, Derived | None), "a feature of the document that is made of no others"
    else:
        right = isinstance(of, Number) and of.cycle is None and not isinstance(of.transform, Bins)
        expected = "a number of the document without cycle and bins"
    return "" if right else expected


def _context_type(features: Sequence[Valued]) -> type[msgspec.Struct]:
    """A struct whose fields are the features; unknown, missing, null and wrongly typed values are refused, but where a
    feature's value may be missing.
    """
    fields: list[Any] = [(f"f{i}", *_field(feature)) for i, feature in enumerate(features)]
    rename = {f"f{i}": feature.name for i, feature in enumerate(features)}
    return msgspec.defstruct(
        "Context", fields, rename=rename, forbid_unknown_fields=True, frozen=True, gc=False, kw_only=True
    )


def _field(feature: Valued) -> tuple[Any, ...]:
    """(type, default if its value may be missing)."""
    kind: Any = {Number: float, Boolean: bool}.get(type(feature), str)
    if isinstance(feature, Category) and not feature.other:
        kind = Literal[feature.levels]
    if isinstance(feature, Vector):
        kind = Annotated[tuple[float, ...], Meta(min_length=feature.length, max_length=feature.length)]
    return (kind | None, None) if may_miss(feature) else (kind,)


def _value_faults(feature: Valued, context: dict[str, Any], at: str) -> list[Fault]:
    expected, where = TYPES[type(feature)], at + pointer(feature.name)
    a = f"an {expected}" if expected == "array" else f"a {expected}"
    if feature.name not in context:
        return [] if may_miss(feature) else [Fault(where, a, "nothing")]
    value = context[feature.name]
    if value is None and may_miss(feature):
        return []
    if json_type(value) != expected:
        return [Fault(where, a, json_type(value))]
    if isinstance(feature, Category) and not feature.other and value not in feature.levels:
        return [Fault(where, "one of the levels" + nearest(value, feature.levels), "another string")]
    if isinstance(feature, Vector):
        if len(value) != feature.length:
            return [Fault(where, f"{feature.length} numbers", f"{len(value)}")]
        wrong = [i for i, each in enumerate(value) if json_type(each) != "number"]
        return [Fault(where + pointer(i), "a number", json_type(value[i])) for i in wrong[:20]]
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
