"""Which arms a request may be shown: by their status, their dates and their conditions on its context.

    when        {"country": ["de", "fr"], "basket": {"min": 20}}: every field named must be there and fit
    from, until [from, until): an instant each, RFC 3339

Conditions are kept once each, however many arms share them, and what they leave is remembered by their outcomes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Protocol

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from bandit.arrays import Int, Mask
from bandit.core.features import Name, Real

Value = bool | float | str  # of an attribute
REMEMBERED = 4096  # sets of arms that one version of an experiment remembers
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


def instant(text: str) -> int | None:
    """Milliseconds since 1970 of a time with its zone (RFC 3339); None where it is none."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if time.tzinfo is None else round(time.timestamp() * 1000)


@dataclass
class Gate:
    """What may be shown, of one version of an experiment.

    Attributes:
        active: arms that are not paused or retired, shape (K,).
        since: from when on each may be shown, in ms, shape (K,).
        until: from when on it may not, shape (K,).
        fields: the context's fields that conditions name, in order.
        conditions: each condition once: which of `fields` it is on, and what it asks.
        needed: which arms need it, shape (conditions, K).
    """

    active: Mask
    since: Int
    until: Int
    fields: tuple[str, ...]
    conditions: tuple[tuple[int, Asked], ...]
    needed: Mask
    _span: tuple[int, int, Mask] | None = None  # arms that dates allow from a moment until another
    _found: dict[tuple[int, bytes], Mask] = field(default_factory=dict)

    def eligible(self, context: Mapping[str, Any], now_ms: int) -> Mask:
        """Which arms may be shown now to a context with these of the fields, shape (K,); not to be changed."""
        begin, end, dated = self._span or (0, 0, self.active)
        if not begin <= now_ms < end:
            begin, end, dated = self._span = self._dated(now_ms)
        if not self.conditions:
            return dated
        values = [context.get(name) for name in self.fields]
        met = bytes(meets(values[at], asked) for at, asked in self.conditions)
        if (found := self._found.get((begin, met))) is None:
            failed = np.frombuffer(met, np.uint8) == 0
            found = dated & ~self.needed[failed].any(axis=0)
            if len(self._found) >= REMEMBERED:
                self._found.clear()
            self._found[begin, met] = found
        return found

    def _dated(self, now_ms: int) -> tuple[int, int, Mask]:
        ends = np.concatenate([self.since, self.until])
        begin = int(ends[ends <= now_ms].max(initial=-NEVER))
        end = int(ends[ends > now_ms].min(initial=NEVER))
        return begin, end, self.active & (self.since <= now_ms) & (now_ms < self.until)


def asked_by(condition: Condition) -> Asked:
    """What a condition asks, in the form that values are compared with."""
    return condition if isinstance(condition, Bounds) else frozenset(map(_typed, condition))


def meets(value: Value | None, asked: Asked) -> bool:
    """Whether a context's value meets a condition; one that is absent does not."""
    if isinstance(asked, Bounds):
        if value is None or isinstance(value, bool | str):
            return False
        return (asked.min is UNSET or value >= asked.min) and (asked.max is UNSET or value <= asked.max)
    return _typed(value) in asked


def _typed(value: Any) -> tuple[type, Value]:
    """A value that is equal to no value of another JSON type: 1 is not true."""
    return (float, float(value)) if isinstance(value, int) and not isinstance(value, bool) else (type(value), value)


def gate_of(active: Mask, arms: Sequence[Limited | None]) -> Gate | None:
    """The gate of arms by index (None: retired); None where nothing but their status limits them."""
    K, fields = len(arms), dict[str, int]()
    asked: dict[tuple[int, Asked], list[int]] = {}
    since, until = np.full(K, -NEVER), np.full(K, NEVER)
    for index, arm in enumerate(arms):
        if arm is None:
            continue
        if arm.since is not UNSET:
            since[index] = instant(arm.since) or 0
        if arm.until is not UNSET:
            until[index] = instant(arm.until) or 0
        for name, condition in (arm.when or {}).items():
            at = fields.setdefault(name, len(fields))
            asked.setdefault((at, asked_by(condition)), []).append(index)
    if not asked and (since == -NEVER).all() and (until == NEVER).all():
        return None
    needed: Mask = np.zeros((len(asked), K), np.bool_)
    for row, members in zip(needed, asked.values(), strict=True):
        row[members] = True
    return Gate(active, since, until, tuple(fields), tuple(asked), needed)
