"""An experiment's document: what may be asked for, and how it is checked and compiled; `revision` is how it may change.

A document is what a user writes; a `Config` is what is stored and logged: the document with its version, generation
and schema, and with every arm and kind that ever was, in the order of their indices (an index is never used again).
An `Experiment` is a config compiled for use.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from bandit.arrays import Mask
from bandit.core.features import D_MAX, SMALLEST, Encoder, Feature, Layout, Name, Real, compile_encoder
from bandit.core.linear import Ridge
from bandit.core.policies import LinUCB, Policy
from bandit.core.sums import CREDIT_MAX
from bandit.core.times import DURATION, seconds
from bandit.errors import Code, Fault, Problem, nearest, pointer

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # of an experiment
Duration = Annotated[float, Meta(gt=0)] | Annotated[str, Meta(pattern=rf"^{DURATION.pattern}$(?!\n)")]
DURATIONS = 'a number of seconds above 0, or a string such as "90s", "15m", "12h" or "7d"'
WINDOW_MAX = 366 * 86400.0
PAYLOAD_MAX = 16 * 1024
ARMS_MAX = 10_000
KINDS_MAX = 16
Aggregation = Literal["sum", "first", "last"]  # each has its case in `lua/append.lua` and in `memory_append`
Attribution = Literal["last", "first", "all"]


class Kind(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One kind of reward.

    Attributes:
        weight: What one unit of this reward counts for against the other kinds; it may be negative; default 1.
        default: What a decision is worth while no feedback has come; it lies within the range; default 0.
        aggregation: How several events of one decision combine: their "sum", the "first", or the "last" one;
            default "sum".
        range: The smallest and the largest total that one decision may be credited with; default [0, 1].
        over_range: Whether feedback beyond the range is refused with 422 or clipped to it; default "refuse".
        unit: The step that rewards are rounded to; by default a millionth of the range's larger end, as a power of ten.
    """

    weight: Real = 1.0
    default: Real = 0.0
    aggregation: Aggregation = "sum"
    range: tuple[Real, Real] = (0.0, 1.0)
    over_range: Literal["refuse", "clip"] = "refuse"
    unit: Annotated[float, Meta(gt=0)] | None = None

    @property
    def reach(self) -> float:
        """The range's larger end."""
        return max(abs(end) for end in self.range)

    @property
    def step(self) -> float:
        """The reward of one unit of credit: `unit`, or a millionth of the range's larger end, as a power of ten."""
        return _millionth(self.range) if self.unit is None else self.unit

    def credit(self, value: float) -> int:
        """A reward as a whole number of units; far out of every range it stops at 2^26."""
        limit = 4.0 * CREDIT_MAX
        return round(max(-limit, min(limit, value / self.step)))

    def value(self, credit: int) -> float:
        """The reward of a whole number of units."""
        per = _units_of_one(step := self.step)
        return credit / per if per else credit * step


@lru_cache(maxsize=1024)  # these two are asked for with each feedback
def _millionth(ends: tuple[float, float]) -> float:
    return float(f"1e{math.floor(math.log10(max(*map(abs, ends), SMALLEST))) - 6}")


@lru_cache(maxsize=1024)
def _units_of_one(step: float) -> int:
    """How many steps make 1, where that is a whole number; else 0."""
    per = round(1 / step) if step < 1 else 0
    return per if per and math.isclose(per * step, 1.0, rel_tol=1e-12) else 0


class ArmSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An arm as written in a document or sent to its own address.

    Attributes:
        id: The arm's name, 1 to 128 characters without control characters.
        status: Whether the arm may be shown; a paused one keeps what it has learned; default "active".
        payload: Any JSON of at most 16,384 bytes, which is answered with the arm whenever it is shown; none by default.
    """

    id: Name
    status: Literal["active", "paused"] = "active"
    payload: msgspec.Raw | UnsetType = UNSET


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"lam": "lambda"}):
    """An experiment as its user writes it.

    Attributes:
        rewards: The kinds of reward by their names, 1 to 16 of them; feedback names one as its event.
        arms: What there is to choose from, at most 10,000, each an id or an object with more; an arm left out
            is retired.
        features: What a context consists of, in order; an empty list makes a bandit without contexts; default [].
        status: Whether the experiment decides; a paused one answers its fallback_arm and logs nothing; default
            "active".
        fallback_arm: The arm that is answered while the experiment is paused; null, the default, answers 409 then.
        policy: How estimates become probabilities; by default LinUCB with alpha 1 and explore 0.02.
        lambda: The ridge penalty: how many observations of its own an arm needs to move its estimates; default 1.
        noise: The standard deviation of rewards given the context; "auto", the default, estimates it for each arm.
        attribution: Which of a user's decisions get feedback by user_id: "last", "first" or "all"; default "last".
        reward_window: How long after a decision feedback counts, in seconds or such as "12h"; default "7d", at
            most "366d".
        half_life: Reserved for forgetting, which is not there yet; null is its only value.
        activation: With "explicit" each decision is learned only once activated; default "on_decision".
    """

    rewards: Annotated[dict[Name, Kind], Meta(min_length=1, max_length=KINDS_MAX)]
    arms: Annotated[tuple[Name | ArmSpec, ...], Meta(max_length=ARMS_MAX)]
    features: Annotated[tuple[Feature, ...], Meta(max_length=D_MAX)] = ()
    status: Literal["active", "paused"] = "active"
    fallback_arm: Name | None = None
    policy: Policy = msgspec.field(default_factory=LinUCB)
    lam: Annotated[float, Meta(ge=1e-9, le=1e12)] = 1.0
    noise: Literal["auto"] | Annotated[float, Meta(ge=0, le=1e12)] = "auto"
    attribution: Attribution = "last"
    reward_window: Duration = "7d"
    half_life: None = None  # forgetting is not there yet
    activation: Literal["on_decision", "explicit"] = "on_decision"


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

    def kind(self, name: str) -> Kind:
        """A kind of reward, with the unit that it began with."""
        kind = self.document.rewards[name]
        return msgspec.structs.replace(kind, unit=self.units[name]) if name in self.units else kind

    def bare(self) -> Config:
        """The config without payloads, as the log records it: with them, each change would log all payloads again."""
        arms = tuple(plain(ArmSpec(arm.id, status=arm.status)) for arm in map(arm_spec, self.document.arms))
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
    ridge: Ridge
    window_ms: int
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
    if faults := [*_arm_faults(document, arms), *_reward_faults(config), *_window_faults(document)]:
        raise Problem.of(Code.INVALID_EXPERIMENT, faults)
    kinds = tuple(map(config.kind, config.kinds))
    weights, spans = np.array([k.weight for k in kinds]), np.array([k.range[1] - k.range[0] for k in kinds])
    noise = None if document.noise == "auto" else document.noise
    s0 = max(float(np.abs(weights) @ spans) / 2, 1e-300)
    return Experiment(
        config=config,
        encoder=compile_encoder(document.features, config.layout),
        arms=arms,
        arm_index={name: i for i, name in enumerate(config.index)},
        kind_index={name: i for i, name in enumerate(config.kinds)},
        kinds=kinds,
        defaults=tuple(kind.credit(kind.default) for kind in kinds),
        active=np.array([name in arms and arms[name].status == "active" for name in config.index], bool),
        ridge=Ridge(weights, np.array([kind.step for kind in kinds]), document.lam, noise, s0),
        window_ms=round(seconds(document.reward_window) * 1000),
    )


def shape_of(config: Config) -> tuple[int, int, int]:
    """(K, m, d) of a config, without compiling it."""
    return len(config.index), len(config.kinds), compile_encoder(config.document.features, config.layout).d


def arm_spec(arm: str | ArmSpec) -> ArmSpec:
    """An arm of a document, whichever way it was written."""
    return ArmSpec(arm) if isinstance(arm, str) else arm


def plain(arm: ArmSpec) -> str | ArmSpec:
    """An arm as a document shows it: just its id where it has nothing else."""
    return arm.id if arm == ArmSpec(arm.id) else arm


def _arm_faults(document: Document, arms: dict[str, ArmSpec]) -> Iterable[Fault]:
    seen: set[str] = set()
    for i, arm in enumerate(map(arm_spec, document.arms)):
        if arm.id in seen:
            yield Fault(pointer("arms", i), "ids that differ", "an id used before")
        seen.add(arm.id)
        if arm.payload is not UNSET and len(bytes(arm.payload)) > PAYLOAD_MAX:
            size = f"{len(bytes(arm.payload))} bytes"
            yield Fault(pointer("arms", i, "payload"), f"at most {PAYLOAD_MAX} bytes", size)
    if document.fallback_arm is not None and document.fallback_arm not in arms:
        yield Fault("/fallback_arm", "an arm of this document" + nearest(document.fallback_arm, arms), "no such arm")


def _reward_faults(config: Config) -> Iterable[Fault]:
    for name, kind in ((name, config.kind(name)) for name in config.document.rewards):
        low, high = kind.range
        at = ("rewards", name)
        if not low < high:
            yield Fault(pointer(*at, "range"), "[low, high] with low < high", "low >= high")
        elif kind.reach < SMALLEST:
            yield Fault(pointer(*at, "range"), f"an end at least {SMALLEST} from 0", "a smaller range")
        elif kind.reach / kind.step > CREDIT_MAX:
            yield Fault(pointer(*at, "unit"), f"at most {CREDIT_MAX} units from 0 to either end of the range", "more")
        elif kind.step > kind.reach:
            yield Fault(pointer(*at, "unit"), "a unit within the range", "a larger one")
        elif not low <= kind.default <= high:
            yield Fault(pointer(*at, "default"), "a number within the range", "a number outside")


def _window_faults(document: Document) -> Iterable[Fault]:
    if not 0.001 <= seconds(document.reward_window) <= WINDOW_MAX:
        yield Fault("/reward_window", "between 1 millisecond and 366 days", "another duration")
