"""Feedback without an experiment: one event of a user, credited in each experiment that has its kind."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from bandit.errors import Code, Fault, Problem, nearest
from bandit.serving.api import answers
from bandit.serving.api.problems import details
from bandit.serving.feedback import FeedbackBody, read_everywhere, reward
from bandit.serving.service import Service

EXPERIMENTS_MAX = 100  # at once

_ENCODER = msgspec.json.Encoder()


async def answered(service: Service, data: bytes) -> bytes:
    """The answer: of each experiment what became of the event there, or its problem.

    Raises:
        Problem: the request is at fault, no experiment has the kind, or too many have.
    """
    body = read_everywhere(data)
    secret, (names, kinds) = await service.secret(), await service.experiments.with_kind(body.event)
    if not names:
        hint = nearest(body.event, kinds)
        fault = Fault("/event", "a kind of reward of an experiment" + hint, "another string")
        raise Problem(Code.UNKNOWN_EVENT, "no experiment has such an event" + hint, [fault])
    if len(names) > EXPERIMENTS_MAX:
        fault = Fault("/event", f"a kind that at most {EXPERIMENTS_MAX} experiments have", f"{len(names)} of them")
        raise Problem(Code.INVALID_REQUEST, "too many experiments have it: send it to each by its address", [fault])
    found = await asyncio.gather(*(_in_one(service, name, body, secret) for name in names))
    return _ENCODER.encode({"results": dict(zip(names, found, strict=True))})


async def _in_one(service: Service, name: str, body: FeedbackBody, secret: bytes) -> Any:
    """What became of it in one experiment."""
    try:
        return answers.feedback(await service.ask(name, lambda experiment: reward(experiment, body, secret)))
    except Problem as problem:
        service.refused(name, "feedback", problem)
        if problem.code == Code.DECISION_NOT_FOUND:
            fault = Fault("/user_id", "a user with a decision of this experiment within its reward window", "another")
            problem = Problem.of(problem.code, [fault])
        return {"problem": details(problem)}
