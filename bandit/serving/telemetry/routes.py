"""GET /metrics: the numbers of all workers of this server, whichever answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from bandit.serving.api import native
from bandit.telemetry.counters import Counters, Snapshot
from bandit.telemetry.exposition import rendered, together

_THREAD = ThreadPoolExecutor(1, "metrics")  # its own: whatever holds up the others is to be seen here

Everyone = Callable[[], Awaitable[Sequence[tuple[str, bool, Snapshot]]]]


def alone(counters: Counters) -> Everyone:
    """Of a process that has no others beside it."""

    async def everyone() -> Sequence[tuple[str, bool, Snapshot]]:
        counters.look()
        return [("0", True, counters.snapshot())]

    return everyone


METRICS: dict[str, Any] = {
    "responses": {
        200: {
            "description": "every metric, as text 0.0.4 or, where Accept asks for it, as OpenMetrics",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        }
    }
}

router = APIRouter(tags=["health"], dependencies=[Depends(native.known_only)])


@router.get("/metrics", response_class=Response, **METRICS)
async def metrics(request: Request) -> Response:
    """What Prometheus scrapes: counters, gauges and histograms, summed over this server's workers."""
    everyone: Everyone = request.app.state.everyone
    parts = await everyone()
    accept = request.headers.get("accept", "")
    text, kind = await asyncio.get_running_loop().run_in_executor(_THREAD, lambda: rendered(together(parts), accept))
    return Response(text, media_type=kind)
