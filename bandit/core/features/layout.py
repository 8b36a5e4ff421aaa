"""Which columns x consists of, so that features can come and go while what was learned stays.

    G    columns that a generation has ever had; each keeps its number for good, and no number is used twice
    own  (d,) the numbers of the columns that x consists of now, ascending; column 0 is the intercept
    x    of a record is written by these numbers; of decisions made before there was a column it is 0

A new column appends a zero row and column to the sums, which is exact: x was 0 there. A column that goes takes its row
and column along. A number or boolean that is added brings one column more, which is 1/2 from then on (those that are
added together share it): else the zeros of all earlier decisions would be read as values of the feature. A category
or bins need none, as their columns add up to 1. At 1/2 an arm's shift takes some observations to be believed; at 1 the
doubt about it made every arm be tried again (`benchmarks/features_added.py`: .346 instead of .355 in the next quarter).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import msgspec
import numpy as np

from bandit.arrays import Int
from bandit.core.features.transforms import labels
from bandit.core.features.types import (
    Bins,
    Boolean,
    Category,
    Derived,
    Feature,
    Fourier,
    Hashed,
    Interaction,
    Number,
    Valued,
    Vector,
)
from bandit.core.sums import ONE
from bandit.errors import Code, Fault, Problem, pointer

SINCE = ONE // 2  # of a column that tells which decisions had the features that came with it
MISSING = "missing"  # the part of a feature that says that it is
G_MAX = 2**16  # columns of a generation: a record has 16 bits for a column's number


class Change(NamedTuple):
    """A change of the columns."""

    version: int  # of the experiment, the first with other columns
    total: int  # columns until then


class Layout(msgspec.Struct, frozen=True, dict=True):
    """The columns of one generation, as a config keeps them.

    Attributes:
        total: G.
        columns: the numbers of each feature's columns, in the order of its `parts`.
        known: of features that were added later, the column that is constant since then.
        changes: when columns came or went, in order.
    """

    total: int
    columns: dict[str, tuple[int, ...]]
    known: dict[str, int] = {}
    changes: tuple[Change, ...] = ()

    @cached_property
    def own(self) -> Int:
        """(d,) the numbers of the present columns, ascending."""
        used = {0, *self.known.values()}.union(*self.columns.values())
        return np.array(sorted(used), np.int64)

    @cached_property
    def local(self) -> Int:
        """(G,) where each column is now; -1: nowhere."""
        where: Int = np.full(self.total, -1)
        where[self.own] = np.arange(len(self.own))
        return where

    @cached_property
    def constants(self) -> list[int]:
        """The places in x of the intercept, and of what tells which decisions had the features that came later."""
        places: list[int] = self.local[[0, *sorted({*self.known.values()})]].tolist()
        return places

    @cached_property
    def is_plain(self) -> bool:
        """Whether the columns are the first d, so that their numbers are their places."""
        return int(self.own[-1]) == len(self.own) - 1

    def at(self, feature: Feature) -> list[int]:
        """The places in x of a feature's own columns."""
        found: list[int] = self.local[list(self.columns[feature.name])].tolist()
        return found

    def total_at(self, version: int) -> int:
        """How many columns there had been by this version of the experiment."""
        return next((change.total for change in self.changes if change.version > version), self.total)

    def changed_since(self, version: int) -> bool:
        """Whether columns came or went after this version."""
        return bool(self.changes) and self.changes[-1].version > version


Names = Mapping[str, Feature]


def parts(feature: Feature, others: Names) -> tuple[str, ...]:
    """A name for each column of a feature, by which it is known again in another version of the feature."""
    if isinstance(feature, Fourier):
        return tuple(map(str, range(feature.size)))
    if isinstance(feature, Interaction):
        if any(isinstance(others.get(name, feature), Derived) for name in feature.of):
            return ()  # it is none, and refused as such
        one, other = (_values(others[name], others) for name in feature.of)
        return tuple(f"{a} x {b}" for a in one for b in other)
    gone = (MISSING,) if feature.missing == "indicator" else ()
    return (*_values(feature, others), *gone)


def _values(feature: Feature, others: Names) -> tuple[str, ...]:
    """The columns that tell its value."""
    if isinstance(feature, Category):
        return *(f"={level}" for level in feature.levels), *(("other",) if feature.other else ())
    if isinstance(feature, Number) and feature.cycle is not None:
        return "sine", "cosine"
    if isinstance(feature, Number) and feature.transform is not None:
        return labels(feature.transform)
    if isinstance(feature, Hashed | Vector):
        size = feature.length if isinstance(feature, Vector) else 1 << feature.bits
        return tuple(map(str, range(size)))
    return parts(feature, others) if isinstance(feature, Derived) else ("",)


def by_name(features: Iterable[Feature]) -> Names:
    """Features by their names."""
    return {feature.name: feature for feature in features}


def numbered(features: Sequence[Feature]) -> Layout:
    """The layout of a new generation: column by column, in the order of the features."""
    columns, total, others = {}, 1, by_name(features)
    for feature in features:
        size = len(parts(feature, others))
        columns[feature.name] = tuple(range(total, total + size))
        total += size
    return Layout(total, columns)


def relaid(before: Layout, old: Sequence[Feature], new: Sequence[Feature], version: int) -> Layout:
    """The layout in which `new` features follow on `old` ones: what stays keeps its columns, what comes gets new ones.

    Raises:
        Problem: `features_changed`, where what is there cannot go on as the new features have it; `invalid_experiment`,
            where the generation has used up its columns.
    """
    known, others = by_name(old), by_name(new)
    if faults := list(_faults(known, new)):
        detail = "; ".join(f"{fault.pointer}: {fault.expected}" for fault in faults)
        raise Problem(Code.FEATURES_CHANGED, f"{detail}; or ?reset=true, which starts from zero", faults)
    columns, total = {}, before.total
    for feature in new:
        has = known.get(feature.name)
        numbers = dict(zip(parts(has, known), before.columns[has.name], strict=True)) if has else {}
        own = []
        for part in parts(feature, others):
            own.append(numbers.get(part, total))
            total += part not in numbers
        columns[feature.name] = tuple(own)
    constants = {name: column for name, column in before.known.items() if name in columns}
    if late := [f.name for f in new if f.name not in known and _zero_tells(f)]:
        constants |= dict.fromkeys(late, total)
        total += 1
    if total > G_MAX:
        fault = Fault("/features", f"at most {G_MAX} columns in one generation", f"{total} with those removed since")
        raise Problem(Code.INVALID_EXPERIMENT, f"{fault.text}; ?reset=true starts from zero", [fault])
    after = Layout(total, columns, constants, before.changes)
    if np.array_equal(after.own, before.own):
        return after
    return msgspec.structs.replace(after, changes=(*before.changes, Change(version, before.total)))


def _zero_tells(feature: Feature) -> bool:
    """Whether zeros in its columns are one of its values; columns of a category or of bins add up to 1."""
    if isinstance(feature, Number):
        return not isinstance(feature.transform, Bins)
    return isinstance(feature, Boolean | Vector)


class Earlier(NamedTuple):
    """A feature as it was."""

    feature: Valued
    columns: Int  # the numbers of its columns


def earlier(feature: Valued, layout: Layout, total: int) -> Earlier | None:
    """A feature while there had been so many columns; None where there was no such feature yet."""
    columns = dict(zip(parts(feature, {}), layout.columns[feature.name], strict=True))
    then = {part: column for part, column in columns.items() if column < total}
    if not then:
        return None
    if isinstance(feature, Category):
        levels = tuple(level for level in feature.levels if f"={level}" in then)
        feature = msgspec.structs.replace(feature, levels=levels, other="other" in then)
    if feature.missing == "indicator" and MISSING not in then:
        feature = msgspec.structs.replace(feature, missing="refuse")
    return Earlier(feature, np.array(list(then.values()), np.int64))


def _faults(known: Names, new: Sequence[Feature]) -> Iterator[Fault]:
    """Each feature that has been learned on, and whose values would mean something else now."""
    others = by_name(new)
    for i, feature in enumerate(new):
        has, at, name = known.get(feature.name), pointer("features", i), repr(feature.name)
        if isinstance(feature, Derived):
            if (has is None and set(feature.of) <= known.keys()) or (has is not None and has != feature):
                what = f"{name} as it was learned with" if has else f"{name} together with a feature of its own"
                kind = feature.__struct_config__.tag
                yield Fault(at + "/of", what, "another" if has else f"{kind} of features that are there already")
        elif has is None or has == feature:
            continue
        elif type(has) is not type(feature):
            yield Fault(at + "/type", f"{name} with the type that it was learned with", "another")
        elif _scaling(has) != _scaling(feature):
            yield Fault(at, f"{name} with the scaling that it was learned with", "another")
        elif gone := set(parts(has, known)) - set(parts(feature, others)):
            what = "missing" if MISSING in gone else "other" if gone == {"other"} else "levels"
            yield Fault(f"{at}/{what}", f"{name} with all {what} that it was learned with", "fewer")


def _scaling(feature: Feature) -> object:
    """What says which value becomes which number."""
    if isinstance(feature, Number):
        return feature.line(), feature.log, feature.cycle, feature.transform
    return feature.bits if isinstance(feature, Hashed) else feature.length if isinstance(feature, Vector) else None
