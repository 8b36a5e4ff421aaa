"""Bodies: read with a cap, only as JSON, so that no request costs more than its limit."""

from __future__ import annotations

from starlette.requests import Request

from bandit.errors import Code, Fault, Problem


async def read(request: Request, limit: int) -> bytes:
    """A request's body.

    Raises:
        Problem: `too_large` by its declared or its real length, or `unsupported_media_type`.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        fault = Fault("", "Content-Type: application/json", "another type")
        raise Problem(Code.UNSUPPORTED_MEDIA_TYPE, "bodies are JSON: send Content-Type: application/json", [fault])
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


def _too_large(limit: int) -> Problem:
    return Problem(Code.TOO_LARGE, f"the body is larger than {limit} bytes", [Fault("", f"<= {limit} bytes", "more")])
