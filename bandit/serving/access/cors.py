"""What browsers may do from pages of other origins (CORS): nothing, unless `cors_origins` names them.

Starlette's middleware answers preflights and all that comes as ASGI; `lines` is the same for the short way.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from bandit.errors import Code, Problem

METHODS = "GET", "PUT", "PATCH", "POST", "DELETE"
SENT = "Authorization", "Content-Type", "If-Match", "If-None-Match", "X-API-Key", "X-Request-ID", "Traceparent"
SHOWN = "RateLimit", "RateLimit-Policy", "Retry-After", "WWW-Authenticate", "X-Request-ID"
REMEMBERED = 600  # seconds that a browser may remember a preflight's answer


class Cors:
    """The rules for these origins, or for all with `*`."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = origins
        self._allowed = frozenset(origin.encode() for origin in origins)

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application behind these rules; a preflight that they forbid raises a `Problem`."""
        return _Middleware(
            app,
            allow_origins=self._origins,
            allow_methods=METHODS,
            allow_headers=SENT,
            expose_headers=SHOWN,
            max_age=REMEMBERED,
        )

    def lines(self, origin: bytes | None) -> bytes:
        """The header lines of an answer to a page of this origin; None: it did not say."""
        if origin is None:
            return b"vary: Origin\r\n"
        shown = b"access-control-expose-headers: %b\r\n" % ", ".join(SHOWN).encode()
        if b"*" in self._allowed:
            return shown + b"access-control-allow-origin: *\r\nvary: Origin\r\n"
        allowed = b"access-control-allow-origin: %b\r\n" % origin if origin in self._allowed else b""
        return shown + allowed + b"vary: Origin\r\n"


class _Middleware(CORSMiddleware):
    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a preflight; a refusal is ours, as every other."""
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        what = bytes(response.body).decode().rpartition(" CORS ")[2]
        raise Problem(Code.FORBIDDEN, f"what a page may ask by a browser is said by cors_origins; not so its {what}")
