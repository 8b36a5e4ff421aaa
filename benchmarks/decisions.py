"""How well we decide beside other libraries: regret, over seeds, in environments whose truth is known.

    regret      100 (best - earned) / (best - uniform), of expected rewards: 0 is best, 100 as bad as choosing evenly
    default     a peer as its documentation has it
    best of n   of n settings of that peer the one with the least mean regret on this very set, chosen in hindsight:
                nobody who begins knows which it is, so this favours the peer

Ours is given one way for all sets: its defaults, but for `explore`. Every policy meets the same rounds, is drawn with
the same numbers, and is told of rewards in the same batches. A peer gets the same features with the intercept, and
rewards in [0, 1] from the range that fits them, even where we are told a range that is too wide. Peers that this
interpreter does not have are left out: pip install vowpalwabbit mabwiser contextualbandits river bayesianbandits

Sets are those of `decision_sets.py`, and tables, which are not shipped: shuttle, satellite, letter recognition, vehicle
and vowel are in R's package mlbench and, as is mushroom, in the UCI archive; digits comes with scikit-learn; chess,
kr-vs-k, magic, nursery, optdigits, page-blocks, penbased, phoneme, ring, segment, texture and twonorm are KEEL's.

Run: python benchmarks/decisions.py [--json] [--sets NAME ...] [--policies NAME ...] [--seeds 10] [--peer-seeds 5]
         [--refresh 10] [--explore .02 0] [--rounds N] [--table NAME=FILE ...] [--keep FILE.jsonl] [--plot FILE.svg]
         [--table mushroom=agaricus-lepiota.data:label=f0,bad=p,header=false]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from decision_peers import FAMILIES, MODULES, learner
from decision_sets import Set, built_in, table

from bandit.arrays import Int, Vector
from simulator.environments.episode import stream
from simulator.policies.specs import parse
from simulator.progress import Show, bar
from simulator.studies.across_seeds import half_width
from simulator.studies.parallel import processes
from simulator.studies.play import ends, play
from simulator.studies.run import DRAWS

WINDOWS = 20  # of a learning curve
OURS, BEFORE = "linucb", "linucb:alpha=1,lambda=1"
PANEL = (
    "squarecb",
    "regcbopt",
    "bag",
    "epsilon",
    "contextualbandits",
)  # peers whose curves are drawn, as their defaults


class Job(NamedTuple):
    """A policy on a set under a seed, with how it is played: what a result is kept under."""

    set: str
    policy: str
    seed: int
    rounds: int
    refresh: int


class Found(NamedTuple):
    """Its regret, as a percentage of uniform's, and what of that had come by the end of each window."""

    regret: float
    curve: list[float]


class Minus(NamedTuple):
    """A paired difference: its mean, half of the 95 % interval (infinite for one seed), and how many seeds."""

    mean: float
    half: float
    seeds: int


Results = dict[Job, Found]


@dataclass(frozen=True)
class Table:
    """Regrets by (set, policy) and seed."""

    values: dict[tuple[str, str], dict[int, float]]

    @classmethod
    def of(cls, results: Results) -> Table:
        """Of results."""
        values: dict[tuple[str, str], dict[int, float]] = {}
        for job, found in results.items():
            values.setdefault((job.set, job.policy), {})[job.seed] = found.regret
        return cls(values)

    def settings(self, name: str, family: str) -> list[str]:
        """The settings of a family that were played; the default comes first."""
        return [policy for policy in FAMILIES[family] if (name, policy) in self.values]

    def best(self, name: str, family: str) -> str:
        """The setting of a family with the least mean regret, over the seeds that all its settings have."""
        found = {policy: self.values[name, policy] for policy in self.settings(name, family)}
        if not found:
            return FAMILIES[family][0]
        shared = set.intersection(*map(set, found.values()))
        return min(found, key=lambda policy: sum(found[policy][seed] for seed in shared))

    def minus(self, name: str, ours: str, peer: str) -> Minus | None:
        """Ours minus the peer, over the seeds that both have; None where there are none."""
        one, other = (self.values.get((name, policy), {}) for policy in (ours, peer))
        shared = sorted(one.keys() & other.keys())
        if not shared:
            return None
        d = np.array([one[seed] - other[seed] for seed in shared])
        return Minus(float(d.mean()), float(half_width(d[:, None])[0]), len(d))


def one(sets: dict[str, Set], job: Job, show: Show) -> Found:
    """Play it."""
    spec = parse(job.policy) if job.policy.startswith("linucb") else None
    environment = sets[job.set].ours if spec else sets[job.set].peers
    episode = environment.episode(job.seed, job.rounds)
    learns = learner(job.policy, environment, episode, job.seed)
    u = stream(job.seed, DRAWS).random(len(episode))
    arms = play(learns, episode, ends(episode, job.refresh), u, show).arms
    return regret(episode.best() - episode.expected(arms), episode.best() - episode.uniform())


def regret(lost: Vector, uniform: Vector) -> Found:
    """Of what was lost in each round, by the policy and by an even choice."""
    stops: Int = np.linspace(0, len(lost), WINDOWS + 1).astype(np.int64)[1:]
    curve = 100 * np.cumsum(lost)[stops - 1] / uniform.sum()
    return Found(float(curve[-1]), [round(each, 3) for each in curve.tolist()])


def ours_of(explores: Sequence[float]) -> list[str]:
    """Ours, at each explore, and as it was, at the first."""
    now = [f"{OURS}:explore={explore:g}" for explore in explores]
    return [*now, f"{BEFORE},explore={explores[0]:g}"]


def jobs(asked: argparse.Namespace, sets: dict[str, Set], families: list[str]) -> list[Job]:
    """All, seed by seed, so that what is there when it ends early is of use."""
    peers = [policy for family in families for policy in FAMILIES[family][: 1 if asked.defaults else None]]
    mine = ours_of(asked.explore) if "ours" in asked.policies else []
    return [
        Job(name, policy, seed, sets[name].rounds, asked.refresh)
        for seed in range(max(asked.seeds, asked.peer_seeds))
        for name in sets
        for policy in [*(mine if seed < asked.seeds else []), *(peers if seed < asked.peer_seeds else [])]
    ]


def kept(path: Path | None) -> Results:
    """What a file has of earlier runs."""
    if path is None or not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("]}")]
    return {Job(**each["job"]): Found(each["regret"], each["curve"]) for each in lines}


def played(asked: argparse.Namespace, sets: dict[str, Set], wanted: list[Job]) -> Results:
    """The results of these jobs: those kept, and those played now, kept as they come."""
    old = kept(asked.keep)
    results = {job: old[job] for job in wanted if job in old}
    todo = [job for job in wanted if job not in old]
    with bar("runs", len(todo), wanted=True) as show:
        for i, found in processes(asked.workers)(one, sets, todo, show):
            results[todo[i]] = found
            if asked.keep is not None:
                with asked.keep.open("a") as file:  # after a line that a run which was killed has left unfinished
                    file.write("\n" + json.dumps({"job": todo[i]._asdict(), **found._asdict()}))
    return results


def figures(
    table: Table, asked: argparse.Namespace, sets: dict[str, Set], families: list[str]
) -> Iterator[dict[str, Any]]:
    """Mean and worst of every policy, and ours minus each peer's default and best."""
    mine = ours_of(asked.explore)[0]
    for (name, policy), of in table.values.items():
        settings = {"rounds": sets[name].rounds, "refresh": asked.refresh, "seeds": len(of)}
        yield figure(f"{name} {policy} regret", float(np.mean(list(of.values()))), settings)
        yield figure(f"{name} {policy} worst", max(of.values()), settings)
    for name, family, policy, kind in pairs(table, sets, families):
        if (found := table.minus(name, mine, policy)) is not None:
            settings = {"rounds": sets[name].rounds, "refresh": asked.refresh, "seeds": found.seeds, "peer": policy}
            interval = {"low": round(found.mean - found.half, 2), "high": round(found.mean + found.half, 2)}
            yield figure(
                f"{name} ours minus {family} {kind}", found.mean, settings | (interval if found.seeds > 1 else {})
            )


def figure(name: str, value: float, settings: dict[str, Any]) -> dict[str, Any]:
    """One figure."""
    return {"name": name, "value": round(value, 2), "unit": "% of uniform's", "target": None, "settings": settings}


def pairs(table: Table, sets: dict[str, Set], families: list[str]) -> Iterator[tuple[str, str, str, str]]:
    """(set, family, its setting, whether that is the default or the best in hindsight)."""
    for name in sets:
        for family in families:
            yield name, family, FAMILIES[family][0], "default"
            if len(table.settings(name, family)) > 1:
                yield name, family, table.best(name, family), "best"


def text(table: Table, asked: argparse.Namespace, sets: dict[str, Set], families: list[str]) -> str:
    """In Markdown: mean regrets with the worst seed, ours minus each peer with half of the interval, and a summary."""
    mine = ours_of(asked.explore) if "ours" in asked.policies else []
    lines = header(["set", *mine, *(f"{family}, default / best" for family in families)])
    for name in sets:
        peers = [of_family(table, name, family, regret_cell) for family in families]
        lines.append(row([name, *(regret_cell(table, name, policy) for policy in mine), *peers]))
    if mine and families:
        minus = partial(minus_cell, mine[0])
        lines += ["", *header([f"{mine[0]} minus", *(f"{family}, default / best" for family in families)])]
        lines += [row([name, *(of_family(table, name, family, minus) for family in families)]) for name in sets]
        lines += ["", *summary(table, mine, sets, families)]
    return "\n".join(lines)


def summary(table: Table, mine: list[str], sets: dict[str, Set], families: list[str]) -> list[str]:
    """Against each policy: on how many sets ours lost less and more, in all and clearly, the mean, and the worst."""
    of: dict[str, dict[str, Minus]] = {}
    for name in sets:
        peers = [(policy, policy) for family in families for policy in table.settings(name, family)]
        peers += [(f"{f}, best on each set", table.best(name, f)) for f in families if len(table.settings(name, f)) > 1]
        for peer, policy in [*((other, other) for other in mine[1:]), *peers]:
            if (minus := table.minus(name, mine[0], policy)) is not None:
                of.setdefault(peer, {})[name] = minus
    heads = [f"{mine[0]} minus", "sets", "better / clearly", "worse / clearly", "mean", "at worst"]
    return [*header(heads), *(row([peer, *summed(each)]) for peer, each in of.items())]


def summed(of: dict[str, Minus]) -> list[str]:
    """A row of the summary: clear is what is further from 0 than half of its interval."""
    better, worse = ([sign * d.mean < 0 for d in of.values()] for sign in (1, -1))
    clear = [abs(d.mean) > d.half for d in of.values()]
    counts = [f"{sum(which)} / {sum(np.logical_and(which, clear))}" for which in (better, worse)]
    last = max(of, key=lambda name: of[name].mean)
    mean = np.mean([d.mean for d in of.values()])
    return [str(len(of)), *counts, f"{mean:+.1f}", f"{of[last].mean:+.1f} ({last})"]


def header(cells: Sequence[str]) -> list[str]:
    """The first two lines of a table."""
    return [row(cells), row(["---", *["---:"] * (len(cells) - 1)])]


def row(cells: Sequence[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def of_family(table: Table, name: str, family: str, cell: Callable[[Table, str, str], str]) -> str:
    """What a cell says of the default, and of the best setting where several were played."""
    best = [table.best(name, family)] if len(table.settings(name, family)) > 1 else []
    return " / ".join(cell(table, name, policy) for policy in [FAMILIES[family][0], *best])


def regret_cell(table: Table, name: str, policy: str) -> str:
    """Mean and worst seed."""
    of = table.values.get((name, policy))
    return f"{np.mean(list(of.values())):.1f} ({max(of.values()):.1f})" if of else "-"


def minus_cell(mine: str, table: Table, name: str, policy: str) -> str:
    """Ours minus a peer, with half of the interval."""
    found = table.minus(name, mine, policy)
    if found is None:
        return "-"
    return f"{found.mean:+.1f}" + (f" ± {found.half:.1f}" if found.seeds > 1 else "")


def draw(results: Results, sets: dict[str, Set], policies: dict[str, str], path: Path) -> None:
    """Learning curves, a panel for each set."""
    from matplotlib.figure import Figure

    from simulator.reporting.figures import SERIES, SOFT, drawing, finished

    columns = min(4, len(sets))
    lines = -(-len(sets) // columns)
    with drawing():
        figure = Figure(figsize=(2.4 * columns, 0.6 + 1.8 * lines))
        panels = figure.subplots(lines, columns, squeeze=False).ravel().tolist()
        for axes, name in zip(panels, sets, strict=False):
            x = np.linspace(0, sets[name].rounds, WINDOWS + 1)
            axes.plot(x[[0, -1]], [0, 100], color=SOFT, lw=0.8, ls=":", label="an even choice")
            curves = curves_of(results, name, policies)
            for colour, label in zip(SERIES, policies, strict=False):
                y = curves.get(label, np.full(WINDOWS, np.nan))
                axes.plot(x, [0, *y], color=colour, lw=1.3, label=label, zorder=3 if label == "ours" else 2)
            axes.set(title=name, ylim=(0, 105))
            axes.locator_params(nbins=3)
        for axes in panels[len(sets) :]:
            axes.set_visible(False)
        figure.supxlabel("rounds", fontsize=9)
        figure.supylabel("regret so far, % of what an even choice has in the end", fontsize=9)
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=7, fontsize=8, frameon=False
        )
        path.write_text(finished(figure, path.stem, "", png=False).svg)


def curves_of(results: Results, name: str, policies: dict[str, str]) -> dict[str, Vector]:
    """Label to mean curve, over the seeds that all of them have."""
    found: dict[str, dict[int, list[float]]] = {}
    for label, policy in policies.items():
        if of := {job.seed: each.curve for job, each in results.items() if (job.set, job.policy) == (name, policy)}:
            found[label] = of
    shared = set.intersection(*map(set, found.values())) if found else set[int]()
    return {label: np.mean([of[seed] for seed in shared], axis=0) for label, of in found.items() if shared}


def options() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    parser.add_argument("--sets", nargs="+", help="by default all that are built in, and all tables")
    parser.add_argument("--policies", nargs="+", default=["ours", *FAMILIES], choices=["ours", *FAMILIES])
    parser.add_argument("--seeds", type=int, default=10, help="of ours")
    parser.add_argument("--peer-seeds", type=int, default=5)
    parser.add_argument("--refresh", type=int, default=10, help="rounds between two refreshes")
    parser.add_argument("--explore", type=float, nargs="+", default=[0.02, 0.0], help="of ours; the first is compared")
    parser.add_argument("--rounds", type=int, help="in place of each set's own")
    parser.add_argument("--defaults", action="store_true", help="of each peer the default alone")
    parser.add_argument("--table", action="append", default=[], metavar="NAME=FILE[:OPTION=VALUE,...]")
    parser.add_argument("--keep", type=Path, metavar="FILE.jsonl", help="results, so that a broken run goes on")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    parser.add_argument("--workers", type=int, help="processes; by default one a core")
    return parser.parse_args()


def chosen(asked: argparse.Namespace) -> dict[str, Set]:
    """The sets that were asked for."""
    sets = built_in() | dict(table(each) for each in asked.table)
    names = asked.sets or list(sets)
    if unknown := [name for name in names if name not in sets]:
        sys.exit(f"there is no set {', '.join(unknown)}; there are {', '.join(sets)}")
    return {name: sets[name]._replace(rounds=asked.rounds or sets[name].rounds) for name in names}


def main() -> None:
    """Run and print."""
    asked = options()
    if "OPENBLAS_NUM_THREADS" not in os.environ:  # more threads only get in each other's way on matrices so small
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OPENBLAS_NUM_THREADS": "1"})  # noqa: S606
    wanted = [family for family in asked.policies if family != "ours"]
    families = [family for family in wanted if importlib.util.find_spec(MODULES[family])]
    if missing := sorted(set(wanted) - set(families)):
        print(f"left out, as they are not installed: {', '.join(missing)}", file=sys.stderr)
    sets = chosen(asked)
    results = played(asked, sets, jobs(asked, sets, families))
    table = Table.of(results)
    if asked.json:
        for each in figures(table, asked, sets, families):
            print(json.dumps(each), flush=True)
    else:
        print(text(table, asked, sets, families))
    if asked.plot is not None:
        curves = {"ours": ours_of(asked.explore)[0]} | {f: FAMILIES[f][0] for f in PANEL if f in families}
        draw(results, sets, curves, asked.plot)


if __name__ == "__main__":
    main()
