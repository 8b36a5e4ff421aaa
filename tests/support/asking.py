"""Requests read from values, for the tests of reading them."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from bandit.core.experiment import Experiment, compile_config
from bandit.core.revision import first
from bandit.core.validation import parse_document
from bandit.errors import Code, Problem
from bandit.log.vectors import pack_x
from bandit.serving.requests import RecommendationRequest, read_recommendation

SECRET = b"s" * 32
QUIETLY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
DOCUMENT: dict[str, Any] = {
    "features": [
        {"name": "age", "type": "number", "mean": 40, "scale": 12},
        {"name": "new", "type": "boolean"},
        {"name": "country", "type": "category", "levels": ["cn", "us"], "other": False},
    ],
    "rewards": {"click": {}, "time": {"range": [0, 60], "aggregation": "last"}},
    "arms": ["a", "b", {"id": "c", "status": "paused"}, "d"],
}
CONTEXT = {"age": 31, "new": True, "country": "us"}


def compiled(**changes: Any) -> Experiment:
    """The experiment of a document."""
    return compile_config(first("e", parse_document(json.dumps(DOCUMENT | changes).encode())))


EXPERIMENT = compiled()
FREE = compiled(features=[])


def read(body: Any, experiment: Experiment = EXPERIMENT) -> RecommendationRequest:
    """A recommendation read from a value."""
    return read_recommendation(experiment, json.dumps(body).encode(), SECRET)


def asked(**body: Any) -> RecommendationRequest:
    """A recommendation with `CONTEXT`."""
    return read({"context": CONTEXT} | body)


def digest(request: RecommendationRequest) -> bytes:
    """The request's fingerprint."""
    return request.digest(pack_x(request.experiment.encoder.encode([request.context]))[0][0])


def refused(work: Callable[[], Any]) -> tuple[Code, list[str]]:
    """(code, pointers) of the problem that this raises."""
    with pytest.raises(Problem) as caught:
        work()
    return caught.value.code, [fault.pointer for fault in caught.value.faults]


def raw(text: bytes) -> Callable[[], RecommendationRequest]:
    """Reads these bytes as a recommendation."""
    return lambda: read_recommendation(EXPERIMENT, text, SECRET)
