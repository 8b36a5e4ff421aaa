"""Contexts as numbers: what features there are, which columns of x each of them has, and how its values become them.

Imports `bandit.core.sums`, `bandit.errors` and NumPy. Begin with `types`, then `encoder`; `layout` numbers the columns,
so that features can come and go while what was learned stays.
"""

from bandit.core.features.encoder import Encoder, compile_encoder
from bandit.core.features.layout import Layout, earlier, numbered, relaid
from bandit.core.features.types import (
    D_MAX,
    SMALLEST,
    TYPES,
    X_MIN,
    Bins,
    Boolean,
    Category,
    Derived,
    Feature,
    FeatureName,
    Fourier,
    Hashed,
    Interaction,
    Name,
    Number,
    Rank,
    Real,
    Valued,
    Vector,
)

__all__ = [
    "D_MAX", "SMALLEST", "TYPES", "X_MIN", "Bins", "Boolean", "Category", "Derived", "Encoder", "Feature",
    "FeatureName", "Fourier", "Hashed", "Interaction", "Layout", "Name", "Number", "Rank", "Real", "Valued", "Vector",
    "compile_encoder", "earlier", "numbered", "relaid",
]  # fmt: skip
