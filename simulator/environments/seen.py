"""An environment as a policy with features of its own sees it: the same rounds and rewards, other columns.

Contexts are encoded by the server's encoder: as they came, where the environment keeps them, else as its own columns
tell them, which are rounded and cut. A value that is missing is what the environment has for it, unless the policy's
feature says what stands for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from bandit.core.features import Category, Encoder, Feature, Number, Valued, compile_encoder
from bandit.core.features.special import unlisted
from bandit.core.features.types import may_miss
from simulator.environments.episode import Environment, Episode, Grid
from simulator.environments.full import FullEnvironment

PIECE = 8192  # contexts that are values of Python at a time
Context = Mapping[str, Any]


def seen_by(environment: Environment, features: Sequence[Feature]) -> Environment:
    """The environment with its contexts encoded by these features; itself where they are among its own.

    Raises:
        ValueError: a feature is of no name or type that the environment has.
        bandit.errors.Problem: the features are not valid.
    """
    own = declared(environment)
    if all(feature in own for feature in features):
        return environment
    encoder, named = compile_encoder(features), {feature.name: feature for feature in own}
    for feature in encoder.features:
        if (has := named.get(feature.name)) is None:
            raise ValueError(
                f"the policy has features that the environment has not: {feature.name!r}; it has {', '.join(named)}"
            )
        if type(has) is not type(feature):
            kinds = [each.__struct_config__.tag for each in (feature, has)]
            raise ValueError(f"feature {feature.name!r} is a {kinds[0]} of the policy, and a {kinds[1]} there")
    return _seen(environment, tuple(features))  # type: ignore[arg-type]  # environments are hashable


def declared(environment: Environment) -> tuple[Feature, ...]:
    """The environment's own features."""
    return msgspec.convert(environment.document.get("features", ()), tuple[Feature, ...])


@lru_cache(maxsize=8)  # a process plays many seeds of each policy
def _seen(environment: Environment, features: tuple[Feature, ...]) -> Environment:
    own = declared(environment)
    document = {**environment.document, "features": msgspec.to_builtins(features)}
    if isinstance(environment, FullEnvironment) and environment.rows is not None:
        pieces = (environment.rows.slice(at, PIECE).to_pylist() for at in range(0, len(environment.x), PIECE))
        x = encoded(compile_encoder(features), own, (context for piece in pieces for context in piece))
        return replace(environment, document=document, x=x)
    return Seen(environment, document, features)


@dataclass(frozen=True, eq=False)
class Seen:
    """An environment whose columns are all that is known of its contexts."""

    inner: Environment
    document: Mapping[str, Any]
    features: tuple[Feature, ...]

    @property
    def name(self) -> str:
        """What it goes by."""
        return self.inner.name

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to the data, in words."""
        return self.inner.notes

    def episode(self, seed: int, rounds: int | None = None) -> Episode:
        """The episode of a seed."""
        episode, own = self.inner.episode(seed, rounds), declared(self.inner)
        contexts = compile_encoder(own).decode(episode.x)
        return replace(episode, x=encoded(compile_encoder(self.features), own, iter(contexts)))


def encoded(encoder: Encoder, own: Sequence[Feature], contexts: Iterator[Context]) -> Grid:
    """Contexts by the encoder, shape (n, d).

    Args:
        encoder: of the policy's features.
        own: the environment's features, whose values the contexts have.
        contexts: feature name to value; None: missing.
    """
    fill = {f.name: _absent(f, known) for f in encoder.features for known in own if known.name == f.name}
    parts, piece = [np.zeros((0, encoder.d), np.int16)], list[Any]()
    for context in contexts:
        told = {name: absent if (value := context[name]) is None else value for name, absent in fill.items()}
        piece.append(msgspec.convert(told, encoder.context_type))
        if len(piece) == PIECE:
            parts.append(encoder.encode(piece))
            piece = []
    return np.concatenate([*parts, encoder.encode(piece)])


def _absent(feature: Valued, own: Feature) -> Any:
    """What stands for a value that is missing: None where the policy's feature says it itself."""
    if may_miss(feature):
        return None
    if isinstance(own, Number):
        return own.line()[0]
    return unlisted(feature) if isinstance(feature, Category) else False
