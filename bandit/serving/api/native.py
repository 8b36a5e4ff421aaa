"""Every route of the server, under `/v1`, and health. Each handler parses, calls the service and renders."""

from __future__ import annotations

import re
from collections.abc import Coroutine
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from bandit import __version__
from bandit.access.ring import GRANT
from bandit.core.document import NAME
from bandit.errors import Code, Fault, Problem, nearest
from bandit.serving.api import body, docs, everywhere, hot, several
from bandit.serving.api.problems import response
from bandit.serving.changes import Change, Sent, patched, replaced, version_in, without_arm
from bandit.serving.evaluation import ROWS_MAX, Asked
from bandit.serving.experiments import ANY_VERSION, NO_VERSION
from bandit.serving.service import Service
from bandit.settings import Phase


def _flag(given: str) -> bool:
    """A flag of a query: it changes what is done, so nothing but its two words is taken for one."""
    if given not in ("true", "false"):
        raise PydanticCustomError("bool_parsing", "true or false")
    return given == "true"


Experiment = Annotated[str, Path(description="the experiment's name")]
Arm = Annotated[str, Path(description="the arm's id; it may have a /")]
Strictly = BeforeValidator(_flag)
Limit = Annotated[int, Query(ge=1, le=1000, description="at most so many on a page")]
Cursor = Annotated[str, Query(description="the `next` of the page before; empty for the first page")]
Place = Annotated[int, Query(ge=0, description="the `next` of the page before; 0 for the first page")]
Rows = Annotated[int, Query(ge=1, le=ROWS_MAX, description="at most so many decisions, the newest")]
Digests = Annotated[bool, Strictly, Query(description="add a fingerprint of each experiment's sums")]
Reset = Annotated[bool, Strictly, Query(description="start a new generation from zero")]
DryRun = Annotated[bool, Strictly, Query(description="answer what would change, and change nothing")]
Confirm = Annotated[str, Query(description="the experiment's name, to delete whatever version there is")]
Decision = Annotated[str, Path(description="the decision's id; it may have a /")]
Explain = Annotated[bool, Strictly, Query(description="add what the model of now makes of it")]
Targets = Annotated[
    list[str] | None, Query(description="uniform, fixed:ARM, linucb:alpha=0.5, thompson:scale=0.5; one or more")
]
Since = Annotated[str, Query(description="a time, or a duration before now; by default the whole log")]
MinAge = Annotated[str, Query(description="leave out younger decisions: their feedback may still come")]
Compared = Annotated[str, Query(alias="slice", description="whose lift; by default learned, or else the first slice")]
Baseline = Annotated[str, Query(description="over which one; by default random, or what plays uniformly, or the next")]
IfMatch = Annotated[str | None, Header(description="change this version only")]
IfNone = Annotated[str | None, Header(alias="If-None-Match", description="only *: create, and replace nothing")]

_VERSION = re.compile(r'(?:W/)?"?([0-9]{1,15})"?')


async def known_only(request: Request) -> None:
    """Refuse parameters that a route does not have: a misspelt one, overlooked, would do something else."""
    known = {field.alias for field in request.scope["route"].dependant.query_params}
    if unknown := [name for name in request.query_params if name not in known]:
        expected = "a parameter of this address" if known else "no parameters"
        raise Problem.of(
            Code.INVALID_REQUEST,
            [Fault(f"/query/{name}", expected + nearest(name, known), "an unknown one") for name in unknown],
        )


router = APIRouter(dependencies=[Depends(known_only)])
health = APIRouter(tags=["health"], dependencies=[Depends(known_only)])


def service_of(request: Request) -> Service:
    """The service that answers a request."""
    service: Service = request.app.state.service
    return service


async def body_of(request: Request) -> bytes:
    """A request's body, which is JSON."""
    return await body.read(request.scope["headers"], request.receive, service_of(request).settings.body_limit)


def json_answer(value: Any, status: int = 200) -> Response:
    """A value as an answer."""
    return Response(_ENCODER.encode(value), status, media_type="application/json")


async def slow_answer(request: Request, work: Coroutine[Any, Any, Any]) -> Response:
    """The answer of what takes seconds, and ends where nobody waits for it any more."""
    found = await body.while_asked(request.scope, request.receive, work)
    return Response(status_code=GONE) if found is None else json_answer(found)


GONE = 499  # what is counted where a client has closed its side; few will read it
_ENCODER = msgspec.json.Encoder()


def _version(if_match: str | None) -> int | None:
    """The version that an If-Match header asks for."""
    if if_match is None:
        return None
    if if_match.strip() == "*":
        return ANY_VERSION
    if (found := _VERSION.fullmatch(if_match.strip())) is None:
        raise Problem(
            Code.INVALID_REQUEST, "If-Match takes a version", [Fault("/header/If-Match", "a version", "another string")]
        )
    return int(found[1])


def _creating(if_none_match: str | None, if_match: str | None) -> bool:
    """Whether nothing may be replaced."""
    if if_none_match is None:
        return False
    if if_none_match.strip() != "*" or if_match is not None:
        fault = Fault("/header/If-None-Match", "*, and no If-Match", "something else")
        raise Problem(Code.INVALID_REQUEST, "If-None-Match takes *, and no If-Match beside it", [fault])
    return True


async def _change(request: Request, if_match: str | None, *, new: bool = False) -> tuple[Sent, int | None]:
    """(the body, the version that it is to change, as its header or the document itself states)."""
    data = await body_of(request)
    asked, sent = _version(if_match), Sent.read(data)
    if new:
        return sent, NO_VERSION
    stated = version_in(sent)
    if stated is None or asked == stated:
        return sent, asked
    if asked not in (None, ANY_VERSION):
        raise Problem(Code.PRECONDITION_FAILED, f"If-Match asks for version {asked}, the document for {stated}")
    return sent, stated


async def _would_change(request: Request, e: str, change: Change, **how: Any) -> Response:
    return json_answer(await service_of(request).experiments.would_change(e, change, **how))


def _new_name(e: str) -> str:
    """The name, if an experiment may have it."""
    if NAME.fullmatch(e) is None:
        expected = "1 to 64 of a-z, 0-9, dot, dash and underscore, the first a letter or digit"
        fault = Fault("", expected, f"a name of {len(e)} characters")
        raise Problem(Code.INVALID_EXPERIMENT, f"an experiment's name is {expected}", [fault])
    return e


# experiments


@router.get("/v1/experiments", tags=["experiments"], **docs.LIST)
async def experiments(request: Request, limit: Limit = 100, cursor: Cursor = "") -> Response:
    """Experiments by name, a page at a time."""
    return json_answer(await service_of(request).experiments.page(limit, cursor))


@router.put("/v1/experiments/{e}", tags=["experiments"], **docs.PUT)
async def put_experiment(
    request: Request, e: Experiment, reset: Reset = False, dry_run: DryRun = False,
    if_match: IfMatch = None, if_none_match: IfNone = None,
) -> Response:  # fmt: skip
    """Create an experiment, or replace its document whole; arms left out are retired.

    What GET adds to a document may be sent back and is ignored, but for `version`: it must still be in force.
    """
    sent, version = await _change(request, if_match, new=_creating(if_none_match, if_match))
    if dry_run:
        how = {"reset": reset, "if_match": version, "create": True}
        return await _would_change(request, _new_name(e), replaced(sent), **how)
    created, experiment = await service_of(request).experiments.put(_new_name(e), sent, reset=reset, if_match=version)
    return json_answer(experiment, 201 if created else 200)


@router.patch("/v1/experiments/{e}", tags=["experiments"], **docs.PATCH)
async def patch_experiment(
    request: Request, e: Experiment, reset: Reset = False, dry_run: DryRun = False, if_match: IfMatch = None
) -> Response:
    """Change a part of the document, by a JSON merge patch."""
    sent, version = await _change(request, if_match)
    if dry_run:
        return await _would_change(request, e, patched(sent), reset=reset, if_match=version)
    return json_answer(await service_of(request).experiments.patch(e, sent, reset=reset, if_match=version))


@router.get("/v1/experiments/{e}", tags=["experiments"], **docs.GET)
async def get_experiment(request: Request, e: Experiment) -> Response:
    """The document, with its version, generation and times."""
    return json_answer(await service_of(request).experiments.get(e))


@router.delete("/v1/experiments/{e}", tags=["experiments"], status_code=204, **docs.DELETE)
async def delete_experiment(
    request: Request, e: Experiment, confirm: Confirm = "", if_match: IfMatch = None
) -> Response:
    """End an experiment: its name as `confirm`, or its version as `If-Match`, says that it is meant."""
    await service_of(request).experiments.delete(e, if_match=_version(if_match), confirm=confirm)
    return Response(status_code=204)


# arms


@router.get("/v1/experiments/{e}/arms", tags=["arms"], **docs.ARMS)
async def get_arms(request: Request, e: Experiment, limit: Limit = 100, cursor: Place = 0) -> Response:
    """What each arm has seen, retired ones too."""
    return json_answer(await service_of(request).experiments.arms(e, limit, cursor))


@router.put("/v1/experiments/{e}/arms", tags=["arms"], **docs.PUT_ARMS)
async def put_arms(request: Request, e: Experiment, dry_run: DryRun = False) -> Response:
    """Replace the list of arms."""
    return json_answer(await service_of(request).experiments.put_arms(e, await body_of(request), dry_run=dry_run))


@router.get("/v1/experiments/{e}/arms/{arm:path}", tags=["arms"], **docs.ARM)
async def get_arm(request: Request, e: Experiment, arm: Arm) -> Response:
    """One arm, and what it has seen."""
    return json_answer(await service_of(request).experiments.arm(e, arm))


@router.put("/v1/experiments/{e}/arms/{arm:path}", tags=["arms"], **docs.PUT_ARM)
async def put_arm(request: Request, e: Experiment, arm: Arm, dry_run: DryRun = False) -> Response:
    """Add or replace one arm; a retired one comes back with what it had learned."""
    created, shown = await service_of(request).experiments.put_arm(e, arm, await body_of(request), dry_run=dry_run)
    return json_answer(shown, 201 if created else 200)


@router.patch("/v1/experiments/{e}/arms/{arm:path}", tags=["arms"], **docs.PATCH_ARM)
async def patch_arm(request: Request, e: Experiment, arm: Arm, dry_run: DryRun = False) -> Response:
    """Change one arm's status, conditions, dates, tags or payload."""
    data = await body_of(request)
    _, shown = await service_of(request).experiments.put_arm(e, arm, data, merge=True, dry_run=dry_run)
    return json_answer(shown)


@router.delete("/v1/experiments/{e}/arms/{arm:path}", tags=["arms"], status_code=204, **docs.DELETE_ARM)
async def delete_arm(request: Request, e: Experiment, arm: Arm, dry_run: DryRun = False) -> Response:
    """Retire an arm: it is never shown again, and what it has learned is kept."""
    if dry_run:
        return await _would_change(request, e, without_arm(arm))
    await service_of(request).experiments.retire(e, arm)
    return Response(status_code=204)


@router.get("/v1/experiments/{e}/features", tags=["experiments"], **docs.FEATURES)
async def get_features(request: Request, e: Experiment) -> Response:
    """What came in the newest decisions, feature by feature, beside what the document declares."""
    return json_answer(await service_of(request).experiments.features(e))


# decisions


@router.get("/v1/experiments/{e}/decisions/{decision_id:path}", tags=["deciding"], **docs.DECISION)
async def get_decision(
    request: Request, e: Experiment, decision_id: Decision, explain: Explain = False, limit: Limit = 100
) -> Response:
    """What was shown and why, what was credited when, and with `explain=true` what the model of now makes of it."""
    return json_answer(await service_of(request).decision(e, decision_id, explain=explain, limit=limit))


# evaluation


@router.get("/v1/experiments/{e}/evaluation", tags=["evaluation"], **docs.EVALUATION)
async def get_evaluation(
    request: Request,
    e: Experiment,
    target: Targets = None,
    since: Since = "",
    min_age: MinAge = "",
    rows: Rows = ROWS_MAX,
    compared: Compared = "",
    baseline: Baseline = "",
) -> Response:
    """How much one slice beats another, what each earned and what candidates would have, on the newest decisions."""
    asked = Asked(e, tuple(target or ()), since, min_age, rows, compared, baseline)
    return await slow_answer(request, service_of(request).evaluation(asked))


# deciding and feedback


async def _hot(request: Request, what: str, e: str) -> Response:
    """Where nothing stands before the framework that answers these requests (`hot`)."""
    return response(await hot.answer(service_of(request), what, e, request.scope["headers"], request.receive))


@router.post("/v1/experiments/{e}/recommendations", tags=["deciding"], **docs.RECOMMEND)
async def recommend(request: Request, e: Experiment) -> Response:
    """Which arm for this context? One decision, logged before it is answered."""
    return await _hot(request, "recommendations", e)


@router.post("/v1/experiments/{e}/recommendations/batch", tags=["deciding"], **docs.RECOMMEND_BATCH)
async def recommend_batch(request: Request, e: Experiment) -> Response:
    """Up to 1,000 decisions at once."""
    return await _hot(request, "recommendations/batch", e)


@router.post("/v1/experiments/{e}/activations", tags=["deciding"], **docs.ACTIVATE)
async def activate(request: Request, e: Experiment) -> Response:
    """A deferred decision has been shown: from now on it is an impression."""
    return await _hot(request, "activations", e)


@router.post("/v1/experiments/{e}/activations/batch", tags=["deciding"], **docs.ACTIVATE_BATCH)
async def activate_batch(request: Request, e: Experiment) -> Response:
    """Up to 1,000 activations at once."""
    return await _hot(request, "activations/batch", e)


@router.post("/v1/experiments/{e}/feedback", tags=["feedback"], **docs.FEEDBACK)
async def feedback(request: Request, e: Experiment) -> Response:
    """A click, a conversion, a rating: an event that refers to a decision, or to a user's."""
    return await _hot(request, "feedback", e)


@router.post("/v1/experiments/{e}/feedback/batch", tags=["feedback"], **docs.FEEDBACK_BATCH)
async def feedback_batch(request: Request, e: Experiment) -> Response:
    """Up to 1,000 events at once."""
    return await _hot(request, "feedback/batch", e)


@router.post("/v1/recommendations", tags=["deciding"], **docs.RECOMMEND_SEVERAL)
async def recommend_several(request: Request) -> Response:
    """One decision of each of several experiments, for one user and one context."""
    return Response(await several.answered(service_of(request), await body_of(request)), media_type="application/json")


@router.post("/v1/feedback", tags=["feedback"], **docs.FEEDBACK_EVERYWHERE)
async def feedback_everywhere(request: Request) -> Response:
    """One event of a user, such as a purchase, credited in every experiment that has its kind of reward."""
    answer = await everywhere.answered(service_of(request), await body_of(request))
    return Response(answer, media_type="application/json")


# health


@health.get("/healthz", **docs.HEALTH)
async def healthz() -> Response:
    """The process answers; the store is not asked."""
    return json_answer({"status": "ok"})


@health.get("/readyz", **docs.READY)
async def readyz(request: Request, digests: Digests = False) -> Response:
    """Whether a decision can be made; with `digests=true` also a fingerprint of each experiment's sums."""
    service, phase = service_of(request), request.app.state.phase()
    state = service.state()
    state["ready"] = state["ready"] and (phase is Phase.READY or (phase is Phase.STARTING and service.stands_in))
    if not (grant := GRANT.get()).reads:  # names of experiments, and where the store is, are for who has a key
        state = {**state, "replicas": {}}
        state.pop("reason", None)
        state.pop("degraded", None)
    if phase > Phase.READY:
        state.setdefault("reason", "draining")
    state["replicas"] = {name: each for name, each in state["replicas"].items() if grant.may_touch(name)}
    if "degraded" in state:
        state["degraded"] = [name for name in state["degraded"] if grant.may_touch(name)]
    if digests and grant.reads:
        for name, found in (await service.digests()).items():
            if grant.may_touch(name):
                state["replicas"].setdefault(name, {}).update(found)
    return json_answer(state, 200 if state["ready"] else 503)


@health.get("/v1/version", **docs.VERSION)
async def version() -> Response:
    """The server's version."""
    return json_answer({"version": __version__})
