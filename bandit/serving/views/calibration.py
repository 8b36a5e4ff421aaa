"""Calibration: what was predicted beside what came, on decisions that the model had not learned from.

    of the newest decisions whose rewards have come, the second half is predicted, and what came before it was learned

A record does not hold the prediction of its time, and the model of now has learned from the very decisions. So the
model is made as it stood at their middle: the sums of now less what the log added since, which is exact; the prior that
arms share and the noise are then of that time too. It stops learning there: the policy, which went on, predicted its
later decisions a little better than this says.

It runs as a process of its own, as an evaluation does: refreshing a whole model would keep decisions waiting.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import msgspec
import numpy as np

from bandit.arrays import Vector
from bandit.core.experiment import Experiment
from bandit.core.sums import ONE, Sums
from bandit.core.times import time_of
from bandit.replica.recent import Recent, Window, model_then, recent
from bandit.replica.replica import Replica
from bandit.serving.child import Asker, answer_about
from bandit.serving.views.model_answers import CalibrationAnswer, CalibrationBin
from bandit.serving.views.models import SURE
from bandit.store.protocol import Store

COMMAND = sys.executable, "-P", "-m", "bandit.serving.views.calibration"  # -P: a redis.py there is not ours
SECONDS = 60.0
CELLS = 2**22  # decisions x arms that are read
LEAST = 30  # decisions in a bin
BY = "the model as it was before the first of these decisions: it has learned from none of them"


class Asked(NamedTuple):
    """What is asked of a calibration."""

    experiment: str
    bins: int
    rows: int


class Calibrator(Asker[CalibrationAnswer]):
    """Runs calibrations for one server."""

    def __init__(self, redis_url: str) -> None:
        super().__init__("calibration", CalibrationAnswer, "fewer rows", redis_url)

    async def calibrate(self, asked: Asked) -> CalibrationAnswer:
        """The answer of `GET /v1/experiments/{e}/calibration`.

        Raises:
            Problem: `overloaded` while another one runs, or where it takes too long; `store_unavailable`.
        """
        return await self.ask(COMMAND, asked, SECONDS)


def calibration(store: Store, asked: Asked) -> CalibrationAnswer:
    """The calibration of a store's experiment."""
    now, replica = store.now_ms(), Replica.whole(asked.experiment, store)
    model = replica.served
    experiment, end = model.experiment, min(now, replica.position.ms)
    rows = min(asked.rows, max(2, CELLS // max(1, experiment.shape[0])))
    window = Window(0, end + 1, rows)
    found = recent(store, experiment, replica.position, window)
    if (age := found.delays.matured_ms()) is not None:
        found = recent(store, experiment, replica.position, window._replace(until_ms=end + 1 - age))
    half, n = len(found) // 2, len(found)
    answer = CalibrationAnswer(
        experiment=asked.experiment,
        position=replica.position.text().decode(),
        predicted_by=BY,
        learned_until=time_of(int(found.ms[half])) if n else None,
        first=time_of(int(found.ms[half])) if n else None,
        last=time_of(int(found.ms[-1])) if n else None,
        matured=None if age is None else age / 1000,
        decisions=n - half,
        bins=[],
        note="" if age is not None else "nothing tells how long rewards take: those on their way count as none",
    )
    if n - half < LEAST:
        note = f"too few decisions whose rewards have come: {n - half} of {LEAST}"
        return msgspec.structs.replace(answer, note=note)
    predicted, observed = predictions(experiment, model.sums, found), rewards(experiment, found)[half:]
    return msgspec.structs.replace(answer, bins=binned(predicted, observed, asked.bins))


def predictions(experiment: Experiment, sums: Sums, found: Recent) -> Vector:
    """x'theta of what was shown in each decision of the second half, by the model at their middle."""
    half = len(found) // 2
    arms = found.arm[half:]
    model = model_then(experiment, sums, found, also=np.isin(np.arange(experiment.shape[0]), arms))
    theta = model.scorer.derived.theta[model.scorer.slot[arms]]
    result: Vector = np.einsum("nd,nd->n", theta, found.x[half:] / ONE)
    return result


def rewards(experiment: Experiment, found: Recent) -> Vector:
    """What the first arm of each decision has earned, by the weights in force."""
    result: Vector = (found.credits * np.array([kind.step for kind in experiment.kinds])) @ experiment.ridge.weights
    return result


def binned(predicted: Vector, observed: Vector, bins: int) -> list[CalibrationBin]:
    """As many decisions in each bin, in the order of their predictions; `LEAST` at least."""
    order = np.argsort(predicted, kind="stable")
    found = []
    for own in np.array_split(order, max(1, min(bins, len(order) // LEAST))):
        p, r = predicted[own], observed[own]
        mean, error = float(r.mean()), SURE * float(r.std(ddof=1)) / len(own) ** 0.5
        ends = float(p[0]), float(p[-1])
        found.append(CalibrationBin(*ends, len(own), float(p.mean()), mean, mean - error, mean + error))
    return found


if __name__ == "__main__":
    answer_about(calibration, Asked)
