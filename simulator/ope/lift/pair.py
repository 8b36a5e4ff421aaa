"""Which two slices a lift is of, and why there is none where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bandit.arrays import Mask
from bandit.errors import nearest
from simulator.ope.lift.traffic import Traffic

LEARNED, RANDOM = "learned", "random"


class Pair(NamedTuple):
    """Names of the slice that is asked about and of what it is compared with; None: see `pair_of`."""

    slice: str | None = None
    baseline: str | None = None


def wrong(pair: Pair, names: Sequence[str]) -> tuple[str, str] | None:
    """Which of the two is wrong, `slice` or `baseline`, and what was expected; None where both can be asked for."""
    for field, name in pair._asdict().items():
        if name is not None and name not in names:
            known = f"one of {', '.join(names)}{nearest(name, names)}" if names else "nothing, as there are no slices"
            return field, known
    if pair.slice is not None and pair.slice == pair.baseline:
        return "baseline", "another slice than the one that is compared with it"
    return None


def pair_of(traffic: Traffic, wanted: Pair | None = None) -> tuple[int, int] | None:
    """Indices of the slice asked about and of its baseline; None where there are no two that decide.

    Without names: learned and random, where two are called so; else the first of the slices that decide against the
    one that plays at random, or against the next one. Of a pair of which one is named the other is found likewise.
    """
    deciding = np.flatnonzero(np.any(traffic.shares > 0, axis=0)).tolist()
    called = {traffic.names[g]: g for g in deciding}
    if not (names := [name for name in wanted or () if name is not None]):
        return _usual(traffic, called)
    rest = [g for name, g in called.items() if name not in names]
    if wanted is None or any(name not in called for name in names) or not (rest or len(names) == 2):
        return None
    if wanted.baseline is None:
        return called[names[0]], _first([called.get(RANDOM), traffic.uniform], rest)
    if wanted.slice is None:
        played = [g for g in rest if g != traffic.uniform]
        return _first([called.get(LEARNED), *played], rest), called[names[0]]
    return called[wanted.slice], called[wanted.baseline]


def _usual(traffic: Traffic, called: Mapping[str, int]) -> tuple[int, int] | None:
    """The pair where none is named."""
    if LEARNED in called and RANDOM in called:
        return called[LEARNED], called[RANDOM]
    if len(called) < 2:
        return None
    baseline = _first([traffic.uniform], list(called.values()), 1)
    return _first([], [g for g in called.values() if g != baseline]), baseline


def _first(liked: Iterable[int | None], rest: Sequence[int], place: int = 0) -> int:
    """The first that is liked of those that there are, else the one at this place."""
    return next((g for g in liked if g in rest and g is not None), rest[place])


def rows_of(traffic: Traffic, pair: tuple[int, int]) -> Mask | None:
    """The decisions in which both had a share; None where they have not both decided some of these."""
    rows: Mask = np.all(traffic.shares[:, pair] > 0, axis=1)
    return rows if all((traffic.part[rows] == g).any() for g in pair) else None


def silence(traffic: Traffic | None, wanted: Pair | None = None) -> str:
    """Why there is no lift; empty where there is one."""
    if traffic is None:
        return "no lift: these decisions were made without slices"
    deciding = np.any(traffic.shares > 0, axis=0)
    for name in wanted or ():
        if name is not None and not (name in traffic.names and deciding[traffic.names.index(name)]):
            return f"no lift: {name} has no share of these decisions"
    if (pair := pair_of(traffic, wanted)) is None:
        return "no lift: a single slice has all of these decisions"
    if rows_of(traffic, pair) is None:
        first, second = (traffic.names[g] for g in pair)
        return f"no lift: there is no time at which both {first} and {second} decided"
    return ""
