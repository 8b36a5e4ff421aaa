"""An experiment's document: what a user writes, and what may be wrong with it beyond its types."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from bandit.core.eligibility import Bounds, Condition, When
from bandit.core.features import D_MAX, SMALLEST, Boolean, Category, Feature, FeatureName, Hashed, Name, Number, Real
from bandit.core.policies import Exploring, Fixed, LinUCB, Policy
from bandit.core.slices import SLICES_MAX, SliceSpec, shares_in
from bandit.core.sums import CREDIT_MAX
from bandit.core.times import DURATION, instant, seconds
from bandit.errors import Fault, nearest, pointer

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
        cap: For evaluations only: a decision's total above it counts as it there, and one below minus the cap as that;
            null, the default, caps nothing.
    """

    weight: Real = 1.0
    default: Real = 0.0
    aggregation: Aggregation = "sum"
    range: tuple[Real, Real] = (0.0, 1.0)
    over_range: Literal["refuse", "clip"] = "refuse"
    unit: Annotated[float, Meta(gt=0)] | None = None
    cap: Annotated[float, Meta(gt=0)] | None = None

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


class ArmSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename={"since": "from"}):
    """An arm as written in a document or sent to its own address.

    Attributes:
        id: The arm's name, 1 to 128 characters without control characters.
        status: Whether the arm may be shown; a paused one keeps what it has learned; default "active".
        when: Conditions on features and attributes, each a list of values or a min and max: to a context that does not
            meet all of them the arm is not shown; by default none.
        from: The instant (RFC 3339) from which on it may be shown; by default at once.
        until: The instant (RFC 3339) from which on it may not; by default never.
        tags: Words of the caller's own, for people; by default none.
        payload: Any JSON of at most 16,384 bytes, which is answered with the arm whenever it is shown; none by default.
    """

    id: Name
    status: Literal["active", "paused"] | UnsetType = UNSET  # unset: active, and in what is sent: as it is
    when: Annotated[When, Meta(max_length=64)] | UnsetType = UNSET
    since: str | UnsetType = UNSET
    until: str | UnsetType = UNSET
    tags: Annotated[tuple[Name, ...], Meta(max_length=64)] | UnsetType = UNSET
    payload: msgspec.Raw | UnsetType = UNSET

    @property
    def paused(self) -> bool:
        """Whether it must not be shown."""
        return self.status == "paused"


class Sticky(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"duration": "for"}):
    """A user is answered the earlier decision again.

    Attributes:
        for: For how long after it, in seconds or such as "12h".
    """

    duration: Duration


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
        policy: How estimates become probabilities; by default LinUCB with alpha and explore "auto".
        lambda: The ridge penalty: how many observations of its own an arm needs to move its estimates; "auto", the
            default, takes the one that makes the rewards seen most likely.
        noise: The standard deviation of rewards given the context; "auto", the default, estimates it for each arm.
        attribution: Which of a user's decisions get feedback by user_id: "last", "first" or "all"; default "last".
        reward_window: How long after a decision feedback counts, in seconds or such as "12h"; default "7d", at
            most "366d".
        refunds: How long after its reward window a decision's events may be taken back, as "30d"; by default no longer.
        half_life: Reserved for forgetting, which is not there yet; null is its only value.
        activation: With "explicit" each decision is learned only once activated; default "on_decision".
        attributes: Names of what a context may have besides its features, for the conditions of arms; by default none.
        slices: Shares of the users by name, 2 to 16 of them, each with a policy of its own; by default there are none.
        warm_up: How many decisions are spread evenly before what has been learned counts; default 0.
        sticky: For how long a user is answered the earlier decision again, `{"for": "7d"}`; by default not at all.
        shadow: Whether the arm that the request names as its baseline is shown, and what the policy would have shown is
            told; default false.
        baseline_explore: While in shadow, the share of decisions that is spread evenly instead; default 0.
        deleted_retention: How long the log of a deleted experiment can be exported; default "7d".
        degraded: What is done while the store is away: "refuse" with 503, or "answer" from what the server has learned,
            not logged and not learned from; default "refuse".
        prior: What an arm is taken for until it has been shown: "mean", the mean reward in every context, or "pooled",
            what all arms have in common; default "mean".
    """

    rewards: Annotated[dict[Name, Kind], Meta(min_length=1, max_length=KINDS_MAX)]
    arms: Annotated[tuple[Name | ArmSpec, ...], Meta(max_length=ARMS_MAX)]
    features: Annotated[tuple[Feature, ...], Meta(max_length=D_MAX)] = ()
    status: Literal["active", "paused"] = "active"
    fallback_arm: Name | None = None
    policy: Policy = msgspec.field(default_factory=LinUCB)
    lam: Literal["auto"] | Annotated[float, Meta(ge=1e-9, le=1e12)] = "auto"
    noise: Literal["auto"] | Annotated[float, Meta(ge=0, le=1e12)] = "auto"
    attribution: Attribution = "last"
    reward_window: Duration = "7d"
    half_life: None = None  # forgetting is not there yet
    activation: Literal["on_decision", "explicit"] = "on_decision"
    # unset, these are left out, so that servers that do not know them yet can read the document
    attributes: Annotated[tuple[FeatureName, ...], Meta(max_length=D_MAX)] | UnsetType = UNSET
    slices: Annotated[dict[Name, SliceSpec], Meta(min_length=2, max_length=SLICES_MAX)] | UnsetType = UNSET
    warm_up: Annotated[int, Meta(ge=0, le=10**9)] | UnsetType = UNSET
    sticky: Sticky | UnsetType = UNSET
    shadow: bool | UnsetType = UNSET
    baseline_explore: Annotated[float, Meta(ge=0, le=1)] | UnsetType = UNSET
    deleted_retention: Duration | UnsetType = UNSET
    refunds: Duration | UnsetType = UNSET
    degraded: Literal["refuse", "answer"] | UnsetType = UNSET
    prior: Literal["mean", "pooled"] | UnsetType = UNSET

    @property
    def evaluable(self) -> bool:
        """Whether every arm that may be shown has a chance, so that the log can say what others would have earned."""
        if self.shadow:
            return bool(self.baseline_explore)
        parts = [spec for spec in (self.slices or {}).values() if spec.share != 0]
        return any((spec.policy or self.policy).explore != 0 for spec in parts or [SliceSpec()])

    @property
    def sliced(self) -> Mapping[str, SliceSpec]:
        """Its slices; in shadow these are the baseline and what would have decided."""
        return SHADOW if self.shadow else self.slices or {}


SHADOW = {"baseline": SliceSpec(1.0), "learned": SliceSpec(0.0)}


def arm_spec(arm: str | ArmSpec) -> ArmSpec:
    """An arm of a document, whichever way it was written."""
    return ArmSpec(arm) if isinstance(arm, str) else arm


def plain(arm: ArmSpec) -> str | ArmSpec:
    """An arm as a document shows it: just its id where it has nothing else."""
    return arm.id if arm == ArmSpec(arm.id) else arm


def faults_of(document: Document, kinds: Mapping[str, Kind]) -> Iterable[Fault]:
    """Everything that is wrong with a document but its features; its kinds are given with the units they began with."""
    arms = {arm.id: arm for arm in map(arm_spec, document.arms)}
    yield from _arm_faults(document, arms)
    yield from _reward_faults(kinds)
    yield from _window_faults(document)
    yield from _traffic_faults(document, arms)
    yield from _condition_faults(document)


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


def _reward_faults(kinds: Mapping[str, Kind]) -> Iterable[Fault]:
    for name, kind in kinds.items():
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
    durations = {"/reward_window": document.reward_window, "/deleted_retention": document.deleted_retention or 1.0}
    durations["/refunds"] = document.refunds or 1.0
    durations["/sticky/for"] = document.sticky.duration if document.sticky else 1.0
    for at, duration in durations.items():
        if not 0.001 <= seconds(duration) <= WINDOW_MAX:
            yield Fault(at, "between 1 millisecond and 366 days", "another duration")


def _traffic_faults(document: Document, arms: dict[str, ArmSpec]) -> Iterable[Fault]:
    if document.sticky and document.shadow:
        yield Fault("/sticky", "nothing while in shadow, where the baseline is shown", "an object")
    if document.sticky and seconds(document.sticky.duration) > seconds(document.reward_window):
        yield Fault("/sticky/for", "at most the reward_window, for which a user's decisions are known", "more")
    if document.shadow and document.slices:
        yield Fault("/slices", "no slices while in shadow", "some")
    elif isinstance(wrong := shares_in(document.sliced), str):
        yield Fault("/slices", wrong, "others")
    policies = {"/policy": document.policy}
    sliced = (document.slices or {}).items()
    policies |= {pointer("slices", name, "policy"): spec.policy or document.policy for name, spec in sliced}
    for at, policy in policies.items():
        named = [("arm", policy.arm)] if isinstance(policy, Fixed) else []
        if isinstance(policy, Exploring):
            named = [(f"challengers/{i}", arm) for i, arm in enumerate(policy.challengers or ())]
        seen: set[str] = set()
        for place, arm in named:
            if arm in seen:
                yield Fault(f"{at}/{place}", "arms that differ", "an arm named before")
            elif arm not in arms:
                yield Fault(f"{at}/{place}", "an arm of this document" + nearest(arm, arms), "no such arm")
            seen.add(arm)


def _condition_faults(document: Document) -> Iterable[Fault]:
    """What is wrong with attributes, and with the conditions and dates of arms."""
    features, attributes = {feature.name: feature for feature in document.features}, document.attributes or ()
    for i, name in enumerate(attributes):
        if name in features or name in attributes[:i]:
            yield Fault(pointer("attributes", i), "a name that no feature or other attribute has", "one used before")
    for i, arm in enumerate(map(arm_spec, document.arms)):
        times = {name: instant(text) for name, text in (("from", arm.since), ("until", arm.until)) if text is not UNSET}
        for name, at in times.items():
            if at is None:
                yield Fault(
                    pointer("arms", i, name), 'a time with its zone, such as "2026-11-25T08:00:00Z"', "another string"
                )
        begin, end = times.get("from"), times.get("until")
        if begin is not None and end is not None and begin >= end:
            yield Fault(pointer("arms", i, "until"), "a time after from", "one before")
        for name, condition in (arm.when or {}).items():
            if name not in features and name not in attributes:
                near = nearest(name, [*features, *attributes])
                yield Fault(pointer("arms", i, "when", name), "a feature or an attribute" + near, "neither")
            elif expected := _never_met(condition, features.get(name)):
                yield Fault(pointer("arms", i, "when", name), expected, "what nothing meets")


def _never_met(condition: Condition, feature: Feature | None) -> str:
    """What a condition should be that no context could meet; empty where one can."""
    if isinstance(condition, Bounds):
        low, high = condition.min, condition.max
        if low is UNSET and high is UNSET:
            return "a list of values, or a min or max"
        if low is not UNSET and high is not UNSET and low > high:
            return "min <= max"
        return "" if feature is None or isinstance(feature, Number) else "a list of values: only numbers have bounds"
    if feature is None:
        return ""
    if isinstance(feature, Category) and not feature.other:
        return "" if set(condition) & set(feature.levels) else "one of its levels at least"
    if isinstance(feature, Number):
        return "" if any(type(value) in (int, float) for value in condition) else "numbers"
    if isinstance(feature, Boolean):
        return "" if any(isinstance(value, bool) for value in condition) else "true or false"
    if isinstance(feature, Category | Hashed):
        return "" if any(isinstance(value, str) for value in condition) else "strings"
    return "a condition on another field: no value is equal to one of this"
