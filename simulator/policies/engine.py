"""The server's own engine as a learner: the same features, sums, scores, probabilities and draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from bandit.arrays import Int, Mask, Matrix, Vector
from bandit.core.engine import Model
from bandit.core.experiment import compile_config
from bandit.core.features import Feature, compile_encoder
from bandit.core.revision import first
from bandit.core.sums import Events
from bandit.core.validation import parse_document
from simulator.environments.episode import Grid
from simulator.policies.protocol import Outcomes, Task

GIVEN = ("features", "arms", "rewards")  # what the environment says, whatever a policy's document says


class Engine:
    """A model of the server, told of outcomes as the server's log would tell it."""

    def __init__(self, settings: Mapping[str, Any], task: Task) -> None:
        """Make it.

        Args:
            settings: an experiment's document or parts of it. Its arms and rewards are the environment's; its features
                too where it names none, else they must be among the environment's.
            task: the problem.

        Raises:
            bandit.errors.Problem: the document is not valid.
            ValueError: it has features that the environment has not.
        """
        self.columns = _columns(settings.get("features"), task)
        own = {name: part for name, part in settings.items() if name not in GIVEN}
        features = settings.get("features") or task.document.get("features", [])
        whole = {**task.document, **own, "features": features}
        self.experiment = compile_config(first("simulated", parse_document(msgspec.json.encode(whole))))
        self.model = Model(self.experiment)
        self.kind = self.experiment.kinds[0]

    def probabilities(self, x: Grid, eligible: Mask) -> Matrix:
        """See `Learner`; what `Model.decide` draws from, without what only a server's answer needs."""
        return self.model.probabilities(self._own(x), eligible)

    def lists(self, x: Grid, eligible: Mask, k: int, u: Vector) -> tuple[Int, Matrix]:
        """See `Lister`."""
        choices = self.model.decide(self.experiment, self._own(x), eligible, [k] * len(u), u).choices
        arms = np.array([choice.arms for choice in choices], np.int64).reshape(len(u), k)
        return arms, np.array([choice.propensities for choice in choices]).reshape(len(u), k)

    def shown(self, outcomes: Outcomes) -> None:
        """Impressions with the kind's default, as a decision is logged."""
        start = np.full(len(outcomes.arm), self.experiment.defaults[0], np.int64)
        self._learn(outcomes, start, told=False)

    def learn(self, outcomes: Outcomes, *, told: bool) -> None:
        """Feedback on impressions, or both in one."""
        self._learn(outcomes, self._credits(outcomes.reward), told=told)

    def refresh(self) -> None:
        """Bring every arm's scoring data up to date."""
        while self.model.refresh():
            pass

    def _own(self, x: Grid) -> Grid:
        return x if self.columns is None else x[:, self.columns]

    def _learn(self, outcomes: Outcomes, new: Int, *, told: bool) -> None:
        old = np.full(len(new), self.experiment.defaults[0] if told else 0, np.int64)
        shown = np.full(len(new), not told, np.int64)
        events = Events(outcomes.arm, self._own(outcomes.x), shown, old[:, None], new[:, None])
        changed = (old != new) | (not told)  # feedback that changes nothing is no event
        if changed.any():
            self.model.learn(events if changed.all() else events[changed])

    def _credits(self, reward: Vector) -> Int:
        """Rewards as whole numbers of the kind's unit; what is out of range is cut, as `over_range: clip` does."""
        credits_: Int = np.rint(np.clip(reward, *self.kind.range) / self.kind.step).astype(np.int64)
        return credits_


def _columns(features: Any, task: Task) -> Int | None:
    """Which of the environment's columns a policy's own features are; None: all of them."""
    theirs = msgspec.convert(task.document.get("features", ()), tuple[Feature, ...])
    own = msgspec.convert(features or theirs, tuple[Feature, ...])
    if own == theirs:
        return None
    if unknown := [feature.name for feature in own if feature not in theirs]:
        raise ValueError(f"the policy has features that the environment has not (by name or scaling): {unknown}")
    starts = np.cumsum([1, *(_width(feature) for feature in theirs)]).tolist()
    place = {feature.name: range(at, at + _width(feature)) for feature, at in zip(theirs, starts, strict=False)}
    return np.array([0, *(column for feature in own for column in place[feature.name])], np.int64)


def _width(feature: Feature) -> int:
    return compile_encoder([feature]).d - 1
