"""What browsers may do from pages of other origins (CORS): nothing, unless `cors_origins` names them.

Starlette's middleware answers preflights and all that comes as ASGI; `lines` is the same for the short way.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

METHODS = "GET", "PUT", "PATCH", "POST", "DELETE"
SENT = "Authorization", "Content-Type", "If-Match", "X-API-Key", "X-Request-ID", "Traceparent"
SHOWN = "RateLimit", "RateLimit-Policy", "Retry-After", "WWW-Authenticate", "X-Request-ID"
REMEMBERED = 600  # seconds that a browser may remember a preflight's answer


class Cors:
    """The rules for these origins, or for all with `*`."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = origins
        self._allowed = frozenset(origin.encode() for origin in origins)

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application behind these rules."""
        return CORSMiddleware(
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
