"""Cleaning, explicit and counted: which rows of a table no estimator can use, and how many there were.

A row is dropped for the first of these that holds; rows of decisions that were never shown are passed on as they are.

    no arm, no reward or no propensity       reward outside the range given, or beyond 1e30
    propensity not in (0, 1], or below 1e-9  weight not above 0, or beyond 1e12
    probabilities that do not sum to 1, or give the arm shown another probability than its propensity
    a decision (and position of its list) that came before

Where a larger share of the rows than the rules allow has no reward, nothing is valued: an empty reward that means that
nothing came would leave out just the rows without, and what is left is certain to have earned.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bandit.arrays import Vector
from simulator.logs.contexts import LogError
from simulator.logs.table import ROUNDING, Header, Mask, Table, column, drawn_with, floats, own

UNREWARDED = "no reward"
FAULTY = 0.25  # share of rows that may lack what they are for
SUM_TOLERANCE = 0.01  # logs keep probabilities in float32, or round them for people
LEAST = 1e-9  # propensity: no log is so long that it would show a smaller one
MOST, HEAVIEST = 1e30, 1e12  # reward, row weight: with that propensity, powers of larger ones are infinite
SAME = 1e-3  # relative: propensity and probability of one arm, each rounded in its own way


@dataclass(frozen=True)
class Rules:
    """What may be asked of a cleaning.

    Attributes:
        reward_range: (low, high); rewards outside are dropped. None: every finite reward is kept.
        duplicates: whether the second row of a decision is dropped; needs a few dozen bytes a row.
        faulty: the largest share of rows, in [0, 1], that may have no reward.
    """

    reward_range: tuple[float, float] | None = None
    duplicates: bool = True
    faulty: float = FAULTY


class Fault(NamedTuple):
    """A reason to drop rows: which of them, what was expected, and what there is."""

    what: str
    expected: str
    bad: Mask
    got: Vector | None = None


def clean(table: Table, rules: Rules | None = None) -> Table:
    """The table without the rows that cannot be used; they are counted in its `cleaning`.

    The batches raise LogError at their end if no row was left, with the first row of each fault, or if too many rows
    have no reward.
    """
    cleaner = _Cleaner(table.header, rules or Rules(), table.cleaning)
    header = msgspec.structs.replace(table.header, unique=table.header.unique or cleaner.rules.duplicates)
    return replace(table, header=header, batches=cleaner.batches(table.batches))


class _Cleaner:
    def __init__(self, header: Header, rules: Rules, counts: Counter[str]) -> None:
        self.header, self.rules, self.counts = header, rules, counts
        self.seen: set[int] = set()
        self.rows = self.kept = self.exempt = self.unrewarded = 0
        self.examples: dict[str, str] = {}  # fault -> where it was first

    def batches(self, source: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in source:
            kept = self._kept(batch)
            self.rows += len(batch)
            self.kept += len(kept)
            if len(kept):
                yield kept
        if not self.kept:
            before = "".join(f"; {what}: {n:,}" for what, n in self.counts.items() if n and "left out" in what)
            raise LogError(f"expected at least one usable row, got none of {self.rows}{self._why()}{before}")
        refuse_unrewarded("rows", self.unrewarded, self.rows - self.exempt, self.rules.faulty)

    def _why(self) -> str:
        return "".join(f"; {what}: {where}" for what, where in self.examples.items())

    def _kept(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        skipped = column(batch, "skipped")
        exempt = np.zeros(len(batch), bool) if skipped is None else floats(skipped.fill_null(False)) == 1
        good = np.ones(len(batch), bool)
        self.exempt += int(exempt.sum())
        for fault in faults(self.header, batch, self.rules):
            self.unrewarded += int((fault.bad & ~exempt & good).sum()) * (fault.what == UNREWARDED)
            self._drop(batch, good, fault._replace(bad=fault.bad & ~exempt & good))
        if self.rules.duplicates and column(batch, "decision_id") is not None:
            self._drop(batch, good, Fault("decision that came before", "each once", self._repeated(batch, good)))
        return batch if good.all() else batch.filter(pa.array(good))

    def _drop(self, batch: pa.RecordBatch, good: Mask, fault: Fault) -> None:
        if not fault.bad.any():
            return
        what = f"rows dropped: {fault.what}"
        self.counts[what] += int(fault.bad.sum())
        good &= ~fault.bad
        i = int(np.flatnonzero(fault.bad)[0])
        got = "" if fault.got is None else f", got {_shown(fault.got[i])}"
        self.examples.setdefault(what, f"{self._place(batch, i)}: expected {fault.expected}{got}")

    def _place(self, batch: pa.RecordBatch, i: int) -> str:
        ids = column(batch, "decision_id")
        name = "" if ids is None or ids[i].as_py() is None else f" (decision {ids[i].as_py()!r})"
        return f"first in row {self.rows + i + 1}{name}"

    def _repeated(self, batch: pa.RecordBatch, good: Mask) -> Mask:
        ids = batch.column("decision_id").to_pylist()
        position = column(batch, "position")
        positions = [0] * len(ids) if position is None else position.fill_null(0).to_pylist()
        repeated = np.zeros(len(ids), bool)
        for i in np.flatnonzero(good).tolist():
            if ids[i] is not None:
                key = hash((ids[i], positions[i]))
                repeated[i] = key in self.seen
                self.seen.add(key)
        return repeated


def refuse_unrewarded(what: str, count: int, of: int, faulty: float) -> None:
    """Refuse a log of which too large a share has no reward.

    Args:
        what: the log consists of.
        count: how many of those have none.
        of: how many there are.
        faulty: the largest share that may have none, in [0, 1].

    Raises:
        LogError: more have none, though not all; says how many, and what to do.
    """
    if not 0 <= faulty <= 1:
        raise LogError(f"faulty: expected a share in [0, 1], got {faulty:g}")
    if faulty * of < count < of:
        do = f"write 0 where nothing came; or leave these out knowingly, with --faulty {-(-100 * count // of) / 100:g}"
        raise LogError(f"no reward in {count:,} of {of:,} {what}, expected a share of {faulty:g} at most: {do}")


def _shown(value: float) -> str:
    return "nothing" if math.isnan(value) else f"{value:g}"


def faults(header: Header, batch: pa.RecordBatch, rules: Rules) -> Iterator[Fault]:
    """Each reason to drop rows of a batch, but repetition."""
    reward, p = floats(batch.column("reward")), drawn_with(batch)
    yield Fault("no arm", "an arm", own(batch).field("arm").is_null().to_numpy(zero_copy_only=False))
    yield Fault(UNREWARDED, "a number as reward", ~np.isfinite(reward), reward)
    yield Fault(f"reward beyond {MOST:g}", "a reward small enough to be squared", np.abs(reward) > MOST, reward)
    if rules.reward_range is not None:
        low, high = rules.reward_range
        what = f"reward outside [{low:g}, {high:g}]"
        yield Fault(what, f"a reward in [{low:g}, {high:g}]", (reward < low) | (reward > high), reward)
    yield Fault("no propensity", "a propensity in (0, 1]", np.isnan(p), p)
    yield Fault("propensity not above 0", "a propensity in (0, 1]", p <= 0, p)
    yield Fault(
        f"propensity below {LEAST:g}", "one with which a row can plausibly have been drawn", (p > 0) & (p < LEAST), p
    )
    yield Fault("propensity above 1", "a propensity in (0, 1]", p > 1 + ROUNDING, p)
    if (weights := column(batch, "weight")) is not None:
        weight = floats(weights.fill_null(1.0))
        yield Fault("weight not above 0", "a weight above 0", ~((weight > 0) & np.isfinite(weight)), weight)
        yield Fault(f"weight beyond {HEAVIEST:g}", "1 / the share of such rows kept", weight > HEAVIEST, weight)
    if "eligible" in header.columns:
        yield from _probability_faults(header, batch, p)


def _probability_faults(header: Header, batch: pa.RecordBatch, p: Vector) -> Iterator[Fault]:
    """Faults of the probabilities of all arms, of rows that have them."""
    eligible = batch.column("eligible")
    lengths = pc.list_value_length(eligible).fill_null(0).to_numpy(zero_copy_only=False)
    values, rows = eligible.flatten(), np.repeat(np.arange(len(batch)), lengths)
    each = floats(values.field("probability"))
    known = lengths > 0
    known[rows[np.isnan(each)]] = False
    if header.probability == "every":
        yield Fault("without the probability of every arm", "a probability for each arm", ~known)
    low = np.zeros(len(batch), bool)
    low[rows[(each < 0) | (each > 1 + ROUNDING)]] = True
    yield Fault("a probability not in [0, 1]", "probabilities in [0, 1]", low)
    total = np.bincount(rows, weights=each, minlength=len(batch)).astype(np.float64)
    off = known & (abs(total - 1) > SUM_TOLERANCE)
    yield Fault("probabilities that do not sum to 1", "probabilities that sum to 1", off, total)
    mine = pc.equal(values.field("arm"), own(batch).field("arm").take(pa.array(rows)))
    same = np.flatnonzero(mine.fill_null(False).to_numpy(zero_copy_only=False))
    listed = np.bincount(rows[same], weights=each[same], minlength=len(batch))
    what = "propensity unlike the arm's own probability"
    yield Fault(what, "the probability of the arm shown", known & (abs(listed - p) > SAME * abs(p) + ROUNDING), p)
