"""Slices: shares of the traffic that each play a policy of their own, side by side.

    [0, WHOLE)    the range of a hash of whoever is decided for: user, else decision, salted with the experiment's name
    segments      which slice owns which part of it

A user's place in the range never changes, so the user's slice changes only where a segment changes hands. A share is a
whole number of millionths, so it is exactly the probability of its slice.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType

from bandit.core.policies import Policy

WHOLE = 1_000_000  # a share of 1
SLICES_MAX = 16  # at once
INDICES_MAX = 256  # in one generation: a record has a byte for it


class SliceSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A slice as written in a document.

    Attributes:
        share: Its share of the users, 0 to 1, of at most six digits; the shares of all slices add up to 1. One slice
            may leave it out and has the rest.
        policy: What it plays; by default the experiment's policy.
    """

    share: Annotated[float, Meta(ge=0, le=1)] | UnsetType = UNSET
    policy: Policy | UnsetType = UNSET


class Slice(NamedTuple):
    """A slice of an experiment in force."""

    number: int  # its index, in the log
    name: str
    share: int  # in millionths


class Segment(NamedTuple):
    """A part of the range, from where the one before ends."""

    end: int
    slice: int


def millionths(share: float) -> int:
    """A share as a whole number of millionths; -1 where it is none."""
    whole = round(share * WHOLE)
    return whole if abs(share * WHOLE - whole) < 1e-4 else -1


def shares_in(specs: Mapping[str, SliceSpec]) -> dict[str, int] | str:
    """Millionths of each slice, none where there are none; or what the shares should be where they are not."""
    if not specs:
        return {}
    open_ = [name for name, spec in specs.items() if spec.share is UNSET]
    shares = {name: millionths(spec.share) for name, spec in specs.items() if spec.share is not UNSET}
    if len(open_) > 1:
        return "a share for every slice but one"
    if -1 in shares.values():
        return "shares of at most six digits after the point"
    rest = WHOLE - sum(shares.values())
    if rest < 0 or (rest and not open_):
        told = sum(shares.values()) / WHOLE
        return f"shares that add up to 1, not {told:g}: a slice that leaves its share out has the rest"
    return {name: shares.get(name, rest) for name in specs}


def segmented(before: Sequence[Segment], shares: Mapping[int, int]) -> tuple[Segment, ...]:
    """The segments of new shares, with as little of the range in new hands as possible.

    Args:
        before: the segments so far; none at first.
        shares: millionths of each slice's index; they add up to `WHOLE`.
    """
    left, start, free, kept = dict(shares), 0, [], []
    for end, owner in before or [Segment(WHOLE, -1)]:
        own = min(left.get(owner, 0), end - start)
        left[owner] = left.get(owner, 0) - own
        if own:
            kept.append((start, start + own, owner))
        if start + own < end:
            free.append((start + own, end))
        start = end
    wanting = [[owner, want] for owner, want in left.items() if want]
    for start, end in free:
        while start < end:
            owner, want = wanting[0]
            own = min(want, end - start)
            kept.append((start, start + own, owner))
            start, wanting[0][1] = start + own, want - own
            if own == want:
                del wanting[0]
    return _joined(sorted(kept))


def _joined(parts: Sequence[tuple[int, int, int]]) -> tuple[Segment, ...]:
    joined: list[Segment] = []
    for _, end, owner in parts:
        if joined and joined[-1].slice == owner:
            joined.pop()
        joined.append(Segment(end, owner))
    return tuple(joined)


def shares_of(segments: Sequence[Segment]) -> dict[int, int]:
    """Millionths of each slice's index, 0 of none."""
    shares: dict[int, int] = {}
    start = 0
    for end, owner in segments:
        shares[owner] = shares.get(owner, 0) + end - start
        start = end
    return shares


def place(secret: bytes, experiment: str, unit: bytes) -> int:
    """Where in the range a unit stands: evenly spread, and independent between experiments."""
    salted = hashlib.blake2b(experiment.encode(), key=secret[:64], digest_size=8, person=b"slice")
    salted.update(b"\0" + unit)
    return int.from_bytes(salted.digest(), "little") % WHOLE


def owner_of(segments: Sequence[Segment], at: int) -> int:
    """The slice that owns a place."""
    return segments[bisect_right(segments, (at, INDICES_MAX))].slice
