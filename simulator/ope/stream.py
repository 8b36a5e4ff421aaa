"""`evaluate` for a log larger than memory: read in pieces, twice where a reward model is asked for.

Kept of a row is what it comes to: reward, propensity, pi of the arm shown, q, v and so on, with what is worked out from
them some 100 bytes whatever the number of arms and features. All else is sums. Against `evaluate` of the same rows:

- IPS, clipped, SNIPS, replay and what verdicts rest on are the same. DM, DR, SNDR, DRos and MRDR are, but for rounding,
  where the model is fitted on the past; where it is cross-fitted, a hash of the row (or user) chooses its split.
- tau of SWITCH-DR is chosen by the weights that were drawn, not by those of every arm.
- The sample-ratio check adds users up in `GROUPS` groups, which is as strict in expectation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import numpy as np

from bandit.arrays import Int, Matrix
from simulator.logs.log import Log, Strings, span_of
from simulator.logs.table import CELLS
from simulator.ope.additive import FITTED
from simulator.ope.checks.overlap import Basis, Overlap, numbered, overlap_of, playable, ratios, row_weights
from simulator.ope.checks.sample_ratio import SampleRatio, Tally
from simulator.ope.design import Totals, totals
from simulator.ope.evaluate import EstimatorRow, check_rows, judged, names_of, never, options_of, ranged
from simulator.ope.problem import EstimationProblem, Modelled, Options
from simulator.ope.targets import MakeTarget, Target
from simulator.ope.terms import ESTIMATORS
from simulator.progress import Show, silent

Pieces = Callable[[], Iterator[Log]]  # all rows again at each call, with the same arms and columns in each piece

GROUPS = 4096
MODELS = ("ridge", "mean")


def evaluate_stream(
    pieces: Pieces,
    target: MakeTarget,
    *,
    estimators: Sequence[str] | None = None,
    reward_range: tuple[float, float] | None = None,
    cap: float | None = None,
    show: Show = silent,
    **how: Any,
) -> list[EstimatorRow]:
    """The value of a target policy by each estimator, as `evaluate` has it.

    Args:
        pieces: the log.
        target: makes the target, anew for each reading.
        estimators: names; None: all.
        reward_range: as of `evaluate`; where neither it nor the log says, the log is read once more for it.
        cap: as of `evaluate`.
        show: told how many rows have been read, over all readings.
        how: other options of `evaluate`; `q` is "ridge" or "mean".

    Raises:
        ValueError: as of `evaluate`, or another model is asked for.
    """
    if (q := how.get("q", "ridge")) not in MODELS:
        raise ValueError(f"q of a stream is one of {', '.join(MODELS)}; got {q!r}")
    names, asked = names_of(estimators), _Asked(pieces, target, reward_range, cap)
    options = options_of(asked.first, asked.span, stated=asked.stated, cap=cap, **how)
    read = _Columns(asked.first)
    fitted = FITTED[options.q_fit]
    models = [fitted(asked.first, options, mrdr=name == "mrdr") for name in ("dr", "mrdr") if _needs(name, names)]
    for piece, pi in asked.rows():
        read.add(piece, pi)
        for model in models:
            model.first_reading(piece, pi, read)
        show(read.n)
    if not read.n:
        return [never(name) for name in names]
    problem, rows = _Streamed(read, options, asked.share), 0
    for model in models:
        model.between(read)
    for piece, pi in asked.rows() if models else ():
        for model in models:
            model.second_reading(piece, pi, rows, read)
        rows += len(piece)
        show(read.n + rows)
    problem.models = {model.mrdr: model.result() for model in models}
    return judged(problem, names)


def parted(pieces: Pieces, make: MakeTarget, cut: int, *, learning: bool) -> tuple[Pieces, MakeTarget]:
    """The rows of a log after the first ones, and a target that has met those; `learning`: and goes on to learn.

    Args:
        pieces: the log.
        make: makes the target.
        cut: how many rows come first.
        learning: whether it learns from the others too, each before it is valued.
    """

    def rest() -> Iterator[Log]:
        before = 0
        for piece in pieces():
            if before + len(piece) > cut:
                yield piece if before >= cut else piece.take(slice(cut - before, None))
            before += len(piece)

    def early() -> Iterator[Log]:
        before = 0
        for piece in pieces():
            if before < cut:
                yield piece.take(slice(cut - before))
            before += len(piece)

    def made(first: Log, span: tuple[float, float]) -> Target:
        spans = [first.reward_range or span_of(piece.reward) for piece in early()] + [span] * learning
        target = make(first, (min(low for low, _ in spans), max(high for _, high in spans)))
        for piece in early():
            target(piece)
        return target if learning else getattr(target, "frozen", target)  # what does not learn is as it is

    return rest, made


def _needs(name: str, names: Sequence[str]) -> bool:
    """Whether the model that this estimator uses is needed for any of those asked for."""
    return ESTIMATORS[name].model in {ESTIMATORS[each].model for each in names}


class _Asked:
    """A log in pieces with a target's probabilities, as often as it is read; rows that could not show it are left out.

    Attributes:
        first: piece of the log.
        span: lowest and highest possible reward.
        stated: whether that is known, and not only what came.
        share: of the rows of the last reading, by their weights, which ones these were.
    """

    def __init__(
        self, pieces: Pieces, make: MakeTarget, reward_range: tuple[float, float] | None, cap: float | None
    ) -> None:
        self.pieces, self.make, self.cap = pieces, make, cap
        self.first = next(pieces())
        self.told = reward_range is not None or self.first.reward_range is not None
        found = [ranged(piece, reward_range, cap)[1:] for piece in ([self.first] if self.told else pieces())]
        spans, stated = zip(*found, strict=True)
        self.span, self.stated = (min(low for low, _ in spans), max(high for _, high in spans)), all(stated)
        self.share = 1.0

    def rows(self) -> Iterator[tuple[Log, Matrix]]:
        """Pieces of the log with the target's probabilities, without rows in which it plays what could not be shown."""
        target: Target | None = None
        kept = total = 0.0
        for piece in self.pieces():
            target = target or self.make(piece, self.span)
            if self.cap is not None and not self.told:
                piece = replace(piece, reward=np.maximum(piece.reward, self.span[0]))
            pi, log = target(piece), ranged(piece, self.span, self.cap)[0]
            check_rows(log, pi, self.span)
            rows, s = playable(log, pi), row_weights(log)
            kept, total = kept + float(rows @ s), total + float(s.sum())
            self.share = kept / total
            if rows.any():
                yield (log, pi) if rows.all() else (log.take(rows), pi[rows])


class _Columns:
    """The first reading: what each row comes to, and the counts of the sample-ratio check where mu is known."""

    def __init__(self, first: Log) -> None:
        self.arms, self.learning = first.arms, first.learning
        self.n, self.largest, self.constant = 0, 0.0, True
        self.squares, self.cubes = np.zeros((2, first.K))  # as of `design.Totals`, with 1 for mu where it is not known
        self.square = 0.0
        self.tally = Tally(GROUPS if first.user is not None or first.decision_id is not None else 0)
        self.known = first.probability is not None
        self._parts: dict[str, list[Any]] = {}

    def add(self, log: Log, pi: Matrix) -> None:
        """Some rows, with the target's probabilities."""
        mu = np.broadcast_to(np.ones((1, 1)) if log.probability is None else log.probability, pi.shape)
        w, s = ratios(pi, mu), row_weights(log)
        unit = self.unit(log, self.n)
        self.n, self.largest = self.n + len(log), max(self.largest, float(w.max(initial=0.0)))
        squares, cubes = totals(mu, w, s)
        self.squares, self.cubes = self.squares + squares, self.cubes + cubes
        self.square += float(squares.sum())
        self.constant = self.constant and bool(np.allclose(log.propensity, 1 / log.K, rtol=1e-6, atol=0))
        if not self.known:  # the tally waits until it is clear whether p is constant; the context passes only now
            self.tally.balance.add(log, None)
        else:
            self.tally.add(log, None if unit is None else unit % GROUPS)
        columns = {
            "reward": log.reward, "propensity": log.propensity, "pi": pi[np.arange(len(log)), log.arm],
            "weight": log.weight, "unit": unit, "arm": log.arm.astype(np.int32),
            "part": None if self.known else log.part,
        }  # fmt: skip
        for name, values in columns.items():
            if values is not None:
                self._parts.setdefault(name, []).append(values)

    @property
    def basis(self) -> Basis:
        """Where mu is from, once all rows have been read."""
        return "full" if self.known else "uniform" if self.constant else "rows"

    @property
    def totals(self) -> Totals:
        """Of the weights of every arm."""
        K = 1 if self.known else len(self.arms)
        return Totals(K * self.squares, K**2 * self.cubes)

    _last: tuple[Strings, int, Int] | None = None  # names, how many rows came before, their numbers: models ask again

    def unit(self, log: Log, before: int) -> Int | None:
        """A number at least 0 for each row, the same for rows of one user or, where no user is known, of one decision.

        As of `verdict.units`; what it cannot know is whether any user will come back, so that users go first.

        Args:
            log: the rows.
            before: how many came before them.
        """
        names = log.decision_id if log.user is None or not (log.user != "").any() else log.user
        if names is None:
            return None
        if self._last is None or self._last[0] is not names or self._last[1] != before:
            digests = b"".join(blake2b(name.encode(), digest_size=8).digest() for name in names.tolist())
            keys = (np.frombuffer(digests, ">u8") >> np.uint64(2)).astype(np.int64)
            own = 2**62 + before + np.arange(len(log))  # nobody's: each stands for itself
            self._last = names, before, np.where(names == "", own, keys)
        return self._last[2]

    def column(self, name: str) -> Any:
        """A column over all rows, once; None where there is none."""
        return np.concatenate(self._parts.pop(name)) if name in self._parts else None


class _Streamed(EstimationProblem):
    """A problem from what has been read."""

    def __init__(self, read: _Columns, options: Options, share: float) -> None:
        column = read.column
        log = Log(
            read.arms, column("arm"), column("reward"), column("propensity"), weight=column("weight"),
            part=column("part"), learning=read.learning,
        )  # fmt: skip
        self.keys: Int | None = column("unit")
        unit = None if self.keys is None else numbered(self.keys)
        super().__init__(log, column("pi"), unit, options, share)
        self.models: dict[bool, Modelled] = {}
        self.basis, self._totals = read.basis, read.totals
        times = log.K if self.basis == "uniform" else 1  # pi stood for pi / mu
        self._largest = math.inf if self.basis == "rows" else times * read.largest
        square = None if self.basis == "rows" else times * read.square
        self._overlap = overlap_of(row_weights(log), self.w, square, self.basis, unit, self.heaviest)
        self._ratio = self._sample_ratio(read)

    def _sample_ratio(self, read: _Columns) -> SampleRatio:
        if not read.known:
            read.tally.constant = self.basis == "uniform"
            size = max(1, CELLS // self.log.K)
            for start in range(0, len(self.log), size):
                rows = slice(start, start + size)
                read.tally.add(self.log.take(rows), None if self.keys is None else self.keys[rows] % GROUPS)
        return read.tally.result()

    def totals(self) -> Totals:
        """See `EstimationProblem`."""
        return super().totals() if self.basis == "rows" else self._totals

    @property
    def support(self) -> Overlap:
        """See `EstimationProblem`."""
        return self._overlap

    @property
    def ratio(self) -> SampleRatio:
        """See `EstimationProblem`."""
        return self._ratio

    @property
    def largest(self) -> float:
        """See `EstimationProblem`."""
        return self._largest

    @property
    def model(self) -> Modelled:
        """See `EstimationProblem`."""
        return self.models[False]

    @property
    def mrdr(self) -> Modelled:
        """See `EstimationProblem`."""
        return self.models[True]
