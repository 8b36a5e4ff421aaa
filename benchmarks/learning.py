"""What the engine earns on data in which every arm's reward is known: no server, no delay, learning in batches of 100.

- msweb: one pass over 32,711 visitors in the order of each seed; the figure is the mean click rate over the seeds
  (uniform .1055, the best single area .3313, the best linear policy in hindsight .4026).
- mushroom: 50,000 rounds drawn with replacement; skipping earns 0, eating 5, or where it is poisonous 5 or -35 evenly.
  The figure is the expected regret as a share of the regret of choosing evenly. The data are the UCI archive's
  agaricus-lepiota.data (Schlimmer 1987, CC BY 4.0), which this package does not ship: name the file, plain or
  gzipped, by --mushroom or by MUSHROOM_DATA.
- amounts: six arms without features, whose rewards are normal about their means, 8,000 rounds, in ranges that fit them
  and in ranges that do not; clicks: ten arms of .05 to .2 %, 300,000 rounds. The figure is a share of uniform's regret.

Each is run without exploring, which is how figures are compared, the first two also with 2 %.

Run: python benchmarks/learning.py [--mushroom FILE] [--seeds 16] [--json]
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from bandit.arrays import Int, Matrix, Vector
from bandit.core.document import Document
from bandit.core.engine import Model
from bandit.core.experiment import compile_config
from bandit.core.revision import first
from bandit.core.sums import ONE, Events
from simulator.environments.datasets import msweb

REFRESH = 100  # rounds between two refreshes
MUSHROOM_ROUNDS = 50_000
EXPLORE = (0.0, 0.02)
Draw = Callable[[Int, Int, np.random.Generator], Vector]
Row = tuple[str, list[float], str, float | None, float]  # name, value of each seed, unit, target, explore


class World(NamedTuple):
    """Rounds to choose in: contexts x (n, d) on the grid, and what the arms shown earn there."""

    document: dict[str, Any]
    x: NDArray[np.int16]
    earn: Draw  # (rounds, arms, generator) -> rewards


def play(world: World, rounds: Int, seed: int, explore: float) -> Int:
    """The arm chosen in each of these rounds, learning as it goes."""
    document = {**world.document, "policy": {"type": "linucb", "alpha": 1.0, "explore": explore}}
    experiment = compile_config(first("benchmark", msgspec.convert(document, Document)))
    model, rng = Model(experiment), np.random.default_rng(seed)
    credit = np.frompyfunc(experiment.kinds[0].credit, 1, 1)
    chosen = []
    for start in range(0, len(rounds), REFRESH):
        at = rounds[start : start + REFRESH]
        n, x = len(at), world.x[at]
        decided = model.decide(experiment, x, experiment.active[None], [1] * n, rng.random(n))
        arms = np.array([choice.arms[0] for choice in decided.choices], np.int64)
        new = np.asarray(credit(world.earn(at, arms, rng)), np.int64)[:, None]
        model.learn(Events(arms, x, np.ones(n, np.int64), np.zeros_like(new), new))
        while model.refresh():
            pass
        chosen.append(arms)
    return np.concatenate(chosen)


def encoded(document: dict[str, Any], contexts: list[dict[str, Any]]) -> NDArray[np.int16]:
    """Contexts as a server would encode them."""
    encoder = compile_config(first("benchmark", msgspec.convert(document, Document))).encoder
    return encoder.encode([msgspec.convert(context, encoder.context_type) for context in contexts])


def msweb_figures(seeds: int) -> Iterator[Row]:
    """(name, click rate of each seed, unit, target, explore)."""
    data = msweb()
    document = data.document()
    x = encoded(document, [data.contexts(i) for i in range(len(data))])
    world = World(document, x, lambda at, arms, _: data.reward[at, arms])
    for explore in EXPLORE:
        rates = []
        for seed in range(seeds):
            order = data.order(seed)
            rates.append(float(data.reward[order, play(world, order, seed, explore)].mean()))
            progress("msweb", explore, rates)
        yield "msweb_clicks", rates, "clicks/decision", 0.356 if explore == 0 else None, explore


def mushroom_figures(path: Path, seeds: int) -> Iterator[Row]:
    """(name, regret of each seed as a percentage of uniform's, unit, target, explore)."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        rows = [row for row in csv.reader(file) if row]
    poisonous = np.array([row[0] == "p" for row in rows])
    columns = [sorted({row[c] for row in rows}) for c in range(1, len(rows[0]))]
    features = [{"name": f"c{c}", "type": "category", "levels": v, "other": False} for c, v in enumerate(columns)]
    document = {"features": features, "arms": ["skip", "eat"], "rewards": {"meal": {"range": [-35, 5]}}}
    x = encoded(document, [{f"c{c}": value for c, value in enumerate(row[1:])} for row in rows])

    def earn(at: Int, arms: Int, rng: np.random.Generator) -> Vector:
        bad = poisonous[at] & (rng.random(len(at)) < 0.5)
        result: Vector = np.where(arms == 0, 0.0, np.where(bad, -35.0, 5.0))
        return result

    expected: Matrix = np.column_stack([np.zeros(len(rows)), np.where(poisonous, -15.0, 5.0)])
    for explore in EXPLORE:
        shares = []
        for seed in range(seeds):
            rounds = np.random.default_rng(1000 + seed).integers(0, len(rows), MUSHROOM_ROUNDS)
            mine = expected[rounds, play(World(document, x, earn), rounds, seed, explore)].sum()
            best, uniform = expected[rounds].max(axis=1).sum(), expected[rounds].mean(axis=1).sum()
            shares.append(float(100 * (best - mine) / (best - uniform)))
            progress("mushroom", explore, shares)
        yield "mushroom_regret", shares, "% of uniform's", 3.3 if explore == 0 else None, explore


def amount_figures(seeds: int) -> Iterator[Row]:
    """(name, regret of each seed as a percentage of uniform's, unit, target, explore)."""
    tens, units = np.linspace(100, 120, 6), np.arange(6)
    for top in (130, 300, 1_000, 10_000, 100_000, 1_000_000):
        yield flat(f"amounts_100_to_120_up_to_{top}", tens, normal(tens, 9), [0, top], 8_000, seeds)
    yield flat("amounts_below_0", -tens, normal(-tens, 9), [-100_000, 0], 8_000, seeds)
    yield flat("amounts_about_0", tens - 110, normal(tens - 110, 9), [-1e6, 1e6], 8_000, seeds)
    for step in (50, 500, 5_000):  # of arms whose rewards are all large
        means = 5e5 + step * units
        yield flat(f"amounts_half_a_million_by_{step}", means, normal(means, step), [0, 1e6], 8_000, seeds)
    for top in (60, 10_000):
        p = np.linspace(0.005, 0.02, 10)
        yield flat(f"sales_of_20_up_to_{top}", 20 * p, sales(p, top), [0, top], 60_000, seeds)
    rates = np.linspace(0.0005, 0.002, 10)
    yield flat("clicks_of_a_thousandth", rates, clicks(rates), [0, 1], 300_000, seeds)


def normal(means: Vector, sd: float) -> Draw:
    """Rewards that are normal about the arms' means."""
    return lambda _, arms, rng: means[arms] + sd * rng.normal(size=len(arms))


def clicks(rates: Vector) -> Draw:
    """1 at the arms' rates, else 0."""
    return lambda _, arms, rng: (rng.random(len(arms)) < rates[arms]).astype(np.float64)


def sales(rates: Vector, top: float) -> Draw:
    """Now and then a log-normal amount with a mean of 20."""

    def earn(_: Int, arms: Int, rng: np.random.Generator) -> Vector:
        amount = np.minimum(top, 20 * np.exp(0.8 * rng.normal(size=len(arms)) - 0.32))
        result: Vector = amount * (rng.random(len(arms)) < rates[arms])
        return result

    return earn


def flat(name: str, means: Vector, earn: Draw, ends: list[float], n: int, seeds: int) -> Row:
    """The regret of arms without features."""
    arms = [f"arm{a}" for a in range(len(means))]
    document = {"features": [], "arms": arms, "rewards": {"amount": {"range": ends}}}
    world, rounds, shares = World(document, np.full((1, 1), ONE, np.int16), earn), np.zeros(n, np.int64), []
    for seed in range(seeds):
        regret = means.max() - means[play(world, rounds, seed, 0.0)].mean()
        shares.append(float(100 * regret / (means.max() - means.mean())))
        progress(name, 0.0, shares)
    return name, shares, "% of uniform's", None, 0.0


def progress(name: str, explore: float, values: list[float]) -> None:
    """How far it is."""
    print(
        f"\r{name}, explore {explore:g}: seed {len(values)}, {values[-1]:.4f}   ", end="", file=sys.stderr, flush=True
    )


def figures(rows: Iterator[Row]) -> Iterator[dict[str, Any]]:
    """The mean of the seeds, with the best and the worst among the settings."""
    for name, values, unit, target, explore in rows:
        spread = {"least": round(min(values), 4), "most": round(max(values), 4)}
        settings = {"explore": explore, "seeds": len(values), "refresh": REFRESH, **spread}
        value = round(float(np.mean(values)), 4)
        yield {
            "name": f"{name}_explore_{explore:g}",
            "value": value,
            "unit": unit,
            "target": target,
            "settings": settings,
        }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--mushroom", type=Path, default=os.environ.get("MUSHROOM_DATA"), help="agaricus-lepiota.data")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    asked = parser.parse_args()
    if "OPENBLAS_NUM_THREADS" not in os.environ:  # more threads only get in each other's way on matrices so small
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OPENBLAS_NUM_THREADS": "1"})  # noqa: S606
    sources = [amount_figures(asked.seeds), msweb_figures(asked.seeds)]
    if asked.mushroom:
        sources.append(mushroom_figures(Path(asked.mushroom), asked.seeds))
    else:
        print("mushroom is left out: no --mushroom FILE", file=sys.stderr)
    for source in sources:
        for each in figures(source):
            print("\r", end="", file=sys.stderr)
            print(json.dumps(each) if asked.json else line(each), flush=True)


def line(each: dict[str, Any]) -> str:
    """A figure for reading."""
    aim = "" if each["target"] is None else f", aim {each['target']:g}"
    s = each["settings"]
    spread = f"{s['seeds']} seeds, {s['least']:g} to {s['most']:g}{aim}"
    return f"{each['name']:<36}{each['value']:>8g} {each['unit']} ({spread})"


if __name__ == "__main__":
    main()
