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
    Boolean,
    Category,
    Feature,
    FeatureName,
    Name,
    Number,
    Real,
)

__all__ = [
    "D_MAX", "SMALLEST", "TYPES", "X_MIN", "Boolean", "Category", "Encoder", "Feature", "FeatureName", "Layout", "Name",
    "Number", "Real", "compile_encoder", "earlier", "numbered", "relaid",
]  # fmt: skip
