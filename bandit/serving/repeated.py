"""Requests that repeat a decision made before columns came or went: the same request is the same decision all the same.

A digest is made of x as it was logged. So x is made again with the columns of then; of a feature that is gone, whatever
was said of it counts as the same.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bandit.core.experiment import Experiment
from bandit.core.features import Derived, compile_encoder, earlier
from bandit.log.records import DEFERRED, SPARSE, unpack_decision
from bandit.log.vectors import pack_x, sparse_x, unpack_x
from bandit.serving.requests import RecommendationRequest


def digest_then(request: RecommendationRequest, experiment: Experiment, record: bytes) -> bytes | None:
    """The fingerprint that a request would have had when this decision was logged; None: it would have been refused."""
    decision = unpack_decision(record)
    layout, version, context = experiment.layout, decision.head.version, request.context
    if not layout.changed_since(version):
        if isinstance(context, dict):
            return None  # refused now, and so it would have been
        ((x, _),) = pack_x(experiment.encoder.encode([context]), layout)
        return request.digest(x)
    sparse, total = decision.head.flags & SPARSE, layout.total_at(version)
    d = total if sparse else len(decision.x) // 2
    (row,) = unpack_x([(decision.x, sparse)], d)
    for feature in experiment.document.features:
        if isinstance(feature, Derived) or (then := earlier(feature, layout, total)) is None:
            continue
        if (values := _encoded(then.feature, msgspec.to_builtins(context))) is None:
            return None
        row[then.columns] = values
    if not sparse:
        return request.digest(row.astype("<i2").tobytes())
    (pairs,) = sparse_x(row[None], np.arange(total))
    return request.digest(pairs)


def will_do(record: bytes, request: RecommendationRequest) -> bool:
    """Whether a user's earlier decision answers this request: as many arms, all of which may be shown, and learned from
    unless this one is to wait as well.
    """
    decision = unpack_decision(record)
    if decision.head.flags & DEFERRED and not request.deferred:
        return False
    return len(decision.arms) == request.k and bool(request.eligible[list(decision.arms)].all())


def _encoded(feature: Any, context: dict[str, Any]) -> NDArray[np.int16] | None:
    """The columns of one feature."""
    encoder = compile_encoder([feature])
    own = {name: value for name, value in context.items() if name == feature.name}
    try:
        x = encoder.encode([msgspec.convert(own, encoder.context_type)])
    except msgspec.ValidationError:
        return None
    found: NDArray[np.int16] = x[0, 1:]
    return found
