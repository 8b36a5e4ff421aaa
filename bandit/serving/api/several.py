"""Recommendations of several experiments for one user and one context: one answer each, in one round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from bandit.access.ring import GRANT
from bandit.core.document import ARMS_MAX
from bandit.core.experiment import Experiment
from bandit.core.features import Name
from bandit.errors import Code, Fault, Problem, nearest, pointer
from bandit.serving.access.gate import not_its_own
from bandit.serving.api import answers
from bandit.serving.api.problems import details
from bandit.serving.eligible import context_names
from bandit.serving.experiments import experiment_of
from bandit.serving.reading import decode
from bandit.serving.requests import Candidates, Id, RecommendationRequest, read_again, read_recommendation
from bandit.serving.service import Service

EXPERIMENTS_MAX = 20  # at once

_ENCODER = msgspec.json.Encoder()


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What is asked of one of the experiments, as in a request of its own.

    Attributes:
        k: How many different arms to answer, in order; default 1.
        candidates: The only arms that may be shown, each once; by default all active ones.
        exclude: Arms that may not be shown; by default none.
        decision_id: The caller's own id of this decision; by default the one of the whole request.
        defer: Whether the decision is learned only once it has been activated; default false.
        strict: Whether a candidate that is paused or retired is refused with 422, not ignored; default false.
        baseline: The arm that is shown while the experiment is in shadow.
    """

    k: Annotated[int, Meta(ge=1, le=ARMS_MAX)] = 1
    candidates: Candidates | UnsetType = UNSET
    exclude: Annotated[tuple[Name, ...], Meta(max_length=ARMS_MAX)] | UnsetType = UNSET
    decision_id: Id | UnsetType = UNSET
    defer: bool = False
    strict: bool = False
    baseline: Name | UnsetType = UNSET


class SeveralBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The request of recommendations of several experiments.

    Attributes:
        experiments: The experiments by name, 1 to 20 of them, each with what is asked of it, as `{}`.
        context: What is known of the visitor. Of each experiment its own features and attributes are taken; a name
            that none of them has is refused.
        user_id: Whom the decisions are for.
        decision_id: The caller's own id of the decision in each of the experiments.
    """

    experiments: Annotated[dict[str, Wish], Meta(min_length=1, max_length=EXPERIMENTS_MAX)]
    context: dict[str, Raw] = {}
    user_id: Id | None = None
    decision_id: Id | None = None


_SEVERAL = msgspec.json.Decoder(SeveralBody)


async def answered(service: Service, data: bytes) -> bytes:
    """The answer: of each experiment its recommendation, or its problem.

    Raises:
        Problem: the request is at fault as a whole; then nothing is decided.
    """
    body = decode(_SEVERAL, data, Code.INVALID_REQUEST)
    service.gate.charge(GRANT.get(), len(body.experiments) - 1)
    secret = await service.secret()
    looked_up = await asyncio.gather(*(_known(service, name) for name in body.experiments))
    experiments = dict(zip(body.experiments, looked_up, strict=True))
    served = [each for each in looked_up if isinstance(each, Experiment)]
    if len(served) == len(looked_up):  # else one of them may know other names
        _check_names(body.context, served)
    found = await asyncio.gather(*(_in_one(service, name, each, body, secret) for name, each in experiments.items()))
    return _ENCODER.encode({"results": dict(zip(experiments, found, strict=True))})


async def _known(service: Service, name: str) -> Experiment | Problem:
    if not GRANT.get().may_touch(name):
        return not_its_own()
    try:
        return experiment_of((await service.batcher(name)).replica)
    except Problem as problem:
        return problem


def _check_names(context: Mapping[str, Raw], experiments: list[Experiment]) -> None:
    """Refuse names that none of the experiments has."""
    known = set[str]().union(*map(context_names, experiments))
    if unknown := [name for name in context if name not in known]:
        what = "a feature or an attribute of one of these experiments"
        places = [(pointer("context", name), what + nearest(name, known)) for name in unknown[:20]]
        raise Problem.of(Code.INVALID_CONTEXT, [Fault(*place, "an unknown name") for place in places])


async def _in_one(
    service: Service, name: str, experiment: Experiment | Problem, body: SeveralBody, secret: bytes
) -> Any:
    """The recommendation of one experiment, or its problem."""
    if isinstance(experiment, Problem):
        return {"problem": details(experiment)}
    wish = msgspec.to_builtins(body.experiments[name])
    shared = {"user_id": body.user_id, "decision_id": body.decision_id}
    asked = {key: value for key, value in (shared | wish).items() if value is not None}

    def own(experiment: Experiment) -> bytes:
        names = context_names(experiment)
        context = {name: value for name, value in body.context.items() if name in names}
        return _ENCODER.encode({"context": context, **asked})

    def read(experiment: Experiment) -> RecommendationRequest:
        return read_recommendation(experiment, own(experiment), secret)

    try:
        found = await service.ask(name, read, lambda experiment: read_again(experiment, own(experiment), secret))
        return answers.recommendation(found)
    except Problem as problem:
        return {"problem": details(problem)}
