"""What `/docs` and `/openapi.json` tell of the native contract; every example is sent to a real server by a test."""

from __future__ import annotations

from typing import Any

import msgspec

from bandit.api.answers import ActivationAnswer, FeedbackAnswer, RecommendationAnswer
from bandit.api.problems import ProblemDetails
from bandit.experiment import ArmSpec, Document
from bandit.requests import ActivationBody, BatchBody, FeedbackBody, RecommendationBody

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
TYPES = (
    Document, ArmSpec, RecommendationBody, RecommendationAnswer, FeedbackBody, FeedbackAnswer, ActivationBody,
    ActivationAnswer, BatchBody, ProblemDetails,
)  # fmt: skip


def schemas() -> dict[str, Any]:
    """The JSON schemas of bodies and answers, by name."""
    _, found = msgspec.json.schema_components(TYPES, ref_template="#/components/schemas/{name}")
    return dict(found)


def _ref(kind: type | None) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"} if kind else {"type": "object"}


def _operation(
    ok: dict[int, str],
    answer: type | None = None,
    *,
    body: type | None = None,
    example: Any = None,
    problems: tuple[int, ...] = (404,),
) -> dict[str, Any]:
    """What a route passes on to FastAPI: statuses with their schemas, and the body with its example."""
    answers = {code: {"description": text} for code, text in ok.items()}
    for code, shown in answers.items():
        if code != 204:
            shown["content"] = {"application/json": {"schema": _ref(answer)}}  # type: ignore[assignment]
    refusals = {
        code: {"description": "a problem", "content": {"application/problem+json": {"schema": _ref(ProblemDetails)}}}
        for code in (*problems, 503)
    }
    if example is None:
        return {"responses": answers | refusals}
    content = {"application/json": {"schema": _ref(body), "example": example}}
    return {"responses": answers | refusals, "openapi_extra": {"requestBody": {"required": True, "content": content}}}


_WRITE = (400, 404, 413, 415, 422)
LIST = _operation({200: "experiments, and `next` where there are more"}, problems=(422,))
PUT = _operation({201: "created", 200: "replaced"}, body=Document, example=EXPERIMENT, problems=(400, 409, 412, 422))
PATCH = _operation({200: "changed"}, example={"policy": {"alpha": 0.5}}, problems=(400, 404, 409, 412, 422))
GET = _operation({200: "the experiment"})
DELETE = _operation({204: "ended"}, problems=(404, 412))
ARMS = _operation({200: "arms, the position of the log that they reflect, and `next` where there are more"})
PUT_ARMS = _operation(
    {200: "the experiment"}, example=["a", "b", {"id": "c", "payload": {"headline": "New"}}], problems=_WRITE
)
ARM = _operation({200: "the arm"})
PUT_ARM = _operation(
    {201: "added", 200: "replaced"}, body=None, example={"payload": {"headline": "New"}}, problems=_WRITE
)
PATCH_ARM = _operation({200: "changed"}, example={"status": "paused"}, problems=_WRITE)
DELETE_ARM = _operation({204: "retired"})
RECOMMEND = _operation(
    {200: "a decision"}, RecommendationAnswer, body=RecommendationBody, example=RECOMMENDATION, problems=(*_WRITE, 409)
)
RECOMMEND_BATCH = _operation(
    {200: "`results`, in order"}, body=BatchBody, example={"requests": [RECOMMENDATION]}, problems=_WRITE
)
ACTIVATE = _operation(
    {200: "activated, duplicate or late"}, ActivationAnswer, body=ActivationBody, example=ACTIVATION, problems=_WRITE
)
ACTIVATE_BATCH = _operation(
    {200: "`results`, in order"}, body=BatchBody, example={"requests": [ACTIVATION]}, problems=_WRITE
)
FEEDBACK = _operation(
    {200: "accepted, duplicate or late"}, FeedbackAnswer, body=FeedbackBody, example=FEEDBACK_EXAMPLE, problems=_WRITE
)
FEEDBACK_BATCH = _operation(
    {200: "`results`, in order"}, body=BatchBody, example={"requests": [FEEDBACK_EXAMPLE]}, problems=_WRITE
)
HEALTH: dict[str, Any] = {"responses": {200: {"description": "the process answers"}}}
READY: dict[str, Any] = {"responses": {200: {"description": "decisions can be made"}, 503: {"description": "not now"}}}
VERSION: dict[str, Any] = {"responses": {200: {"description": "the version"}}}
