"""One policy with many settings: played in an environment, or valued on a log; and what choosing the best costs.

The best of many settings looks better than it is: it was chosen for its luck, too. So one half (of seeds, or of a log)
chooses and the other half says what the choice is worth; the gap between the two is shown, not hidden.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import product
from typing import Any, Literal, get_args

import numpy as np

from bandit.arrays import Matrix
from simulator.environments.episode import Environment
from simulator.logs.log import Log
from simulator.ope.checks.limits import check
from simulator.policies.specs import Spec, changed, parse
from simulator.policies.targets import frozen
from simulator.progress import Show, bar, silent
from simulator.studies.across_seeds import differences, summaries
from simulator.studies.lived import judge
from simulator.studies.parallel import Spread, processes
from simulator.studies.replay import made, replay
from simulator.studies.run import Results, run
from simulator.studies.select import Chosen, Selection, Tried, decided, halves, of_rows, select

Grid = Mapping[str, Sequence[Any]]
By = Literal["dr", "replay"]


def variants(policy: str | Spec, grid: Grid) -> list[Spec]:
    """The policy with every combination of the grid's values.

    Args:
        policy: what all have in common.
        grid: option to values, such as {"alpha": [0.5, 1], "lambda": [1, 10], "refresh": [100, 400]}.
    """
    base = parse(policy) if isinstance(policy, str) else policy
    return [changed(base, dict(zip(grid, values, strict=True))) for values in product(*grid.values())]


def sweep(environment: Environment, policy: str | Spec, grid: Grid, **how: Any) -> Results:
    """Every setting played under every seed; `how` is what `run` takes."""
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


def not_worse(results: Results, best: Chosen, alpha: float = 0.05) -> list[str]:
    """The settings that the seeds which judge do not show to be worse than the chosen one, by paired differences."""
    judging = sorted({row.seed for row in results.rows})[1::2]
    rows = [row for row in results.rows if row.seed in judging]
    others = len({row.policy for row in rows}) - 1
    found = differences(rows, best.policy, alpha=alpha / max(1, others))  # all of them hold at once
    return [each.policy for each in found if not each.high < 0]


def sweep_log(
    log: Log,
    policy: str | Spec,
    grid: Grid,
    *,
    by: By = "dr",
    train: float = 0.5,
    refresh: int = 100,
    seed: int = 0,
    alpha: float = 0.05,
    floor: float = 0.0,
    spread: Spread | None = None,
    progress: bool = False,
    **how: Any,
) -> Selection:
    """Every setting on a log; the best is chosen by one half of the rows and valued on the other. Ctrl-C keeps what is
    done.

    Args:
        log: in the order in which it was logged.
        policy: see `specs.parse`.
        grid: see `variants`.
        by: `dr`: each setting learns from the log's first part, and is valued on the rows after it, as it was then;
            `replay`: each lives through the matches of both halves, few where there are many arms.
        train: dr: the share of the rows that is that first part.
        refresh: rows (of a replay, matches) between two refreshes.
        seed: of the halves, of replay's coins, and of what is random inside a policy.
        alpha: 1 - confidence.
        floor: as of `replay`.
        spread: how to spread the work; None: over all cores.
        progress: show it on stderr.
        how: as of `evaluate`.

    Raises:
        ValueError: a policy or an option is not known, a number is not what it can be, or no setting has a value.
        MissingLibraryError: a policy needs a library that is not installed.
        bandit.errors.Problem: an option has not the value that it should have.
    """
    if by not in get_args(By):
        raise ValueError(f"by is one of {', '.join(get_args(By))}; got {by!r}")
    check(log, alpha, how)
    specs = variants(policy, grid)
    for spec in specs:  # an option that is wrong is refused now, not in another process
        made(log, spec, refresh, seed)
    found: dict[int, Any] = {}
    cut, parts = int(len(log) * train), tuple(log.take(rows) for rows in halves(log, seed))
    work, common = (
        (_frozen, (log, cut, refresh, seed))
        if by == "dr"
        else (_replayed, (parts, refresh, seed, floor, {"alpha": alpha, **how}))
    )
    with bar("settings", len(specs), wanted=progress) as show, suppress(KeyboardInterrupt):
        found.update((spread or processes())(work, common, specs, show))
    if not found:
        raise ValueError("interrupted before any setting was done")
    if by == "replay":
        return decided([found[i] for i in sorted(found)])
    targets = {specs[i].name: found[i] for i in sorted(found)}
    return select(log.take(slice(cut, None)), targets, alpha=alpha, seed=seed, **how)


def _frozen(common: tuple[Log, int, int, int], spec: Spec, show: Show = silent) -> Matrix:
    """The setting's probabilities in the rows after the first part, as learned from that."""
    log, cut, refresh, seed = common
    return frozen(log, spec, cut, refresh=refresh, seed=seed)


def _replayed(
    common: tuple[tuple[Log, Log], int, int, float, dict[str, Any]], spec: Spec, show: Show = silent
) -> Tried:
    """The setting replayed on both halves."""
    parts, refresh, seed, floor, how = common
    lives = [replay(part, spec, refresh=refresh, seed=seed, floor=floor) for part in parts]
    one, other = (judge(part, life, **how) for part, life in zip(parts, lives, strict=True))
    return of_rows(spec.name, one, other, lives[1].matches)
