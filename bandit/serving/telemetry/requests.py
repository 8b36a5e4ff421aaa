"""Requests, counted by route, method and status, whichever way they went."""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import TYPE_CHECKING

from starlette.types import Message, Scope, Send

from bandit.telemetry.counters import Cell, Counters, Histogram
from bandit.telemetry.request_ids import HEADER
from bandit.telemetry.table import FAST, OTHER

if TYPE_CHECKING:
    from bandit.serving.service import Service

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Requests:
    """The requests of one process.

    Args:
        counters: of this process.
    """

    def __init__(self, counters: Counters) -> None:
        self.counters = counters
        self._codes: dict[tuple[str, str, int], Cell] = {}
        self._short: dict[tuple[str, int], tuple[Cell, Cell]] = {}
        self._durations: dict[tuple[str, str], Histogram] = {}

    def told(self, what: str, status: int, seconds: float) -> None:
        """A request for one of an experiment's operations was answered; `what` is the address behind its name."""
        found = self._short.get((what, status))
        if found is None:
            code = self.counters.cell("bandit_http_requests_total", template(what), "POST", str(status))
            duration = self.counters.cell("bandit_http_request_duration_seconds", template(what), "POST")
            found = self._short[what, status] = code, duration
        code, duration = found
        code[0] += 1
        duration[bisect_left(FAST, seconds)] += 1  # as `Histogram.observe`, in half of its time
        duration[-1] += seconds
        self.counters.moved = True

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered; a route that begins with no / is one of an experiment."""
        if method not in METHODS:
            method = OTHER
        cell = self._codes.get((route, method, status))
        if cell is None:
            cell = self._code(route, method, status)
        cell[0] += 1
        self._durations[route, method].observe(seconds)
        self.counters.moved = True

    def _code(self, route: str, method: str, status: int) -> Cell:
        """The cells of what has not come before."""
        shown = template(route)
        if (route, method) not in self._durations:
            duration = self.counters.histogram("bandit_http_request_duration_seconds", shown, method)
            self._durations[route, method] = duration
        cell = self.counters.cell("bandit_http_requests_total", shown, method, str(status))
        self._codes[route, method, status] = cell
        return cell


class Counted:
    """Passes on one answer of the ASGI way, and counts it when it is over: in the place of `send`.

    Args:
        service: where it is counted.
        scope: of the request.
        send: who sends.
        request_id: for the answer's headers.
    """

    def __init__(self, service: Service, scope: Scope, send: Send, request_id: bytes) -> None:
        self._service, self._method, self._send, self._since = service, scope["method"], send, time.monotonic()
        self._request_id = request_id
        self._span = None if service.spans is None else service.spans.begin(scope)
        self._status = 499  # where no answer was begun: the client has gone
        self.route = OTHER
        self.asked: tuple[str, str] | None = None  # (experiment, operation), of deciding and feedback

    async def __call__(self, message: Message) -> None:
        """Pass on."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            message["headers"] = [*message["headers"], (HEADER, self._request_id)]
        await self._send(message)

    def end(self) -> None:
        """Count."""
        self._service.requests.answered(self.route, self._method, self._status, time.monotonic() - self._since)
        if self._span is not None and self._service.spans is not None:
            request_id = self._request_id.decode()
            self._service.spans.end(self._span, self._method, template(self.route), self._status, request_id)


def template(route: str) -> str:
    """The route as metrics and traces show it."""
    return route if route.startswith("/") or route == OTHER else f"/v1/experiments/{{e}}/{route}"
