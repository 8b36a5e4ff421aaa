"""Batches: up to a thousand requests in one. A faulty item fails alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from bandit.access.ring import GRANT
from bandit.core.experiment import Experiment
from bandit.errors import Code, Problem
from bandit.serving.api import answers
from bandit.serving.api.problems import details
from bandit.serving.requests import RecommendationRequest, read_batch
from bandit.serving.service import Service
from bandit.serving.waiting.gathered import TURN

ANSWER_MAX = 32 << 20  # bytes of a batch's answers, about
Read = Callable[[Experiment, Any, bytes], Any]
Render = Callable[[Any], Any]

_ENCODER = msgspec.json.Encoder()


async def answered(
    service: Service, what: str, name: str, data: bytes, read: Read, render: Render, again: Read
) -> bytes:
    """The answer to a batch.

    Args:
        service: which serves.
        what: the operation.
        name: of the experiment.
        data: the body.
        read: reads an item.
        render: turns what became of an item into its answer.
        again: reads an item as one that may have been answered before.

    Raises:
        Problem: the batch is at fault as a whole.
    """
    parts = read_batch(data)
    service.gate.charge(GRANT.get(), len(parts) - 1)
    secret = await service.secret()
    room = _Room(service.settings.body_limit)
    reads = [lambda experiment, part=part: room.read(experiment, part, secret, read) for part in parts]
    same = [lambda experiment, part=part: again(experiment, part, secret) for part in parts]
    found = await service.ask_all(name, reads, same)
    return await _encoded(found, render, lambda problem: service.refused(name, what, problem))


class _Room:
    """The bytes left for a batch's answers. An item whose answer would take more is refused before it is decided."""

    def __init__(self, item_limit: int) -> None:
        self.item_limit = item_limit
        self.sizes: dict[int, int] = {}  # of each item: one may be read again
        self.used = 0

    def read(self, experiment: Experiment, part: bytes, secret: bytes, read: Read) -> Any:
        """The item, if it is no larger than one alone may be, and there is room for its answer.

        Raises:
            Problem: too_large, or what `read` finds.
        """
        if len(bytes(part)) > self.item_limit:
            raise Problem(Code.TOO_LARGE, f"the request is larger than {self.item_limit} bytes")
        item = read(experiment, part, secret)
        size = answers.size_of(item) if isinstance(item, RecommendationRequest) else 0
        used = self.used - self.sizes.get(id(part), 0) + size
        if used > ANSWER_MAX:
            most = f"the answers to a batch may take {ANSWER_MAX >> 20} MiB"
            raise Problem(Code.TOO_LARGE, f"{most}: ask for fewer decisions at once, or for shorter lists")
        self.sizes[id(part)], self.used = size, used
        return item


async def _encoded(results: Sequence[Any], render: Render, refused: Callable[[Problem], None]) -> bytes:
    """A batch's answer, an item at a time: long lists take long, and others are served in between."""
    parts, turn = [], time.monotonic()
    for result in results:
        parts.append(_ENCODER.encode(_rendered(result, render, refused)))
        if time.monotonic() - turn > TURN:
            await asyncio.sleep(0)
            turn = time.monotonic()
    parts = parts or [b""]
    parts[0] = b'{"results":[' + parts[0]
    parts[-1] += b"]}"
    return b",".join(parts)


def _rendered(result: Any, render: Render, refused: Callable[[Problem], None]) -> Any:
    """An item of a batch's answer: the answer, or its problem, which is counted."""
    try:
        if not isinstance(result, Problem):
            return render(result)
        problem = result
    except Problem as found:
        problem = found
    refused(problem)
    return {"problem": details(problem)}
