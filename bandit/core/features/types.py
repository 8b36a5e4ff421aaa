"""What a context may consist of: the types of features, as an experiment's document has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from bandit.core.sums import X_MAX

X_MIN = -X_MAX - 1
D_MAX = 1024  # columns: an arm's scoring data grow with their square

# `$` alone would let a newline at the end pass; a feature's name becomes a field of a struct, which takes no " and no \
Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$(?!\n)")]
FeatureName = Annotated[str, Meta(min_length=1, max_length=128, pattern=r'^[^\x00-\x1f\x7f-\x9f"\\]*$(?!\n)')]
SMALLEST = 1e-50
Real = Annotated[float, Meta(ge=-1e50, le=1e50)]  # its products and their squares neither overflow nor vanish
Level = Annotated[str, Meta(max_length=256)]
Missing = Literal["refuse", "indicator"]


class Bins(msgspec.Struct, tag="bins", frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A column for each interval: below the first edge, from each edge up to the next, and from the last one on.

    Attributes:
        edges: Where one interval ends and the next begins, ascending, at most 1,022; an edge belongs to the one above.
    """

    edges: Annotated[tuple[Real, ...], Meta(min_length=1, max_length=D_MAX - 2)]


class Rank(msgspec.Struct, tag="rank", frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How far up a number is among the edges: from -1 at the first to 1 at the last, in equal steps from edge to edge.

    Attributes:
        edges: Quantiles of the number, ascending, 2 to 1,024: where it lies between two, so does its rank.
    """

    edges: Annotated[tuple[Real, ...], Meta(min_length=2, max_length=D_MAX)]


COMMAND = "`bandit-simulator features` proposes them from data"


class Number(msgspec.Struct, tag="number", frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A number: give mean and scale, or min and max, or cycle, or transform.

    Attributes:
        name: The key of this feature in a context.
        mean: What is subtracted from the value; it goes together with scale.
        scale: What the value is divided by after the mean is subtracted, above 0; it goes together with mean.
        min: The value that becomes -1; it goes together with max, instead of mean and scale.
        max: The value that becomes 1; it goes together with min, instead of mean and scale.
        log: Whether log(1 + value) stands in the value's place, below 0 -log(1 - value); mean and scale are then of
            that, min and max still of the value; default false.
        cycle: After how much the value begins anew, such as 24 for hours; it becomes a sine and a cosine.
        transform: What else becomes of the value: `bins`, a column for each interval, or `rank`, its place among
            quantiles; it stands alone, without mean, min, log and cycle.
        missing: What stands for a value that is absent or null: a number, or "indicator": the mean (of bins none, of a
            rank the middle), and a column of its own says so; "refuse", the default, refuses it with 422.
    """

    name: FeatureName
    mean: Real | None = None
    scale: Annotated[float, Meta(ge=SMALLEST, le=1e50)] | None = None
    min: Real | None = None
    max: Real | None = None
    log: bool = False
    cycle: Annotated[float, Meta(ge=SMALLEST, le=1e50)] | None = None
    transform: Bins | Rank | None = None
    missing: Missing | Real = "refuse"

    def line(self) -> tuple[float, float]:
        """(shift, scale): the column is (v - shift) / scale, v being the value or its logarithm."""
        if self.min is not None and self.max is not None:
            low, high = (logarithm(self.min), logarithm(self.max)) if self.log else (self.min, self.max)
            return low / 2 + high / 2, high / 2 - low / 2
        return self.mean or 0.0, 1.0 if self.scale is None else self.scale

    def fault(self) -> str | None:
        """What the parameters should be, where they are wrong; else None."""
        given = [self.mean is not None, self.min is not None, self.cycle is not None, self.transform is not None]
        if given.count(True) != 1 or given[:2] != [self.scale is not None, self.max is not None]:
            none = not any(given) and self.scale is self.max is None
            return "mean and scale, or min and max, or cycle, or transform" + (f"; {COMMAND}" if none else "")
        if self.cycle is not None or self.transform is not None:
            what = "transform" if self.cycle is None else "cycle"
            return f"no log, as it has a {what}" if self.log else None
        return "min < max" if self.line()[1] < SMALLEST else None


def logarithm(value: float) -> float:
    """log(1 + v), and below 0 the same with the other sign."""
    return math.copysign(math.log1p(abs(value)), value)


class Boolean(msgspec.Struct, tag="boolean", frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """True or false.

    Attributes:
        name: The key of this feature in a context.
        missing: What stands for a value that is absent or null: true, false, or "indicator": false, and a column of its
            own says so; "refuse", the default, refuses it with 422.
    """

    name: FeatureName
    missing: Missing | bool = "refuse"

    def fault(self) -> str | None:
        """None: it has no parameters."""
        return None


class Category(msgspec.Struct, tag="category", frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One of the levels; with `other`, any other string is one more level.

    Attributes:
        name: The key of this feature in a context.
        levels: The strings that each have a column of their own, at most 1,024 of at most 256 characters.
        other: Whether any other string is taken too, as one more level; else it is refused with 422; default true.
        missing: What stands for a value that is absent or null: a string, or "indicator": a column of its own;
            "refuse", the default, refuses it with 422.
    """

    name: FeatureName
    levels: Annotated[tuple[Level, ...], Meta(min_length=1, max_length=D_MAX)]
    other: bool = True
    missing: Level = "refuse"

    def fault(self) -> str | None:
        """What the parameters should be, where they are wrong; else None."""
        if len(set(self.levels)) < len(self.levels):
            return "levels that differ"
        stands = self.other or self.missing in (*self.levels, *KEYWORDS)
        return None if stands else "missing to be a level, as there is no other"


class Hashed(msgspec.Struct, tag="hashed", frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A string out of too many to list: each goes to one of 2^bits columns by its hash, and some share one.

    Attributes:
        name: The key of this feature in a context.
        bits: How many columns it takes, as a power of two: 1 to 9, so 2 to 512 columns.
        missing: What stands for a value that is absent or null: a string, or "indicator": a column of its own;
            "refuse", the default, refuses it with 422.
    """

    name: FeatureName
    bits: Annotated[int, Meta(ge=1, le=9)]
    missing: Level = "refuse"

    def fault(self) -> str | None:
        """None: all of its parameters are right."""
        return None


class Vector(msgspec.Struct, tag="vector", frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A list of numbers, such as an embedding; they are taken as they are, so its norm should be about 1.

    Attributes:
        name: The key of this feature in a context.
        length: How many numbers, 1 to 1,023: each is a column.
        missing: What stands for a value that is absent or null: a list, or "indicator": zeros, and a column of its own
            says so; "refuse", the default, refuses it with 422.
    """

    name: FeatureName
    length: Annotated[int, Meta(ge=1, le=D_MAX - 1)]
    missing: Missing | tuple[Real, ...] = "refuse"

    def fault(self) -> str | None:
        """What the parameters should be, where they are wrong; else None."""
        fits = isinstance(self.missing, str) or len(self.missing) == self.length
        return None if fits else f"missing to have {self.length} numbers"


class Interaction(msgspec.Struct, tag="interaction", frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Products of two features' columns, each with each: how much the one matters may depend on the other.

    Attributes:
        name: Its name among the features; a context has no value for it.
        of: The names of two features of the document; columns that say what is missing are left out.
    """

    name: FeatureName
    of: tuple[FeatureName, FeatureName]

    def fault(self) -> str | None:
        """What the parameters should be, where they are wrong; else None."""
        return "two different features" if self.of[0] == self.of[1] else None


class Fourier(msgspec.Struct, tag="fourier", frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Random Fourier features of numbers: waves in random directions, of which any smooth curve of them is made up.

    Attributes:
        name: Its name among the features; a context has no value for it.
        of: The names of the document's numbers that it is made of, each with one column: no cycle and no bins.
        size: How many columns it takes, 1 to 1,023; 100 is a good beginning.
        scale: How far contexts are apart, in the numbers' own scales, of which one tells little of the other: 0.001 to
            1e6; below it lies noise, above it the curve is smooth.
        seed: Which of the random directions there are; the same seed makes the same columns for ever; default 0.
        height: What the waves are multiplied with: the higher, the less they are held back beside other columns; the
            norm of the numbers' own columns puts both on a level; default 1.
    """

    name: FeatureName
    of: Annotated[tuple[FeatureName, ...], Meta(min_length=1, max_length=D_MAX)]
    size: Annotated[int, Meta(ge=1, le=D_MAX - 1)]
    scale: Annotated[float, Meta(ge=1e-3, le=1e6)]
    seed: Annotated[int, Meta(ge=0, le=2**53)] = 0
    height: Annotated[float, Meta(ge=1e-3, le=180)] = 1.0

    @property
    def top(self) -> float:
        """The largest value of a column."""
        return self.height * math.sqrt(2 / self.size)

    def fault(self) -> str | None:
        """What the parameters should be, where they are wrong; else None."""
        if len(set(self.of)) < len(self.of):
            return "different features"
        return "a height of at most 5 sqrt(size)" if self.height > 5 * math.sqrt(self.size) else None


KEYWORDS = ("refuse", "indicator")  # of `missing`
Valued = Number | Boolean | Category | Hashed | Vector  # a context has a value for these
Derived = Interaction | Fourier  # these are made of other features' columns
Feature = Valued | Derived
TYPES: Mapping[type, str] = {
    Number: "number", Boolean: "boolean", Category: "string", Hashed: "string", Vector: "array",
}  # fmt: skip


def may_miss(feature: Valued) -> bool:
    """Whether its value may be absent."""
    return feature.missing != "refuse"
