"""Transforms of numbers proposed from data, and what a policy earns with each of them: in an environment, or on a log.

    raw             numbers as they are, by mean and scale
    bins B          edges between B intervals that hold about as many values each; a frequent value has one for itself
    rank            STEPS intervals likewise, from the smallest value to the largest
    fourier D at s  besides the numbers (raw, or by rank) D random features of them all together, together as large as
                    the numbers' own columns; s: a share of the median distance of two contexts in these columns

Edges are the shortest numbers that part the values in the same way. What is proposed is a document's features, whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec
import numpy as np

from bandit.arrays import Matrix, Vector
from bandit.core.features import D_MAX, Bins, Feature, Fourier, Number, Rank, compile_encoder
from bandit.core.sums import ONE
from simulator.environments.full import FullEnvironment
from simulator.environments.seen import declared
from simulator.environments.tables import of_document
from simulator.logs import contexts
from simulator.logs.log import Log
from simulator.ope.evaluate import EstimatorRow
from simulator.policies.specs import Spec, parse, with_features
from simulator.progress import Show, bar, silent
from simulator.studies.lived import judge
from simulator.studies.parallel import Spread, processes
from simulator.studies.replay import replay
from simulator.studies.run import Results, run

BINS, SIZE, STEPS = 8, 100, 32
SHARES = (0.25, 0.5, 1.0)  # of the median distance
ROWS = 20_000  # looked at for edges
PAIRS = 2000  # of contexts, for the median distance
SEVERAL = 2  # different values: of fewer there is nothing to part


class Proposal(msgspec.Struct, frozen=True):
    """Features as a document has them.

    Attributes:
        name: what was done, such as "bins 8".
        features: all of them.
        columns: how many they take, with the intercept.
    """

    name: str
    features: tuple[Feature, ...]
    columns: int


class Played(NamedTuple):
    """What was proposed, and what each of it earned, under its name as the policy's."""

    proposals: list[Proposal]
    results: Results


class Replayed(NamedTuple):
    """What was proposed, and what each of it earned on a log, in the same order; fewer if it was interrupted."""

    proposals: list[Proposal]
    rows: list[EstimatorRow]
    matches: list[int]
    complete: bool


def proposals(
    features: Sequence[Feature], values: Mapping[str, Vector], *, bins: int = BINS, size: int = SIZE, seed: int = 0
) -> list[Proposal]:
    """What may be made of the numbers among the features, the features as they are first; what takes more columns than
    an experiment may have is left out.

    Args:
        features: of a document; numbers by mean and scale or min and max are transformed, all else stays.
        values: of each of these numbers, shape (n,); NaN: missing.
        bins: how many intervals of `bins`.
        size: how many random features.
        seed: of the random features, and of the contexts that are looked at.

    Raises:
        ValueError: no number has two values.
    """
    known = {name: each[np.isfinite(each)] for name, each in _some(values, seed).items()}
    known = {name: each for name, each in known.items() if len(np.unique(each)) >= SEVERAL}
    if not known:
        raise ValueError(
            "there is no number of two values or more among the features, so there is nothing to transform"
        )
    binned = _with(features, {name: Bins(edges(each, bins)) for name, each in known.items()})
    ranked = _with(features, {name: Rank(quantiles(each, STEPS)) for name, each in known.items()})
    found: dict[str, tuple[Feature, ...]] = {"raw": tuple(features), f"bins {bins}": binned, "rank": ranked}
    for what, numbers in (("", tuple(features)), ("rank + ", ranked)):
        middle, norm = measured(numbers, {name: values[name] for name in known}, seed)
        height = min(max(float(f"{norm:.2g}"), 1e-3), 5 * math.sqrt(size), 180)
        for share in SHARES:
            scale = min(max(float(f"{share * middle:.2g}"), 1e-3), 1e6)
            waves = Fourier(_free(features), tuple(known), size, scale, seed, height)
            found[f"{what}fourier {size} at {scale:g}"] = (*numbers, waves)
    return [Proposal(name, each, d) for name, each in found.items() if (d := _width(each)) <= D_MAX]


def _some(values: Mapping[str, Vector], seed: int) -> dict[str, Vector]:
    """Some of the rows, where there are many."""
    n = max((len(each) for each in values.values()), default=0)
    rows = np.random.default_rng(seed).permutation(n)[:ROWS] if n > ROWS else slice(None)
    return {name: each[rows] for name, each in values.items()}


def _with(features: Sequence[Feature], how: Mapping[str, Bins | Rank]) -> tuple[Feature, ...]:
    """The features with these transforms in the place of their scalings."""
    return tuple(
        Number(each.name, transform=how[each.name], missing=each.missing)
        if isinstance(each, Number) and each.name in how
        else each
        for each in features
    )


def _free(features: Sequence[Feature]) -> str:
    """A name that no feature has."""
    name, names = "fourier", {feature.name for feature in features}
    while name in names:
        name += "'"
    return name


def _width(features: Sequence[Feature]) -> int:
    """Columns with the intercept; too many are counted too."""
    return 1 + sum(each.size if isinstance(each, Fourier) else compile_encoder([each]).d - 1 for each in features)


def edges(values: Vector, bins: int) -> tuple[float, ...]:
    """Where intervals begin that hold about as many of the values each, from the second on; fewer if fewer differ."""
    found, counts = (part.tolist() for part in np.unique(values, return_counts=True))
    alone, rest, left = set[int](), len(values), bins  # values that fill an interval by themselves; all the others
    for i in sorted(range(len(found)), key=lambda i: -counts[i]):
        if left < 2 or counts[i] * left <= rest:
            break
        alone.add(i)
        rest, left = rest - counts[i], left - 1
    cuts, inside = list[float](), 0
    for i, count in enumerate(counts):
        full = inside and left > 1 and 2 * inside + count > 2 * rest / left
        if i and len(cuts) < bins - 1 and (full or alone & {i - 1, i}):
            cuts.append(shortest(found[i - 1], found[i]))
            if inside:
                rest, left, inside = rest - inside, max(1, left - 1), 0
        inside += 0 if i in alone else count
    return tuple(cuts) or (shortest(found[-2], found[-1]),)


def quantiles(values: Vector, steps: int) -> tuple[float, ...]:
    """The smallest value, edges between as many steps, and the largest."""
    low, high = float(values.min()), float(values.max())
    inner = edges(values, steps)
    return low, *(edge for edge in inner if low < edge < high), high


def shortest(below: float, value: float) -> float:
    """The number of fewest digits that is above the one and not above the other."""
    numbers = (float(f"{middle:.{digits}g}") for digits in range(1, 17) for middle in (value, (below + value) / 2))
    return next((each for each in numbers if below < each <= value), value)


def measured(features: Sequence[Feature], values: Mapping[str, Vector], seed: int = 0) -> tuple[float, float]:
    """(median distance of two contexts in the columns of these numbers, those of equal ones left out; root of the mean
    squared norm of these columns).
    """
    numbers = [each for each in features if isinstance(each, Number) and each.name in values]
    n = len(next(iter(values.values())))
    rows = np.random.default_rng(seed).integers(0, n, 2 * PAIRS)
    X = columns(numbers, {name: each[rows] for name, each in values.items()})
    apart = np.sqrt(((X[:PAIRS] - X[PAIRS:]) ** 2).sum(axis=1))
    middle = float(np.median(apart[apart > 0])) if (apart > 0).any() else 1.0
    return middle, math.sqrt(float((X**2).sum(axis=1).mean()))


def columns(features: Sequence[Feature], values: Mapping[str, Vector]) -> Matrix:
    """The columns of numbers, and of random features of them, shape (n, d - 1), as the server has them; what is missing
    is the mean, or the middle rank.
    """
    encoder = compile_encoder([msgspec.structs.replace(f, missing="indicator") if isinstance(f, Number) else f
                               for f in features])  # fmt: skip
    names = [feature.name for feature in encoder.features]
    told = np.column_stack([values[name] for name in names]).tolist()
    rows = [{n: v for n, v in zip(names, row, strict=True) if np.isfinite(v)} for row in told]
    x = encoder.encode([msgspec.convert(row, encoder.context_type) for row in rows])
    own = encoder.layout.columns
    kept = [at for f in features for at in own[f.name][: len(own[f.name]) - isinstance(f, Number)]]
    return x[:, kept] / ONE


def played(
    environment: FullEnvironment, policy: str | Spec = "linucb", *, bins: int = BINS, size: int = SIZE, seed: int = 0,
    **how: Any,
) -> Played:  # fmt: skip
    """Every proposal played in an environment; `how` is what `run` takes.

    Args:
        environment: which keeps its contexts as they came: one of a table.
        policy: of the server's; see `specs.parse`.
        bins, size, seed: as of `proposals`.

    Raises:
        ValueError: as `proposals` and `run`, or the environment does not keep its contexts.
    """
    if not isinstance(environment, FullEnvironment) or environment.rows is None:
        raise ValueError(f"transforms are proposed from a table with features; {environment.name!r} keeps no values")
    features, rows = declared(environment), environment.rows
    values = {f.name: contexts.as_floats(rows.field(f.name)) for f in features if isinstance(f, Number)}
    found = proposals(features, values, bins=bins, size=size, seed=seed)
    spec = parse(policy) if isinstance(policy, str) else policy
    specs = [with_features(spec, each.name, msgspec.to_builtins(each.features)) for each in found]
    return Played(found, run(environment, specs, **how))


def replayed(
    log: Log, known: Sequence[contexts.Feature], policy: str | Spec = "linucb", *,
    bins: int = BINS, size: int = SIZE, seed: int = 0, refresh: int = 100,
    floor: float = 0.0, spread: Spread | None = None, progress: bool = False, **how: Any,
) -> Replayed:  # fmt: skip
    """Every proposal replayed on a log: what it would have earned over the decisions that match, while it learned from
    these alone. Columns that are no numbers, or were made by a document's features, stay as they are. Ctrl-C keeps what
    is done.

    Args:
        log: with contexts.
        known: the features that its columns are made of.
        policy: see `specs.parse`.
        bins, size, seed: as of `proposals`; seed also of replay's coins.
        refresh: matches between two refreshes.
        floor: as of `replay`.
        spread: how to spread the work; None: over all cores.
        progress: show it on stderr.
        how: as of `judge`.

    Raises:
        ValueError: as `proposals`, or the log has no contexts.
    """
    if log.context is None or not known:
        raise ValueError("transforms are proposed from numbers; the log has no contexts")
    places = _places(known)
    numbers = [each for each, _ in places if isinstance(each, Number)]
    values = {each.name: _raw(log.context, each, at[0]) for each, at in places if isinstance(each, Number)}
    found = proposals(numbers, values, bins=bins, size=size, seed=seed)
    others = [at for each, own in places if not isinstance(each, Number) for at in own]
    common = log, values, others, parse(policy) if isinstance(policy, str) else policy, (refresh, seed, floor), how
    done: dict[int, tuple[EstimatorRow, int]] = {}
    with bar("transforms", len(found), wanted=progress) as show, suppress(KeyboardInterrupt):
        done.update((spread or processes())(_replayed, common, found, show))
    rest = tuple(each for each, _ in places if not isinstance(each, Number | None))
    whole = [
        msgspec.structs.replace(each, features=(*each.features, *rest), columns=each.columns + len(others))
        for each in (found[i] for i in sorted(done))
    ]
    return Replayed(
        whole, [done[i][0] for i in sorted(done)], [done[i][1] for i in sorted(done)], len(done) == len(found)
    )


def _replayed(common: Any, proposal: Proposal, show: Show = silent) -> tuple[EstimatorRow, int]:
    """One proposal on a log, and its matches."""
    log, values, others, spec, (refresh, seed, floor), how = common
    X = np.column_stack([np.ones(len(log)), columns(proposal.features, values), log.context[:, others]])
    own = replace(log, context=X, columns=())
    life = replay(own, spec, refresh=refresh, seed=seed, floor=floor, show=show)
    return judge(own, life, **how), life.matches


def _places(known: Sequence[contexts.Feature]) -> list[tuple[Feature | None, list[int]]]:
    """The log's features as a document has them, each with its columns; None: made by one of a document."""
    found, at = list[tuple[Feature | None, list[int]]](), 1
    for each in known:
        found.append((None if each.made else of_document(each), list(range(at, at + len(each.columns)))))
        at += len(each.columns)
    return found


def _raw(X: Matrix, feature: Number, at: int) -> Vector:
    """A number's values."""
    shift, scale = feature.line()
    found: Vector = X[:, at] * scale + shift
    return found
