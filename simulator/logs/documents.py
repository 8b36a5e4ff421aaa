"""An experiment's document as an export has it, as far as its decisions are read by it."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import msgspec

from bandit.core.features import Feature
from simulator.logs.encoded import Contexts
from simulator.logs.log import Played


class Kind(msgspec.Struct):
    """A kind of reward."""

    weight: float = 1.0
    default: float = 0.0
    range: tuple[float, float] = (0.0, 1.0)
    cap: float | None = None


class Slice(msgspec.Struct):
    """A slice of the traffic; without a policy it plays the experiment's."""

    policy: dict[str, Any] | None = None


class Document(msgspec.Struct, dict=True):
    """What is needed of an experiment's document; whatever else a version may have, is ignored."""

    rewards: dict[str, Kind]
    features: tuple[Feature, ...] = ()
    reward_window: str | float = "7d"
    arms: tuple[str | dict[str, Any], ...] = ()
    policy: dict[str, Any] | None = None
    slices: dict[str, Slice] | None = None

    @cached_property
    def contexts(self) -> Contexts:
        """How its contexts become those of a table."""
        return Contexts(self.features)

    @property
    def played(self) -> Played:
        """Its policies and weights."""
        slices = {name: each.policy for name, each in (self.slices or {}).items()}
        return Played(self.policy, slices, {name: kind.weight for name, kind in self.rewards.items()})

    @property
    def uniform(self) -> list[str]:
        """Names of the slices that play uniformly."""
        played = {name: each.policy or self.policy or {} for name, each in (self.slices or {}).items()}
        return [name for name, policy in played.items() if policy.get("type") == "uniform"]


class Version(msgspec.Struct):
    """A version of it."""

    generation: int
    document: Document
