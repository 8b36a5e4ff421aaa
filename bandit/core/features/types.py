"""What a context may consist of: the types of features, as an experiment's document has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

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
