"""What `/docs` and `/openapi.json` tell of the native contract; every example is sent to a real server by a test."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from bandit.core.experiment import ArmSpec, Document
from bandit.serving.api.answers import ActivationAnswer, FeedbackAnswer, RecommendationAnswer
from bandit.serving.api.problems import ProblemDetails
from bandit.serving.evaluation import Evaluation
from bandit.serving.requests import ActivationBody, BatchBody, FeedbackBody, RecommendationBody

EXPERIMENT: dict[str, Any] = {
    "features": [
        {"name": "age", "type": "number", "mean": 40, "scale": 12},
        {"name": "country", "type": "category", "levels": ["cn", "us"]},
    ],
    "policy": {"type": "linucb", "alpha": 1.0},
    "rewards": {"click": {"weight": 1.0}, "conversion": {"weight": 10.0}},
    "arms": ["a", "b", "c"],
}
RECOMMENDATION = {"context": {"age": 31, "country": "us"}, "user_id": "u-1", "decision_id": "visit-1"}
FEEDBACK_EXAMPLE = {"decision_id": "visit-1", "event": "click"}
ACTIVATION = {"decision_id": "visit-1"}


class Warned(msgspec.Struct):
    """What is doubtful about an experiment: `loose_range` of a kind of reward."""

    code: str
    kind: str
    detail: str


class ExperimentAnswer(Document, kw_only=True, frozen=True):
    """A document with what the server adds."""

    name: str
    version: int
    generation: int
    created_at: str
    updated_at: str
    evaluable: bool
    warnings: list[Warned] | UnsetType = UNSET


class ExperimentsAnswer(msgspec.Struct):
    """A page of experiments; `next` is the cursor of the next one, where there is one."""

    experiments: list[ExperimentAnswer]
    next: str | UnsetType = UNSET


class Seen(msgspec.Struct):
    """What an arm has seen of one kind of reward; no impression yet has no mean."""

    sum: float
    mean: float | None


class ArmAnswer(msgspec.Struct):
    """An arm: active, paused or retired, and what it has seen."""

    arm: str
    status: str
    impressions: int
    rewards: dict[str, Seen]
    payload: Any = UNSET


class ArmsAnswer(msgspec.Struct):
    """A page of arms, and the position of the log that they reflect."""

    arms: list[ArmAnswer]
    position: str
    next: str | UnsetType = UNSET


class Readiness(msgspec.Struct):
    """Whether decisions can be made, and where each experiment's replica stands."""

    ready: bool
    store: str
    replicas: dict[str, dict[str, Any]]


TYPES = (
    Document, ArmSpec, RecommendationBody, RecommendationAnswer, FeedbackBody, FeedbackAnswer, ActivationBody,
    ActivationAnswer, BatchBody, ProblemDetails, ExperimentAnswer, ExperimentsAnswer, ArmAnswer, ArmsAnswer, Readiness,
    Evaluation,
)  # fmt: skip


def schemas() -> dict[str, Any]:
    """The JSON schemas of bodies and answers, by name."""
    _, found = msgspec.json.schema_components(TYPES, ref_template="#/components/schemas/{name}")
    return dict(found)


def _ref(kind: type) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _batch(answer: type) -> dict[str, Any]:
    """The schema of a batch's answer: an item is an answer or a problem."""
    refused = {"type": "object", "properties": {"problem": _ref(ProblemDetails)}, "required": ["problem"]}
    results = {"type": "array", "items": {"anyOf": [_ref(answer), refused]}}
    return {"type": "object", "properties": {"results": results}, "required": ["results"]}


def _content(schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    return {"content": {kind: {"schema": schema}}}


def _operation(ok: dict[int, str], answer: type | dict[str, Any] | None, *problems: int) -> dict[str, Any]:
    """What a route without a body passes on to FastAPI: statuses with their schemas."""
    schema = answer if isinstance(answer, dict) else _ref(answer) if answer else None
    shown = {code: {"description": text} | (_content(schema) if schema else {}) for code, text in ok.items()}
    refused = {"description": "a problem"} | _content(_ref(ProblemDetails), "application/problem+json")
    return {"responses": shown | dict.fromkeys(sorted({*problems, 400, 404, 422, 503}), refused)}


def _writing(
    ok: dict[int, str],
    answer: type | dict[str, Any],
    body: type | dict[str, Any],
    example: Any,
    *problems: int,
    required: bool = True,
) -> dict[str, Any]:
    """What a route with a body passes on to FastAPI."""
    content = {"schema": body if isinstance(body, dict) else _ref(body), "example": example}
    given = {"required": required, "content": {"application/json": content}}
    return _operation(ok, answer, 413, 415, *problems) | {"openapi_extra": {"requestBody": given}}


_OBJECT = {"type": "object"}
_ARMS = {"type": "array", "items": {"anyOf": [{"type": "string"}, _ref(ArmSpec)]}}
_ARM_EXAMPLE = {"payload": {"headline": "New"}}
_RESULTS = {200: "`results`, in order: each an answer or its problem"}

LIST = _operation({200: "experiments"}, ExperimentsAnswer)
PUT = _writing({201: "created", 200: "replaced"}, ExperimentAnswer, Document, EXPERIMENT, 409, 412)
PATCH = _writing({200: "changed"}, ExperimentAnswer, _OBJECT, {"policy": {"alpha": 0.5}}, 409, 412)
GET = _operation({200: "the experiment"}, ExperimentAnswer)
DELETE = _operation({204: "ended"}, None, 412)
ARMS = _operation({200: "arms"}, ArmsAnswer)
PUT_ARMS = _writing({200: "the experiment"}, ExperimentAnswer, _ARMS, ["a", "b", "c", {"id": "d"} | _ARM_EXAMPLE])
ARM = _operation({200: "the arm"}, ArmAnswer)
PUT_ARM = _writing({201: "added", 200: "replaced"}, ArmAnswer, _OBJECT, _ARM_EXAMPLE, required=False)
PATCH_ARM = _writing({200: "changed"}, ArmAnswer, _OBJECT, {"status": "paused"})
DELETE_ARM = _operation({204: "retired"}, None)
EVALUATION = _operation({200: "what slices earned and targets would have earned"}, Evaluation)
RECOMMEND = _writing({200: "a decision"}, RecommendationAnswer, RecommendationBody, RECOMMENDATION, 409)
RECOMMEND_BATCH = _writing(_RESULTS, _batch(RecommendationAnswer), BatchBody, {"requests": [RECOMMENDATION]})
ACTIVATE = _writing({200: "activated, duplicate or late"}, ActivationAnswer, ActivationBody, ACTIVATION)
ACTIVATE_BATCH = _writing(_RESULTS, _batch(ActivationAnswer), BatchBody, {"requests": [ACTIVATION]})
FEEDBACK = _writing({200: "accepted, duplicate or late"}, FeedbackAnswer, FeedbackBody, FEEDBACK_EXAMPLE)
FEEDBACK_BATCH = _writing(_RESULTS, _batch(FeedbackAnswer), BatchBody, {"requests": [FEEDBACK_EXAMPLE]})

HEALTH: dict[str, Any] = {"responses": {200: {"description": "the process answers"}}}
READY = _operation({200: "decisions can be made"}, Readiness)
READY["responses"][503] = {"description": "not now"} | _content(_ref(Readiness))
VERSION: dict[str, Any] = {"responses": {200: {"description": "the version"}}}
