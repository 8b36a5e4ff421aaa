"""What `/docs` and `/openapi.json` tell of the native contract; every example was sent to a real server."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from bandit.core.document import ARMS_MAX, ArmSpec, Document
from bandit.core.eligibility import When
from bandit.core.features import Name
from bandit.core.inferred.proposal import Proposal
from bandit.replica.survey import FeaturesAnswer
from bandit.serving.access import docs as access
from bandit.serving.api.answers import ActivationAnswer, FeedbackAnswer, RecommendationAnswer
from bandit.serving.api.examples import EXCHANGES, body_of
from bandit.serving.api.problems import ProblemDetails
from bandit.serving.api.schemas import PREFIX, Schema, ref, schemas_of, show
from bandit.serving.api.several import SeveralBody
from bandit.serving.api.stricter import stricter
from bandit.serving.evaluation import Evaluation
from bandit.serving.feedback import ActivationBody, FeedbackBody, UserFeedbackBody
from bandit.serving.firstminutes.sample import SampleBody
from bandit.serving.inspection import DecisionAnswer
from bandit.serving.requests import BatchBody, RecommendationBody
from bandit.serving.views import answers as counts
from bandit.serving.views import model_answers

EXPERIMENT: dict[str, Any] = body_of("PUT /v1/experiments/{e}")


class Warned(msgspec.Struct):
    """What is doubtful about an experiment: `loose_range` of a kind of reward.

    Attributes:
        code: The kind of doubt; "loose_range" is a range far wider than the rewards that came.
        kind: The kind of reward that it is about.
        detail: What is doubtful and what can be done, for people.
    """

    code: str
    kind: str
    detail: str


class ExperimentAnswer(Document, kw_only=True, frozen=True):
    """A document with what the server adds.

    Attributes:
        name: The experiment's name.
        version: The number of the last change, counted from 1; If-Match takes it.
        generation: How many times the experiment has started from zero, counted from 1.
        created_at: When the experiment was created, RFC 3339 in UTC.
        updated_at: When the experiment was last changed, RFC 3339 in UTC.
        evaluable: Whether the log can say what another policy would have earned: whether explore is above 0.
        warnings: What is doubtful about the experiment; left out where nothing is.
    """

    name: str
    version: int
    generation: int
    created_at: str
    updated_at: str
    evaluable: bool
    warnings: list[Warned] | UnsetType = UNSET


class ExperimentsAnswer(msgspec.Struct):
    """A page of experiments; `next` is the cursor of the next one, where there is one.

    Attributes:
        experiments: The experiments of this page, by name.
        next: The cursor of the next page; left out of the last one.
    """

    experiments: list[ExperimentAnswer]
    next: str | UnsetType = UNSET


class Difference(msgspec.Struct, omit_defaults=True):
    """One place of a document that a change would change.

    Attributes:
        pointer: Where it is, as a JSON pointer; an arm stands under its id.
        before: What is there now; left out where nothing is.
        after: What would be there; left out where nothing would.
    """

    pointer: str
    before: Any = UNSET
    after: Any = UNSET


class DryRunAnswer(msgspec.Struct):
    """What a change would do; nothing has been changed.

    Attributes:
        dry_run: Always true.
        creates: Whether there is no such experiment yet.
        starts_from_zero: Whether a new generation would start, with nothing learned.
        changes: Every place that would change; none where the experiment is new.
    """

    dry_run: bool
    creates: bool
    starts_from_zero: bool
    changes: list[Difference]


class Seen(msgspec.Struct):
    """What an arm has seen of one kind of reward; no impression yet has no mean.

    Attributes:
        sum: All rewards of this kind, in reward units.
        mean: The reward of an impression, in reward units; null where there was no impression.
    """

    sum: float
    mean: float | None


class ArmAnswer(msgspec.Struct, rename={"since": "from"}):
    """An arm: active, paused or retired, and what it has seen.

    Attributes:
        arm: The arm's name.
        status: Whether it may be shown: "active", "paused", or "retired" once it has been left out of the document.
        impressions: How many times it was shown in decisions that have been learned from.
        rewards: What each kind of reward has come to.
        payload: The arm's payload; left out where it has none, and in lists of arms.
        when: The conditions under which it is shown; left out where it has none, and in lists of arms.
        from: The instant from which on it is shown; left out where it has none, and in lists of arms.
        until: The instant from which on it is not; left out where it has none, and in lists of arms.
        tags: Its tags; left out where it has none, and in lists of arms.
    """

    arm: str
    status: str
    impressions: int
    rewards: dict[str, Seen]
    payload: Any = UNSET
    when: When | UnsetType = UNSET
    since: str | UnsetType = UNSET
    until: str | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET


class ArmsAnswer(msgspec.Struct):
    """A page of arms, and the position of the log that they reflect.

    Attributes:
        arms: The arms of this page, in the order in which they were first named, retired ones too.
        position: The position in the log that the numbers reflect.
        next: The cursor of the next page; left out of the last one.
    """

    arms: list[ArmAnswer]
    position: str
    next: str | UnsetType = UNSET


class Standing(msgspec.Struct):
    """Where an experiment's replica stands.

    Attributes:
        position: The position in the log up to which it has read.
        lag_ms: Milliseconds since it last read the log to its end; null where it has not yet.
        digest: The fingerprint of its sums at that position; left out unless asked for.
        failed: Why the experiment cannot be served; left out where it can.
    """

    position: str | UnsetType = UNSET
    lag_ms: int | UnsetType | None = UNSET
    digest: str | UnsetType = UNSET
    failed: str | UnsetType = UNSET


class Readiness(msgspec.Struct):
    """Whether decisions can be made, and where each experiment's replica stands.

    Attributes:
        ready: Whether every worker of this start can decide; while the store is away: whether any experiment is
            answered for all the same.
        store: Whether the store answers: "ok" or "unavailable".
        reason: Why the store cannot be used, or "draining" of a server that is about to stop; else left out.
        degraded: The experiments that are answered for while the store is away; left out while it is not.
        replicas: Where each experiment's replica stands, by the experiment's name.
    """

    ready: bool
    store: str
    replicas: dict[str, Standing]
    reason: str | UnsetType = UNSET
    degraded: list[str] | UnsetType = UNSET


class Alive(msgspec.Struct):
    """The process answers.

    Attributes:
        status: Always "ok".
    """

    status: str


class Version(msgspec.Struct):
    """Which server this is.

    Attributes:
        version: The server's version.
    """

    version: str


TYPES = (
    Document, ArmSpec, RecommendationBody, RecommendationAnswer, FeedbackBody, FeedbackAnswer, UserFeedbackBody,
    ActivationBody, ActivationAnswer, BatchBody, ProblemDetails, ExperimentAnswer, ExperimentsAnswer, ArmAnswer,
    ArmsAnswer, Readiness, Evaluation, Alive, Version, DryRunAnswer, SeveralBody,
    DecisionAnswer, FeaturesAnswer, SampleBody, Proposal, *access.TYPES, *counts.TYPES, *model_answers.TYPES,
)  # fmt: skip

PARTS = {
    "DocumentPatch": (
        Document,
        "What changes of a document, a JSON merge patch (RFC 7386): what is left out stays, null restores a default.",
    ),
    "ArmPatch": (ArmSpec, "What changes of an arm, a JSON merge patch (RFC 7386): what is left out stays."),
    "ArmBody": (ArmSpec, "An arm; the address has its id."),
}
PATCHES = "DocumentPatch", "ArmPatch"
REFUSED = {
    400: "the body is not JSON, or the address is not well formed",
    404: "no such experiment, arm or decision",
    409: "the request contradicts what is in force",
    412: "another version is in force",
    413: "the body is too large",
    428: "deleting needs a confirmation",
    415: "the headers say that the body is not plain JSON",
    422: "a value is not what it should be; `errors` names the place",
    503: "the store or the experiment cannot be used now, or too many requests are waiting",
}


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """FastAPI's document with our schemas, and with the example of each operation and answer."""
    found = schemas_of(TYPES)
    _without_types(found)
    stricter(document, found)
    found |= {name: _part(found[kind.__name__], name, text) for name, (kind, text) in PARTS.items()}
    for shown in (each for methods in document["paths"].values() for each in methods.values()):
        shown["summary"], _, more = shown.pop("description").partition("\n\n")
        shown |= {"description": more} if more else {}
    for each in EXCHANGES:
        _, _, path = each.operation.partition(" ")
        shown = document["paths"][path][each.method.lower()]
        if each.body is not UNSET and each.status < 300:
            _put(found, shown["requestBody"], each.body)
        if each.answer is not UNSET:
            _put(found, shown["responses"][str(each.status)], each.answer)
    for name in PATCHES:
        properties = found[name]["properties"]
        found[name]["properties"] = {field: _or_null(about) for field, about in properties.items()}
    document["components"] = {"schemas": found}  # FastAPI's own are those of errors that it does not answer with
    access.guarded(document)
    return document


def _without_types(found: dict[str, Schema]) -> None:
    """A policy may leave its type out: it is LinUCB then."""
    found["LinUCB"]["required"] = [name for name in found["LinUCB"]["required"] if name != "type"]
    for struct in ("Document", "SliceSpec"):
        found[struct]["properties"]["policy"].pop("discriminator", None)


def _part(whole: Schema, name: str, text: str) -> Schema:
    """A schema of which nothing is required. It shares the properties, and so their examples."""
    return {key: value for key, value in whole.items() if key != "required"} | {"title": name, "description": text}


def _or_null(about: Schema) -> Schema:
    """A property that a patch may also take away; of an object it may have a part."""
    told: Schema = {key: about[key] for key in ("description", "examples") if key in about}
    value: Schema = {key: about[key] for key in about if key not in told} if "$ref" not in about else {"type": "object"}
    return {"anyOf": [value, {"type": "null"}], **told}


def _put(found: dict[str, Any], shown: dict[str, Any], value: Any) -> None:
    """A real body or answer as the example of where it belongs, unless there is one, and of its fields."""
    content = next(iter(shown["content"].values()))
    content.setdefault("example", value)
    show(found, content["schema"], value)


def _or_problem(answer: type) -> dict[str, Any]:
    refused = {"type": "object", "properties": {"problem": ref(ProblemDetails)}, "required": ["problem"]}
    return {"anyOf": [ref(answer), refused]}


def _batch(answer: type) -> dict[str, Any]:
    """The schema of a batch's answer: an item is an answer or a problem."""
    results = {"type": "array", "items": _or_problem(answer)}
    return {"type": "object", "properties": {"results": results}, "required": ["results"]}


def _by_experiment(answer: type) -> dict[str, Any]:
    """The schema of the answers of several experiments: of each its answer or its problem."""
    results = {"type": "object", "additionalProperties": _or_problem(answer)}
    return {"type": "object", "properties": {"results": results}, "required": ["results"]}


def _content(schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    return {"content": {kind: {"schema": schema}}}


def asking(ok: dict[int, str], answer: type | dict[str, Any] | None, *problems: int) -> dict[str, Any]:
    """What a route passes on to FastAPI: statuses with their schemas."""
    schema = answer if isinstance(answer, dict) else ref(answer) if answer else None
    shown = {code: {"description": text} | (_content(schema) if schema else {}) for code, text in ok.items()}
    details = _content(ref(ProblemDetails), "application/problem+json")
    return {"responses": shown | {code: {"description": REFUSED[code]} | details for code in sorted(problems)}}


def operation(ok: dict[int, str], answer: type | dict[str, Any] | None, *problems: int) -> dict[str, Any]:
    """What a route of one experiment passes on."""
    return asking(ok, answer, *problems, 400, 404, 422, 503)


def writing(
    ok: dict[int, str],
    answer: type | dict[str, Any],
    body: type | dict[str, Any],
    *problems: int,
    required: bool = True,
) -> dict[str, Any]:
    """What a route with a body passes on to FastAPI."""
    content = {"schema": body if isinstance(body, dict) else ref(body)}
    given = {"required": required, "content": {"application/json": content}}
    return operation(ok, answer, 413, 415, *problems) | {"openapi_extra": {"requestBody": given}}


def _part_of(name: str) -> Schema:
    """The reference to one of `PARTS`."""
    return {"$ref": PREFIX + name}


_NAME = msgspec.json.schema(Name)
_ARMS = {"type": "array", "maxItems": ARMS_MAX, "items": {"anyOf": [_NAME, ref(ArmSpec)]}}
_RESULTS = {200: "`results`, in order: each an answer or its problem"}

LIST = asking({200: "experiments"}, ExperimentsAnswer, 422, 503)
_CHANGED = {"anyOf": [ref(ExperimentAnswer), ref(DryRunAnswer)]}
_CHANGED_ARM = {"anyOf": [ref(ArmAnswer), ref(DryRunAnswer)]}

PUT = writing({201: "created", 200: "replaced, or what would change"}, _CHANGED, Document, 409, 412)
PATCH = writing({200: "changed, or what would change"}, _CHANGED, _part_of("DocumentPatch"), 409, 412)
GET = operation({200: "the experiment"}, ExperimentAnswer)
DELETE = operation({204: "ended"}, None, 412, 428)
ARMS = operation({200: "arms"}, ArmsAnswer)
PUT_ARMS = writing({200: "the experiment, or what would change"}, _CHANGED, _ARMS)
ARM = operation({200: "the arm"}, ArmAnswer)
PUT_ARM = writing(
    {201: "added", 200: "replaced, or what would change"}, _CHANGED_ARM, _part_of("ArmBody"), required=False
)
PATCH_ARM = writing({200: "changed, or what would change"}, _CHANGED_ARM, _part_of("ArmPatch"))
DELETE_ARM = operation({204: "retired"}, None)
DELETE_ARM["responses"][200] = {"description": "what would change"} | _content(ref(DryRunAnswer))
DECISION = operation({200: "the decision"}, DecisionAnswer)
FEATURES = operation({200: "what came of each feature"}, FeaturesAnswer)
EVALUATION = operation({200: "what slices earned and targets would have earned"}, Evaluation)
RECOMMEND = writing({200: "a decision"}, RecommendationAnswer, RecommendationBody, 409)
RECOMMEND_BATCH = writing(_RESULTS, _batch(RecommendationAnswer), BatchBody)
ACTIVATE = writing({200: "activated, duplicate or late"}, ActivationAnswer, ActivationBody)
ACTIVATE_BATCH = writing(_RESULTS, _batch(ActivationAnswer), BatchBody)
FEEDBACK = writing({200: "accepted, duplicate or late"}, FeedbackAnswer, FeedbackBody)
FEEDBACK_BATCH = writing(_RESULTS, _batch(FeedbackAnswer), BatchBody)

RECOMMEND_SEVERAL = writing(
    {200: "`results` by experiment: each an answer or its problem"}, _by_experiment(RecommendationAnswer), SeveralBody
)
FEEDBACK_EVERYWHERE = writing(
    {200: "`results` by experiment: each an answer or its problem"}, _by_experiment(FeedbackAnswer), UserFeedbackBody
)

HEALTH: dict[str, Any] = {"responses": {200: {"description": "the process answers"} | _content(ref(Alive))}}
READY = asking({200: "decisions can be made"}, Readiness, 422)
READY["responses"][503] = {"description": "not now"} | _content(ref(Readiness))
VERSION: dict[str, Any] = {"responses": {200: {"description": "the version"} | _content(ref(Version))}}
