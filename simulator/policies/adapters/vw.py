"""Vowpal Wabbit's exploration (`--cb_explore_adf`): one linear model of context x arm, learned online.

    epsilon=E   epsilon-greedy                       first=N     explore N times, then greedy
    bag=N       bootstrap of N models                cover=N     online cover
    squarecb    inverse gap                          softmax     with lambda=L
    regcb       confidence intervals by regression   regcbopt    the same, optimistic
    synthcover  synthetic cover                      rnd=N       random networks

Costs are minus the reward scaled to [0, 1]: with 1 - reward, msweb earned less in seven of nine of them. squarecb and
regcb are told that costs lie between -1 and 0 (without it regcb plays near-uniform and says nothing).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bandit.arrays import Mask, Matrix, Vector
from bandit.core.sums import ONE
from simulator.environments.episode import Grid
from simulator.policies.adapters.library import library
from simulator.policies.protocol import Outcomes, Task

RULES = ("epsilon", "first", "bag", "cover", "squarecb", "regcb", "regcbopt", "softmax", "synthcover", "rnd")
COUNTED = {"first", "bag", "cover", "rnd"}
BASE = "--cb_explore_adf --quiet -q xa --ignore_linear x --noconstant"
BOUNDED = {"squarecb", "regcb", "regcbopt"}


class VowpalWabbit:
    """A workspace that is asked for probabilities and told of outcomes."""

    def __init__(self, options: Mapping[str, Any], task: Task) -> None:
        """Make it.

        Args:
            options: one of the rules above with its number, and any other option of VW (l=0.1 is -l 0.1); none:
                epsilon=0.05.
            task: the problem.

        Raises:
            MissingLibraryError: vowpalwabbit is not installed.
        """
        vw = library("vowpalwabbit", "pip install 'bandit-server[simulator]'")
        self.task = task
        self.workspace = vw.Workspace(arguments(options, task.seed))
        self.actions = [f"|a a{a}" for a in range(task.K)]

    def probabilities(self, x: Grid, eligible: Mask) -> Matrix:
        """See `Learner`."""
        P = np.zeros((len(x), self.task.K))
        masks = np.broadcast_to(eligible, P.shape)
        for p, mask, shared in zip(P, masks, map(_shared, x), strict=True):
            allowed = np.flatnonzero(mask)
            p[allowed] = self.workspace.predict([shared, *(self.actions[a] for a in allowed)])
        P = np.maximum(P, 0)
        result: Matrix = P / P.sum(axis=1, keepdims=True)  # regcbopt answers 1 for each of several that tie
        return result

    def shown(self, outcomes: Outcomes) -> None:
        """Nothing is learned before the reward is known."""

    def learn(self, outcomes: Outcomes, *, told: bool) -> None:
        """See `Learner`."""
        masks = np.broadcast_to(outcomes.eligible, (len(outcomes.arm), self.task.K))
        cost = -self.task.unit(outcomes.reward)
        rows = zip(outcomes.x, outcomes.arm.tolist(), cost.tolist(), outcomes.propensity.tolist(), masks, strict=True)
        for x, arm, each, propensity, mask in rows:
            lines = {a: self.actions[a] for a in np.flatnonzero(mask).tolist()}
            lines[arm] = f"0:{each:.9g}:{propensity:.9g} {self.actions[arm]}"
            self.workspace.learn([_shared(x), *lines.values()])

    def refresh(self) -> None:
        """Nothing waits: VW learns at once."""


def arguments(options: Mapping[str, Any], seed: int) -> str:
    """The command line of these options; raises ValueError where a rule lacks its number."""
    for name in options.keys() & COUNTED:
        if type(options[name]) is not int:
            raise ValueError(f"vw: {name} takes a whole number; got {options[name]!r}")
    named = {**options} if any(rule in options for rule in RULES) else {"epsilon": 0.05, **options}
    flags = [_flag(name, value) for name, value in named.items() if value is not False]
    bounds = ["--cb_min_cost -1 --cb_max_cost 0"] if BOUNDED & set(named) else []
    return " ".join([BASE, f"--random_seed {seed % 2**31}", *bounds, *flags])


def _flag(name: str, value: Any) -> str:
    dashed = f"--{name}" if len(name) > 1 else f"-{name}"
    return dashed if value is True else f"{dashed} {value}"


def _shared(x: Vector) -> str:
    """A context as VW's text; column 0 is the intercept."""
    columns = np.flatnonzero(x)
    return "shared |x " + " ".join(
        f"{j}:{v:g}" for j, v in zip(columns.tolist(), (x[columns] / ONE).tolist(), strict=True)
    )
