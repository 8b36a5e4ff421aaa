"""An experiment in force: its config, which is stored and logged, and what that compiles to.

A document is what a user writes; a `Config` is what is stored and logged: the document with its version, generation
and schema, and with every arm, kind and slice that ever was, in the order of their indices (an index is never used
again). An `Experiment` is a config compiled for use; `revision` is how a config may change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET

from bandit.arrays import Mask
from bandit.core.document import ArmSpec, Document, Kind, arm_spec, faults_of, plain
from bandit.core.eligibility import Gate, gate_of
from bandit.core.features import Encoder, Layout, compile_encoder
from bandit.core.policies import Policy
from bandit.core.ridge.linear import Ridge
from bandit.core.slices import Segment, Slice, shares_of
from bandit.core.times import seconds
from bandit.errors import Code, Fault, Problem, nearest


class Config(msgspec.Struct, frozen=True, rename={"lam": "lambda"}):
    """What the store keeps, and the log records at each change."""

    name: str
    version: int
    generation: int
    schema: int
    document: Document
    index: tuple[str, ...]  # every arm of this generation, by index
    kinds: tuple[str, ...]  # every kind, by index
    deleted: bool = False
    layout: Layout | None = None  # None: the columns are those of the document's features, in their order
    units: dict[str, float] = {}  # of kinds whose default unit would be another by now: the one they began with
    stripped: bool = False  # the arms' payloads are not here, but in the store's own copy
    resting: tuple[str, ...] = ()  # arms that were paused when they were left out
    slices: tuple[str, ...] = ()  # every slice of this generation, by index
    segments: tuple[Segment, ...] = ()  # which of them owns which part of the users

    def kind(self, name: str) -> Kind:
        """A kind of reward, with the unit that it began with."""
        kind = self.document.rewards[name]
        return msgspec.structs.replace(kind, unit=self.units[name]) if name in self.units else kind

    def bare(self) -> Config:
        """The config without payloads, as the log records it: with them, each change would log all payloads again."""
        arms = tuple(plain(msgspec.structs.replace(arm, payload=UNSET)) for arm in map(arm_spec, self.document.arms))
        document = msgspec.structs.replace(self.document, arms=arms)
        return msgspec.structs.replace(self, document=document, stripped=True)


@dataclass(frozen=True)
class Experiment:
    """A config compiled for use: what a decision and a fold need to know."""

    config: Config
    encoder: Encoder
    arms: dict[str, ArmSpec]  # in the document's order
    arm_index: dict[str, int]
    kind_index: dict[str, int]
    kinds: tuple[Kind, ...]
    defaults: tuple[int, ...]  # credits that an impression starts with
    active: Mask  # (K,) arms that may be shown
    gate: Gate | None  # what else limits them
    slices: tuple[Slice, ...]  # none where traffic is not sliced
    policies: tuple[Policy, ...]  # of each slice, or the one there is
    ridge: Ridge
    window_ms: int
    sticky_ms: int
    refunds_ms: int
    decoders: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.config.name

    @property
    def document(self) -> Document:
        """What the user wrote."""
        return self.config.document

    @property
    def shape(self) -> tuple[int, int, int]:
        """(K, m, d)."""
        return len(self.config.index), len(self.kinds), self.encoder.d

    @property
    def warm_up(self) -> int:
        """How many decisions are spread evenly first."""
        return self.document.warm_up or 0

    @property
    def baseline_explore(self) -> float:
        """The share of decisions that is spread evenly while in shadow."""
        return self.document.baseline_explore or 0.0

    @property
    def layout(self) -> Layout:
        """Which columns x consists of."""
        return self.encoder.layout

    @cached_property
    def active_count(self) -> int:
        """How many arms may be shown."""
        return int(self.active.sum())

    @cached_property
    def payload_bytes(self) -> tuple[int, int]:
        """(bytes of the largest payload, of all of them)."""
        sizes = [len(bytes(arm.payload)) for arm in self.arms.values() if arm.payload is not UNSET]
        return max(sizes, default=0), sum(sizes)

    def arm(self, name: str, at: str) -> int:
        """The index of an arm that is, or once was, in the document; `at` is the pointer to where it was given."""
        if (index := self.arm_index.get(name)) is None:
            raise self.unknown_arm(at, name, "no such arm")
        return index

    def unknown_arm(self, at: str, name: str, got: str) -> Problem:
        """The problem of an arm that cannot be shown, or does not exist."""
        hint = nearest(name, (self.config.index[i] for i in np.flatnonzero(self.active)))
        fault = Fault(at, "an arm of this experiment" + hint, got)
        return Problem(Code.UNKNOWN_ARM, f"experiment {self.name!r} has no such arm to show" + hint, [fault])


def compile_config(config: Config) -> Experiment:
    """Check a config whole and compile it.

    Raises:
        Problem: `invalid_experiment`, with a pointer to each fault.
    """
    document = config.document
    arms = {arm.id: arm for arm in map(arm_spec, document.arms)}
    if faults := list(faults_of(document, {name: config.kind(name) for name in document.rewards})):
        raise Problem.of(Code.INVALID_EXPERIMENT, faults)
    kinds = tuple(map(config.kind, config.kinds))
    weights = np.array([kind.weight for kind in kinds])
    low, high = np.sort(weights[:, None] * [kind.range for kind in kinds], axis=1).sum(axis=0).tolist()
    noise = None if document.noise == "auto" else document.noise
    lam = None if document.lam == "auto" else document.lam
    active = np.array([name in arms and not arms[name].paused for name in config.index], bool)
    slices = _slices(config)
    own = [] if document.shadow else [document.sliced[each.name].policy for each in slices]
    return Experiment(
        config=config,
        encoder=compile_encoder(document.features, config.layout),
        arms=arms,
        arm_index={name: i for i, name in enumerate(config.index)},
        kind_index={name: i for i, name in enumerate(config.kinds)},
        kinds=kinds,
        defaults=tuple(kind.credit(kind.default) for kind in kinds),
        active=active,
        gate=gate_of(active, [arms.get(name) for name in config.index]),
        slices=slices,
        policies=tuple(policy or document.policy for policy in own) or (document.policy,),
        ridge=Ridge(
            weights, np.array([kind.step for kind in kinds]), lam, noise, low, high, document.prior == "pooled"
        ),
        window_ms=round(seconds(document.reward_window) * 1000),
        sticky_ms=round(seconds(document.sticky.duration) * 1000) if document.sticky else 0,
        refunds_ms=round(seconds(document.refunds or 0) * 1000),
    )


def _slices(config: Config) -> tuple[Slice, ...]:
    """The slices in force, in the document's order."""
    index, shares = {name: i for i, name in enumerate(config.slices)}, shares_of(config.segments)
    return tuple(Slice(index[name], name, shares.get(index[name], 0)) for name in config.document.sliced)


def shape_of(config: Config) -> tuple[int, int, int]:
    """(K, m, d) of a config, without compiling it."""
    return len(config.index), len(config.kinds), compile_encoder(config.document.features, config.layout).d
