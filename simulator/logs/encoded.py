"""Features of an experiment's document as those of a table, which knows numbers, booleans and categories alone.

What takes more than a line of numbers becomes columns, each a number on the grid as the server had it: cycles,
logarithms, bins and ranks, hashed strings, vectors, interactions, random features, and whatever may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from bandit.core.features import Category, Derived, Number, compile_encoder
from bandit.core.features import Feature as Declared
from bandit.core.features.layout import by_name, parts
from bandit.core.features.special import is_special, unlisted
from bandit.core.sums import ONE
from simulator.logs.contexts import Feature, Value


class Contexts:
    """Turns contexts of these features into those of a table."""

    def __init__(self, features: Sequence[Declared]) -> None:
        self.encoder = compile_encoder(features)
        self.names = {feature.name for feature in self.encoder.features}
        self.features: list[Feature] = []
        others = by_name(features)
        self.columns: dict[str, int] = {}  # of what becomes columns, in x
        for feature in features:
            if isinstance(feature, Derived) or is_special(feature):
                named = [f"{feature.name} {part}".rstrip() for part in parts(feature, others)]
                self.columns |= zip(named, self.encoder.layout.at(feature), strict=True)
                self.features += [Feature(name, "number", made=True) for name in named]
            else:
                self.features.append(_plain(feature))

    def table(self, context: Mapping[str, Any]) -> Mapping[str, Value]:
        """A context as a row of the table has it."""
        if not self.columns:
            return context
        known = self.encoder.features
        said = {feature.name: context.get(feature.name) for feature in known}
        for feature in known:
            if isinstance(feature, Category) and said[feature.name] is None and not is_special(feature):
                said[feature.name] = unlisted(feature)  # as the export shows it
        (x,) = self.encoder.encode([msgspec.convert(said, self.encoder.context_type)])
        plain = {feature.name: context.get(feature.name) for feature in known if not is_special(feature)}
        return plain | {name: float(x[column]) / ONE for name, column in self.columns.items()}


def _plain(feature: Declared) -> Feature:
    """A feature that a table knows."""
    if isinstance(feature, Number):
        return Feature(feature.name, "number", *feature.line())
    if isinstance(feature, Category):
        return Feature(feature.name, "category", levels=feature.levels, other=feature.other)
    return Feature(feature.name, "boolean")
