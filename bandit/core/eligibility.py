"""Which arms a request may be shown: by their status, their dates and their conditions on its context.

    when        {"country": ["de", "fr"], "basket": {"min": 20}}: every field named must be there and fit
    from, until [from, until): an instant each, RFC 3339

Conditions are kept once each, however many arms share them, and what they leave is remembered by those that are met.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from bandit.arrays import Int, Mask, Vector
from bandit.core.features import Name, Real
from bandit.core.times import instant

Value = bool | float | str  # of an attribute
REMEMBERED = 4 << 20  # bytes of sets of arms that one version of an experiment remembers
NEVER = 1 << 62


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A number between two, both included.

    Attributes:
        min: The least it may be; by default there is none.
        max: The most it may be; by default there is none.
    """

    min: Real | UnsetType = UNSET
    max: Real | UnsetType = UNSET


Condition = (
    Annotated[tuple[Annotated[str, Meta(max_length=256)] | Real | bool, ...], Meta(min_length=1, max_length=1000)]
    | Bounds
)
When = dict[Name, Condition]
Asked = frozenset[tuple[type, Value]] | Bounds


class Limited(Protocol):
    """What of an arm says when it may be shown."""

    @property
    def when(self) -> When | UnsetType:
        """Conditions on the context."""

    @property
    def since(self) -> str | UnsetType:
        """From when on."""

    @property
    def until(self) -> str | UnsetType:
        """Until when."""


@dataclass(frozen=True)
class Conditions:
    """The different conditions on one field, by their numbers.

    Attributes:
        name: of the field.
        values: which of them each value meets.
        bounds: those that are bounds, shape (n,).
        low, high: their ends, shape (n,).
    """

    name: str
    values: Mapping[tuple[type, Value], Int]
    bounds: Int
    low: Vector
    high: Vector

    def meet(self, value: Value | None, met: Mask) -> None:
        """Mark those that a value meets; one that is absent meets none."""
        if value is None:
            return
        if (found := self.values.get(_typed(value))) is not None:
            met[found] = True
        if len(self.bounds) and not isinstance(value, bool | str):
            met[self.bounds[(self.low <= value) & (value <= self.high)]] = True


@dataclass
class Gate:
    """What may be shown, of one version of an experiment.

    Attributes:
        active: arms that are not paused or retired, shape (K,).
        since: from when on each may be shown, in ms, shape (K,).
        until: from when on it may not, shape (K,).
        fields: the conditions, field by field: each once, however many arms have it.
        count: how many conditions there are.
        pairs: (condition, arm) of each arm's conditions, shape (2, n).
    """

    active: Mask
    since: Int
    until: Int
    fields: tuple[Conditions, ...]
    count: int
    pairs: Int
    _span: tuple[int, int, Mask] | None = None  # arms that dates allow from a moment until another
    _found: dict[tuple[int, bytes], Mask] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that conditions are on."""
        return tuple(each.name for each in self.fields)

    def eligible(self, context: Mapping[str, Any], now_ms: int) -> Mask:
        """Which arms may be shown now to a context with these of the fields, shape (K,); not to be changed."""
        begin, end, dated = self._span or (0, 0, self.active)
        if not begin <= now_ms < end:
            begin, end, dated = self._span = self._dated(now_ms)
        if not self.count:
            return dated
        met: Mask = np.zeros(self.count, np.bool_)
        for each in self.fields:
            each.meet(context.get(each.name), met)
        key = begin, met.tobytes()
        if (found := self._found.get(key)) is None:
            found = dated.copy()
            condition, arm = self.pairs
            found[arm[~met[condition]]] = False
            if len(self._found) * (len(found) + self.count) >= REMEMBERED:
                self._found.clear()
            self._found[key] = found
        return found

    def _dated(self, now_ms: int) -> tuple[int, int, Mask]:
        ends = np.concatenate([self.since, self.until])
        begin = int(ends[ends <= now_ms].max(initial=-NEVER))
        end = int(ends[ends > now_ms].min(initial=NEVER))
        return begin, end, self.active & (self.since <= now_ms) & (now_ms < self.until)


def asked_by(condition: Condition) -> Asked:
    """What a condition asks, in the form that values are compared with."""
    return condition if isinstance(condition, Bounds) else frozenset(map(_typed, condition))


def meets(value: Value | None, condition: Condition) -> bool:
    """Whether a context's value meets a condition; one that is absent does not."""
    met: Mask = np.zeros(1, np.bool_)
    _conditions("", {asked_by(condition): 0}).meet(value, met)
    return bool(met[0])


def _typed(value: Any) -> tuple[type, Value]:
    """A value that is equal to no value of another JSON type: 1 is not true."""
    return (float, float(value)) if isinstance(value, int) and not isinstance(value, bool) else (type(value), value)


def gate_of(active: Mask, arms: Sequence[Limited | None]) -> Gate | None:
    """The gate of arms by index (None: retired); None where nothing but their status limits them."""
    K = len(arms)
    asked: dict[str, dict[Asked, int]] = {}  # of each field, the number of each condition
    pairs, count = list[tuple[int, int]](), 0
    since, until = np.full(K, -NEVER), np.full(K, NEVER)
    for index, arm in enumerate(arms):
        if arm is None:
            continue
        if arm.since is not UNSET:
            since[index] = instant(arm.since) or 0
        if arm.until is not UNSET:
            until[index] = instant(arm.until) or 0
        for name, condition in (arm.when or {}).items():
            own, what = asked.setdefault(name, {}), asked_by(condition)
            if what not in own:
                own[what], count = count, count + 1
            pairs.append((own[what], index))
    if not pairs and (since == -NEVER).all() and (until == NEVER).all():
        return None
    fields = tuple(_conditions(name, numbers) for name, numbers in asked.items())
    return Gate(active, since, until, fields, count, np.array(pairs, np.int64).reshape(-1, 2).T)


def _conditions(name: str, numbers: Mapping[Asked, int]) -> Conditions:
    values: dict[tuple[type, Value], list[int]] = {}
    bounds = [(number, asked) for asked, number in numbers.items() if isinstance(asked, Bounds)]
    for asked, number in numbers.items():
        for value in () if isinstance(asked, Bounds) else asked:
            values.setdefault(value, []).append(number)
    low = np.array([-np.inf if each.min is UNSET else each.min for _, each in bounds], np.float64)
    high = np.array([np.inf if each.max is UNSET else each.max for _, each in bounds], np.float64)
    places = np.array([number for number, _ in bounds], np.int64)
    return Conditions(name, {value: np.array(those) for value, those in values.items()}, places, low, high)
