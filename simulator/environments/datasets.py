"""Data sets in which the reward of every arm is known, so that a policy's choices can be judged exactly.

X     (n, d)    contexts as numbers; column 0 is the intercept, always 1
r     (n, K)    rewards: r[i, a] is what arm a would have earned in round i
"""

import gzip
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

ARMS = 20  # msweb: the most visited areas are what can be recommended
FEATURES = 60  # msweb: the areas after those are what is known of a visitor
VISITS_CAP = 5  # msweb: more visits than this say no more of a visitor


@dataclass(frozen=True, eq=False)
class FullInformation:
    """Rounds with their contexts and the reward of every arm.

    Attributes:
        name: the experiment's name on a server.
        arms: ids of the K arms, in the order of the reward's columns.
        features: the experiment document's feature list, in the order of the columns.
        columns: encoded contexts without the intercept, shape (n, d - 1).
        reward: r, shape (n, K), in reward units.
        event: the reward kind's name.
    """

    name: str
    arms: tuple[str, ...]
    features: tuple[Mapping[str, Any], ...]
    columns: Matrix
    reward: Matrix
    event: str = "click"

    def __len__(self) -> int:
        return len(self.reward)

    def document(self) -> dict[str, Any]:
        """The experiment as the server takes it: features, arms and one reward kind, all else at its default."""
        return {"features": [dict(f) for f in self.features], "arms": list(self.arms), "rewards": {self.event: {}}}

    def contexts(self, i: int) -> dict[str, bool | float]:
        """The context of round i as a caller would send it: feature name to boolean or number."""
        row = self.columns[i].tolist()
        return {f["name"]: v != 0 if f["type"] == "boolean" else v for f, v in zip(self.features, row, strict=True)}

    def matrix(self) -> Matrix:
        """X, shape (n, d): the encoded contexts with the intercept in column 0."""
        return np.column_stack([np.ones(len(self)), self.columns])

    def order(self, seed: int) -> NDArray[np.int64]:
        """A permutation of the rounds, shape (n,): always the same one for the same seed."""
        return np.random.default_rng(seed).permutation(len(self))

    def uniform(self) -> Vector:
        """Expected reward of choosing evenly among the arms, round by round, shape (n,)."""
        mean: Vector = self.reward.mean(axis=1)
        return mean

    def best_fixed(self) -> int:
        """The arm with the highest mean reward over all rounds (the first of several), known in hindsight only."""
        return int(self.reward.mean(axis=0).argmax())


def msweb() -> FullInformation:
    """Anonymous Microsoft Web Data as a recommendation problem: which popular area would this visitor also see?

    Arms are the 20 most visited areas and features the visits to the next 60 (booleans) with their number, capped at
    5 and divided by 5. Areas visited equally often are ranked by their id, the lower one first. A reward is 1 if the
    visitor also saw the area, else 0. Areas go by their path on the site, such as "/products".

    Breese, Heckerman, Kadie (1998), CC BY 4.0; the file is described in data/msweb/ATTRIBUTION.md.
    """
    names, visitors = parse_dst(_lines("msweb/anonymous-msweb.data.gz"))
    ranked = _by_visits(visitors)[: ARMS + FEATURES]
    seen = _incidence(visitors, ranked)
    others = seen[:, ARMS:]
    visits = np.minimum(others.sum(axis=1), VISITS_CAP) / VISITS_CAP
    booleans = [{"name": names[area], "type": "boolean"} for area in ranked[ARMS:]]
    return FullInformation(
        name="msweb",
        arms=tuple(names[area] for area in ranked[:ARMS]),
        features=(*booleans, {"name": "visits", "type": "number", "mean": 0, "scale": 1}),
        columns=np.column_stack([others, visits]),
        reward=seen[:, :ARMS],
    )


def _lines(path: str) -> Iterator[str]:
    """Lines of a gzipped file shipped inside this package."""
    with (files("simulator") / "data" / path).open("rb") as packed, gzip.open(packed, "rt", encoding="ascii") as text:
        for line in text:
            yield line.rstrip("\n")


def parse_dst(lines: Iterable[str]) -> tuple[dict[int, str], list[list[int]]]:
    """Names of the areas, and each visitor's areas, of a file in the UCI archive's sparse "DST" format.

    `A,id,1,"title","/path"` names an area, `C,"id",id` begins a visitor, `V,area,1` is one visit of that visitor.
    """
    paths: dict[int, str] = {}
    visitors: list[list[int]] = []
    for line in lines:
        match line.split(","):
            case ["A", area, _, *_, path]:  # a title may hold commas, a path holds none
                paths[int(area)] = path.strip('"')
            case ["C", *_]:
                visitors.append([])
            case ["V", area, _]:
                visitors[-1].append(int(area))
    return _unique_names(paths), visitors


def _unique_names(paths: Mapping[int, str]) -> dict[int, str]:
    """Each area's path; where two areas share one, the path with the area's id."""
    times = Counter(paths.values())
    return {area: path if times[path] == 1 else f"{path}#{area}" for area, path in paths.items()}


def _by_visits(visitors: Iterable[Iterable[int]]) -> list[int]:
    """Areas from the most to the least visited; equal ones by id, the lower one first."""
    times = Counter(area for areas in visitors for area in areas)
    return sorted(times, key=lambda area: (-times[area], area))


def _incidence(visitors: list[list[int]], areas: list[int]) -> Matrix:
    """1 where a visitor (row) saw an area (column), else 0."""
    column = {area: j for j, area in enumerate(areas)}
    seen = np.zeros((len(visitors), len(areas)))
    for row, visited in zip(seen, visitors, strict=True):
        row[[column[area] for area in visited if area in column]] = 1.0
    return seen
