"""What a context would be answered, by the experiment in force or with some of its settings changed.

Nothing is drawn, logged or learned. The estimates are those that a decision would use, by the same code; a change is
checked like a change of the document, and must leave arms, kinds and columns as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from bandit.arrays import Matrix
from bandit.core.engine import Model, Outdated, Previewed
from bandit.core.experiment import Config, Experiment, compile_config
from bandit.core.slices import WHOLE
from bandit.errors import Code, Fault, Problem, pointer
from bandit.log.records import START
from bandit.replica.replica import Replica
from bandit.serving.changes import Sent, config_after, patched
from bandit.serving.reading import decode
from bandit.serving.requests import RecommendationRequest, read_recommendation
from bandit.serving.views.model_answers import PreviewAnswer, PreviewArm, PreviewBody, PreviewPart, PreviewSlice, plain
from bandit.store.protocol import NO_ARM, Stored

CHANGES = ("policy", "slices", "rewards", "noise", "warm_up")
TRIES = 3  # the experiment may be changed meanwhile

_BODY = msgspec.json.Decoder(PreviewBody)


def preview(replica: Replica, data: bytes, secret: bytes) -> PreviewAnswer:
    """What this body's context would be answered.

    Raises:
        Problem: as of a recommendation; `invalid_experiment` for a change that is not possible.
    """
    body = decode(_BODY, data, Code.INVALID_REQUEST)
    for _ in range(TRIES):
        model = replica.served
        experiment, position = model.experiment, replica.scored
        request = read_recommendation(experiment, msgspec.json.encode(plain(body)), secret)
        changed = _changed(experiment, body)
        try:
            seen = _seen(model, experiment, changed, request)
        except Outdated:
            continue
        return PreviewAnswer(
            experiment=replica.name,
            position=position.text().decode(),
            version=experiment.config.version,
            warming_up=seen.warming_up,
            eligible=int(request.eligible.sum()),
            slices=list(_slices(changed)),
            arms=list(_arms(changed, seen, request, body.limit)),
            ignored=list(request.ignored),
        )
    raise Problem(Code.OVERLOADED, "the experiment is being changed by others; try again in a second")


def _changed(experiment: Experiment, body: PreviewBody) -> Experiment:
    """The experiment with the change that is asked for."""
    if body.change is None:
        return experiment
    if wrong := [name for name in body.change if name not in CHANGES]:
        expected = f"one of {', '.join(CHANGES)}"
        raise Problem.of(Code.INVALID_REQUEST, [Fault(pointer("change", name), expected, "another") for name in wrong])
    sent = Sent.read(msgspec.json.encode(body.change))
    before = Stored(experiment.config, True, START, START)
    try:
        config: Config = config_after(experiment.name, before, patched(sent), reset=False)
    except Problem as problem:
        faults = [fault._replace(pointer="/change" + fault.pointer) for fault in problem.faults]
        raise (Problem.of(problem.code, faults) if faults else problem) from None
    changed = compile_config(config)
    if changed.shape != experiment.shape or set(changed.config.kinds) != set(experiment.config.kinds):
        raise Problem.of(Code.INVALID_REQUEST, [Fault("/change/rewards", "the kinds that there are", "others")])
    return changed


def _seen(model: Model, experiment: Experiment, changed: Experiment, request: RecommendationRequest) -> Previewed:
    x = experiment.encoder.encode([request.context])
    baseline = [request.baseline] if request.baseline != NO_ARM else []
    return model.preview(experiment, changed, x, request.eligible[None], baseline)


def _slices(experiment: Experiment) -> Iterator[PreviewSlice]:
    if not experiment.slices:
        yield PreviewSlice(None, 1.0, experiment.document.policy)
        return
    sliced = experiment.document.sliced
    for each in experiment.slices:
        policy = sliced[each.name].policy
        yield PreviewSlice(each.name, each.share / WHOLE, policy or experiment.document.policy)


def _arms(experiment: Experiment, seen: Previewed, request: RecommendationRequest, limit: int) -> Iterator[PreviewArm]:
    """The likeliest arms."""
    shares = [each.share / WHOLE for each in experiment.slices] or [1.0]
    mixture: Any = np.tensordot(shares, np.stack(seen.probabilities), axes=1)
    arms = np.flatnonzero(request.eligible)
    order = np.lexsort((-seen.scores[0][arms], -mixture[arms]))[:limit]
    for arm in arms[order].tolist():
        yield PreviewArm(
            arm=experiment.config.index[arm],
            probability=float(mixture[arm]),
            score=float(seen.scores[0][arm]),
            mean=float(seen.mean[arm]),
            width=float(seen.width[arm]),
            sigma=float(seen.sigma[arm]),
            kinds=dict(zip(experiment.config.kinds, seen.kinds[arm].tolist(), strict=True)),
            slices=dict(_by_slice(experiment, seen.probabilities, seen.scores, arm)),
        )


def _by_slice(
    experiment: Experiment, probabilities: Sequence[Matrix], scores: Sequence[Matrix], arm: int
) -> Iterator[tuple[str, PreviewPart]]:
    for each, p, score in zip(experiment.slices, probabilities, scores, strict=False):
        yield each.name, PreviewPart(float(p[arm]), float(score[arm]))
