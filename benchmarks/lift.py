"""Whether the sentence about the lift is right: how often it covers the truth, and how wide it is.

    shop      twelve offers, a server's model that learns, a tenth at random; purchases up to 500 euros, a few of whose
              visitors make most visits: coverage, half-widths, how often 0 is excluded
    aa        two slices that do the same, a look a day for a month: how often one of them ever "wins"; `aa_at_once`
              where every user came on the first day, so that all clusters grow from look to look; `aa_own_error` with
              the small slice's own error alone
    moving    two slices, and two arms, that are equal while shares and the level of rewards move together
    minimum   the same as `aa` with few users, and effects of half and twice as much: from the first sentence on
    ratio     the alarm of slices that have the users that their shares say, and of one that lost a tenth of them
    model     what is foreseen from the context: how much narrower, and whether the difference has a bias of it

Run: python benchmarks/lift.py [--runs 100] [--only shop] [--json]
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from lift_worlds import (
    CLICK_WEIGHT,
    DAY_MS,
    DAYS,
    live,
    purchase_mean,
    purchases,
    shop,
    traffic_of,
    truth,
    visits,
)

from bandit.arrays import Int, Matrix, Vector
from simulator.ope.lift import contrast
from simulator.ope.lift.contrast import means
from simulator.ope.lift.lift import lift_of
from simulator.ope.lift.sequence import multiplier
from simulator.ope.lift.shares import imbalance
from simulator.ope.lift.traffic import Effect, Lift, Traffic
from simulator.progress import silent
from simulator.studies.parallel import processes

LOOKS = (10_000, 40_000, 160_000)  # decisions
HOLDOUT = 0.1
CAP = 150.0
Figure = dict[str, Any]


class Said(NamedTuple):
    """What one look said: whether it was said, covers the truth, excludes 0, half its width, and the truth."""

    said: bool
    covers: bool
    excludes: bool
    half: float
    true: float


def judged(effect: Effect, true: float) -> Said:
    """A look at an effect whose truth is known."""
    if effect.low is None or effect.high is None:
        return Said(False, True, False, math.nan, true)
    return Said(True, effect.low <= true <= effect.high, effect.clear, (effect.high - effect.low) / 2, true)


def until(traffic: Traffic, rows: int) -> Traffic:
    """The first rows."""
    return traffic.take(np.arange(len(traffic)) < rows)


def lifted(traffic: Traffic) -> Lift:
    """The lift of two slices."""
    found = lift_of(traffic)
    if found is None:
        raise RuntimeError("two slices were expected")
    return found


def one_shop(largest: int, seed: int, _: Any = silent) -> list[list[Said]]:
    """Of each number of decisions: the sum, both kinds, the sum with purchases capped."""
    made = shop(seed, largest)
    traffic, played = live(made, seed, HOLDOUT)
    more, capped = truth(made, played), truth(made, played, CAP)
    cap = replace(traffic, kinds=(traffic.kinds[0], replace(traffic.kinds[1], cap=CAP)))
    found, weights = [], np.array([CLICK_WEIGHT, 1.0])
    for rows in (each for each in LOOKS if each <= largest):
        plain, other = lifted(until(traffic, rows)), lifted(until(cap, rows))
        true, true_capped = more[:rows].mean(axis=0), capped[:rows].mean(axis=0)
        each = zip((plain.effect, *plain.kinds), (float(true @ weights), *true.tolist()), strict=True)
        found.append([*(judged(*one) for one in each), judged(other.effect, float(true_capped @ weights))])
    return found


def shop_figures(runs: int) -> Iterator[Figure]:
    """Coverage, half-widths and power of the shop."""
    found = np.array(_all(one_shop, LOOKS[-1], range(runs)), float)  # runs, looks, what, Said
    for j, rows in enumerate(LOOKS):
        for k, what in enumerate(("", "_click", "_purchase", "_capped")):
            said, covers, excludes, half, true = np.moveaxis(found[:, j, k], -1, 0)
            how = {"decisions": rows, "runs": runs, "holdout": HOLDOUT, "said": int(said.sum())}
            how |= {"cap": CAP} if what == "_capped" else {}
            yield figure(f"shop{what}_lift", true.mean(), "a decision", None, how)
            yield figure(f"shop{what}_covered", covers.mean(), "of runs", 0.93, how)
            yield figure(f"shop{what}_excludes_0", excludes.mean(), "of runs", None, how)
            yield figure(f"shop{what}_half_width", np.nanmean(half), "a decision", None, how)
    at_every = found[:, :, 0, 1].all(axis=1).mean()
    yield figure("shop_covered_at_all_looks", at_every, "of runs", 0.93, {"looks": list(LOOKS), "runs": runs})


class Same(NamedTuple):
    """Two slices that earn the same, but for a factor on the first's purchases."""

    decisions: int
    holdout: float = HOLDOUT
    at_once: bool = False
    effect: float = 1.0
    rate: float = 0.02
    few: float = contrast.FEW


def same(how: Same, seed: int) -> tuple[Traffic, float]:
    """(traffic, the true difference of purchases): whoever comes often also buys more or less often, all the while."""
    rng = np.random.default_rng([seed, 2])
    who = visits(rng, how.decisions, at_once=how.at_once)
    n = len(who.user)
    part = (rng.random(int(who.user.max()) + 1) < how.holdout).astype(np.int64)[who.user]
    x = np.column_stack([np.ones(n), rng.standard_normal((n, 3))])
    week = 1 + 0.5 * np.sin(2 * np.pi * who.day / 7)
    rate = how.rate * week * who.taste * np.exp(0.3 * x[:, 1] - 0.045)
    bought = purchases(rng, rate) * np.where(part == 0, how.effect, 1.0)
    clicked = rng.random(n) < np.minimum(1.0, 5 * rate)
    shares = np.tile([1 - how.holdout, how.holdout], (n, 1))
    true = (how.effect - 1) * float(np.minimum(rate, 1).mean()) * purchase_mean()
    return traffic_of(who, part, shares, np.column_stack([clicked, bought]).astype(float), x), true


def one_month(how: Same, seed: int, _: Any = silent) -> list[list[Said]]:
    """Of each day: the sum, and both kinds."""
    traffic, true = same(how, seed)
    contrast.FEW = how.few
    found = []
    for day in range(1, DAYS + 1):
        part = traffic.take(traffic.time_ms < day * DAY_MS)
        lift = lift_of(part) if len(part) else None
        if lift is None:
            continue
        effects = zip((lift.effect, *lift.kinds), (true, 0.0, true), strict=True)
        found.append([judged(*each) for each in effects])
    return found


def month_figures(runs: int, cases: dict[str, Same]) -> Iterator[Figure]:
    """How often any look of a month was wrong."""
    for name, how in cases.items():
        found = _all(one_month, how, range(runs))
        settings = {**how._asdict(), "runs": runs, "looks": DAYS}
        for k, what in enumerate(("", "_click", "_purchase")):
            wrong = [any(not look[k].covers for look in run) for run in found]
            spoke = float(np.mean([any(look[k].said for look in run) for run in found]))
            settings |= {"said": spoke}
            yield figure(f"{name}{what}_wrong", float(np.mean(wrong)), "of runs", 0.05, settings)


def one_moving(decisions: int, seed: int, _: Any = silent) -> tuple[bool, bool, bool, bool]:
    """Whether there is a winner: of equal slices, by their plain means, of equal arms, by their plain means."""
    rng = np.random.default_rng([seed, 3])
    who = visits(rng, decisions)
    n = len(who.user)
    late = who.day / DAYS
    held, level = np.select([late < 0.3, late < 0.6], [0.1, 0.3], 0.6), 0.02 * (0.5 + 2 * late)
    u = rng.random(int(who.user.max()) + 1)[who.user]
    bought, clicked = purchases(rng, level * who.taste), rng.random(n) < 5 * level
    rewards = np.column_stack([clicked, bought]).astype(float)
    shares = np.column_stack([1 - held, held])
    traffic = traffic_of(who, (u < held).astype(np.int64), shares, rewards, np.ones((n, 1)))
    arm = (rng.random(n) < held).astype(np.int64)
    w = np.where(arm[:, None] == [0, 1], 1.0, 0.0)
    reward, nothing = rewards @ np.array([CLICK_WEIGHT, 1.0]), np.zeros(n)
    slices = np.where(traffic.part[:, None] == [0, 1], 1.0, 0.0)
    return (
        lifted(traffic).effect.clear,
        _clear(slices, reward, nothing, who.user),
        _clear(w / shares, reward, nothing, who.user),
        _clear(w, reward, nothing, who.user),
    )


def _clear(w: Matrix, reward: Vector, foreseen: Vector, user: Int) -> bool:
    found = means(w, reward, foreseen, user)
    return abs(found.difference) > multiplier(len(w)) * found.error


def moving_figures(runs: int) -> Iterator[Figure]:
    """Winners among equals while shares move."""
    found = np.array(_all(one_moving, 40_000, range(runs)), float).mean(axis=0).tolist()
    targets = 0.08, None, 0.08, None
    names = "moving_slices_winner", "moving_slices_plain_means", "moving_arms_winner", "moving_arms_plain_means"
    for name, value, target in zip(names, found, targets, strict=True):
        yield figure(name, value, "of runs", target, {"runs": runs, "decisions": 40_000, "shares": "0.1, 0.3, 0.6"})


def one_ratio(decisions: int, seed: int, _: Any = silent) -> tuple[bool, int]:
    """(whether a sound log ever raised the alarm in a month of looks; decisions until it saw a tenth of users lost)."""
    traffic, _true = same(Same(decisions), seed)
    rng = np.random.default_rng([seed, 4])
    lost = (traffic.part == 1) & (rng.random(int(traffic.user.max()) + 1) < 0.1)[traffic.user]
    ever, found = False, decisions
    for day in range(1, DAYS + 1):
        now = traffic.time_ms < day * DAY_MS
        ever |= imbalance(traffic.part[now], traffic.shares[now], traffic.user[now]) is not None
        rest = now & ~lost
        if found == decisions and imbalance(traffic.part[rest], traffic.shares[rest], traffic.user[rest]) is not None:
            found = int(now.sum())
    return ever, found


def ratio_figures(runs: int) -> Iterator[Figure]:
    """False alarms, and how soon a real one comes."""
    found = _all(one_ratio, 160_000, range(runs))
    how = {"runs": runs, "decisions": 160_000, "looks": DAYS}
    yield figure("ratio_false_alarms", float(np.mean([ever for ever, _ in found])), "of runs", 0.001, how)
    yield figure("ratio_seen_after", float(np.median([n for _, n in found])), "decisions", None, {**how, "lost": 0.1})


def one_model(decisions: int, seed: int, _: Any = silent) -> list[tuple[float, float]]:
    """Of the sum and both kinds: half-width with a model over that without; z of the difference of equal slices."""
    made, (equal, _true) = shop(seed, decisions), same(Same(decisions), seed)
    traffic, _played = live(made, seed, HOLDOUT)
    pairs = [[(one.effect, *one.kinds) for one in (lifted(t), lifted(replace(t, x=None)))] for t in (traffic, equal)]
    found = []
    for with_, without, same_, _plain in zip(*pairs[0], *pairs[1], strict=True):
        half, z = [judged(each, 0.0).half for each in (with_, without, same_)], same_.value or 0.0
        found.append((half[0] / half[1], z * multiplier(decisions) / half[2]))
    return found


def model_figures(runs: int) -> Iterator[Figure]:
    """What is won by a model of the context, and what it costs: no bias."""
    found = np.array(_all(one_model, 40_000, range(runs)))
    for k, what in enumerate(("", "_click", "_purchase")):
        how = {"runs": runs, "decisions": 40_000, "largest": round(float(np.nanmax(found[:, k, 0])), 3)}
        yield figure(f"model{what}_width", np.nanmean(found[:, k, 0]), "of that without", 1.0, how)
        bias = np.nanmean(found[:, k, 1]) * math.sqrt(runs)
        yield figure(f"model{what}_bias", bias, "standard errors", None, how)


def _all(work: Callable[..., Any], common: Any, seeds: range) -> list[Any]:
    """The results in the order of their seeds."""
    found = dict(processes()(work, common, list(seeds), silent))
    return [found[i] for i in range(len(seeds))]


def figure(name: str, value: Any, unit: str, target: float | None, settings: dict[str, Any]) -> Figure:
    """One figure as it is printed."""
    return {"name": name, "value": float(f"{float(value):.4g}"), "unit": unit, "target": target, "settings": settings}


MONTHS = {"aa": Same(20_000), "aa_at_once": Same(20_000, at_once=True), "aa_half": Same(20_000, holdout=0.5)}
MONTHS["aa_own_error"] = Same(20_000, few=1e-9)
FEW = {
    f"minimum_{decisions}_{effect:g}_{rate:g}": Same(decisions, effect=effect, rate=rate)
    for decisions in (3_000, 10_000)
    for effect in (0.5, 1.0, 2.0)
    for rate in (0.02, 0.005)
}
PARTS: dict[str, Callable[[int], Iterator[Figure]]] = {
    "shop": shop_figures,
    "aa": lambda runs: month_figures(2 * runs, MONTHS),
    "moving": lambda runs: moving_figures(2 * runs),
    "minimum": lambda runs: month_figures(2 * runs, FEW),
    "ratio": ratio_figures,
    "model": model_figures,
}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    arguments = parser.parse_args()
    for name, part in PARTS.items():
        if arguments.only in (None, name):
            for found in part(arguments.runs):
                line = f"{found['name']:32s} {found['value']:10.4g} {found['unit']:18s} {found['settings']}"
                print(json.dumps(found) if arguments.json else line, flush=True)


if __name__ == "__main__":
    main()
