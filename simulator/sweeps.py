"""One policy with many settings: played in an environment, or replayed on a log; and what choosing the best costs.

The best of many settings looks better than it is: it was chosen for its luck, too. So one half (of seeds, or of a log)
chooses and the other half says what the choice is worth; the gap between the two is shown, not hidden.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import product
from typing import Any

import msgspec
import numpy as np

from bandit.sums import Int
from simulator.comparison import summaries
from simulator.environments.episode import Environment, stream
from simulator.logged import Log
from simulator.progress import Show, bar, silent
from simulator.replaying import made, replay
from simulator.runs import Results, run
from simulator.specs import Spec, changed, parse
from simulator.spread import Spread, processes
from simulator.verdict import units

Grid = Mapping[str, Sequence[Any]]
HALVES = 2000  # stream of randomness under a seed


class Tried(msgspec.Struct, frozen=True):
    """One setting on both halves of a log.

    Attributes:
        policy: with what was set.
        choosing: value on the half that chooses.
        choosing_error: its standard error.
        held_out: value on the other half.
        held_out_error: its standard error.
        matches: decisions that the policy lived on the other half.
    """

    policy: str
    choosing: float
    choosing_error: float
    held_out: float
    held_out_error: float
    matches: int = 0


class Chosen(msgspec.Struct, frozen=True):
    """The setting that was best on one half, and what the other half says of it."""

    policy: str
    choosing: float
    held_out: float
    held_out_error: float

    @property
    def optimism(self) -> float:
        """By how much the half that chose it flattered it: the winner's curse, with the luck of both halves in it."""
        return self.choosing - self.held_out


def variants(policy: str | Spec, grid: Grid) -> list[Spec]:
    """The policy with every combination of the grid's values.

    Args:
        policy: what all have in common.
        grid: option to values, such as {"alpha": [0.5, 1], "lambda": [1, 10], "refresh": [100, 400]}.
    """
    base = parse(policy) if isinstance(policy, str) else policy
    return [changed(base, dict(zip(grid, values, strict=True))) for values in product(*grid.values())]


def sweep(environment: Environment, policy: str | Spec, grid: Grid, **how: Any) -> Results:
    """Every setting played under every seed; `how` is what `runs.run` takes."""
    return run(environment, variants(policy, grid), **how)


def chosen_by_seeds(results: Results) -> Chosen:
    """The setting that is best over every other seed, judged by the rest of the seeds.

    Raises:
        ValueError: there are fewer than two seeds.
    """
    seeds = sorted({row.seed for row in results.rows})
    if len(seeds) < 2:
        raise ValueError(f"choosing and judging take two seeds or more; got {seeds}")
    first = {s.policy: s for s in summaries([row for row in results.rows if row.seed in seeds[::2]])}
    second = {s.policy: s for s in summaries([row for row in results.rows if row.seed in seeds[1::2]])}
    best = max(first, key=lambda policy: first[policy].mean)
    values = np.array([row.mean_reward for row in results.rows if row.policy == best and row.seed in seeds[1::2]])
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("inf")
    return Chosen(best, first[best].mean, second[best].mean, error)


def halves(log: Log, seed: int = 0) -> tuple[Int, Int]:
    """Rows of two halves, in order; all rows of one user (or of one decision) are in the same one."""
    unit = units(log)
    unit = np.arange(len(log)) if unit is None else unit
    side = stream(seed, HALVES).permutation(int(unit.max(initial=-1)) + 1) % 2
    return np.flatnonzero(side[unit] == 0), np.flatnonzero(side[unit] == 1)


def sweep_log(
    log: Log,
    policy: str | Spec,
    grid: Grid,
    *,
    refresh: int = 100,
    seed: int = 0,
    floor: float = 0.0,
    spread: Spread | None = None,
    progress: bool = False,
) -> list[Tried]:
    """Every setting replayed on both halves of a log; see `chosen` for the best. Ctrl-C keeps what is done.

    Args:
        log: in the order in which it was logged.
        policy: see `specs.parse`.
        grid: see `variants`.
        refresh: matches between two refreshes.
        seed: of the halves and of replay's coins.
        floor: see `replay.replay`.
        spread: how to spread the work; None: over all cores.
        progress: show it on stderr.

    Raises:
        ValueError: a policy or an option is not known.
        MissingLibraryError: a policy needs a library that is not installed.
        bandit.errors.Problem: an option has not the value that it should have.
    """
    parts = tuple(log.take(rows) for rows in halves(log, seed))
    specs = variants(policy, grid)
    for spec in specs:  # an option that is wrong is refused now, not in another process
        made(parts[0], spec, refresh, seed)
    found: dict[int, Tried] = {}
    with bar("settings", len(specs), wanted=progress) as show, suppress(KeyboardInterrupt):
        found.update((spread or processes())(_tried, (parts, refresh, seed, floor), specs, show))
    return [found[i] for i in sorted(found)]


def _tried(common: tuple[tuple[Log, Log], int, int, float], spec: Spec, show: Show = silent) -> Tried:
    parts, refresh, seed, floor = common
    one, other = (replay(part, spec, refresh=refresh, seed=seed, floor=floor) for part in parts)
    return Tried(spec.name, one.value, one.standard_error, other.value, other.standard_error, other.matches)


def chosen(tried: Sequence[Tried]) -> Chosen:
    """The setting with the largest value on the half that chooses.

    Raises:
        ValueError: none has a value there.
    """
    known = [each for each in tried if np.isfinite(each.choosing)]
    if not known:
        raise ValueError("no setting has a value: nothing matched")
    best = max(known, key=lambda each: each.choosing)
    return Chosen(best.policy, best.choosing, best.held_out, best.held_out_error)
