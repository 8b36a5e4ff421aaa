"""The routes of the views. Each handler parses, calls and renders."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from bandit.serving.api import native
from bandit.serving.api.native import Experiment, Place
from bandit.serving.views import docs
from bandit.serving.views.service import Views

Resolution = Annotated[Literal["minute", "hour"], Query(description="minute (of the last day) or hour (of 90 days)")]
From = Annotated[str, Query(description="a time, or a duration before now; by default all that is kept")]
Until = Annotated[str, Query(description="a time, or a duration before now; by default now")]
Few = Annotated[int, Query(ge=1, le=100, description="at most so many on a page")]
Named = Annotated[str, Query(description="the `next` of the page before; empty for the first page")]

Segment = Annotated[str, Query(description="a number, boolean or category; by default all contexts are one segment")]
ArmName = Annotated[str, Query(description="the arm's id")]
Bins = Annotated[int, Query(ge=1, le=50, description="at most so many bins")]
Rows = Annotated[int, Query(ge=2, le=100_000, description="at most so many decisions, the newest")]
Arms = Annotated[int, Query(ge=1, le=200, description="at most so many arms on a page")]
Columns = Annotated[int, Query(ge=1, le=1000, description="at most so many columns on a page")]

router = APIRouter(dependencies=[Depends(native.known_only)], tags=["views"])


def _views(request: Request) -> Views:
    views: Views = request.app.state.views
    return views


@router.get("/v1/summary", **docs.SUMMARIES)
async def summaries(request: Request, limit: Few = 20, cursor: Named = "") -> Response:
    """How the experiments are doing, by name, a page at a time."""
    return await native.slow_answer(request, _views(request).summaries(limit, cursor))


@router.get("/v1/experiments/{e}/summary", **docs.SUMMARY)
async def summary(request: Request, e: Experiment) -> Response:
    """How an experiment is doing: decisions, exploration, rewards and what goes wrong, lately."""
    return await native.slow_answer(request, _views(request).summary(e))


@router.get("/v1/experiments/{e}/series", **docs.SERIES)
async def series(
    request: Request, e: Experiment, resolution: Resolution = "minute", since: From = "", until: Until = ""
) -> Response:
    """What was counted, by the minute for a day and by the hour for 90 days."""
    return await native.slow_answer(request, _views(request).series(e, resolution, since, until))


@router.get("/v1/experiments/{e}/estimates", **docs.ESTIMATES)
async def estimates(
    request: Request, e: Experiment, segment: Segment = "", limit: Arms = 50, cursor: Place = 0
) -> Response:
    """What each arm is expected to earn, by segment of the newest contexts."""
    return await native.slow_answer(request, _views(request).estimates(e, segment, limit, cursor))


@router.get("/v1/experiments/{e}/weights", **docs.WEIGHTS)
async def weights(request: Request, e: Experiment, arm: ArmName, limit: Columns = 1000, cursor: Place = 0) -> Response:
    """What an arm has learned: the weight of each column of the feature vector, with its interval."""
    return await native.slow_answer(request, _views(request).weights(e, arm, limit, cursor))


@router.get("/v1/experiments/{e}/calibration", **docs.CALIBRATION)
async def calibration(request: Request, e: Experiment, bins: Bins = 10, rows: Rows = 10_000) -> Response:
    """What was predicted beside what came, on decisions that the model had not learned from."""
    return await native.slow_answer(request, _views(request).calibration(e, bins, rows))


@router.post("/v1/experiments/{e}/preview", **docs.PREVIEW)
async def preview(request: Request, e: Experiment) -> Response:
    """What would this context be answered? Every arm's estimates and probabilities; nothing is logged or learned."""
    return await native.slow_answer(request, _views(request).preview(e, await native.body_of(request)))
