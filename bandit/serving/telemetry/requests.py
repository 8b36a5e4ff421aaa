"""Requests, counted by route, method and status, whichever way they went."""

from __future__ import annotations

import time

from starlette.types import Message, Send

from bandit.telemetry.counters import Cell, Counters, Histogram
from bandit.telemetry.request_ids import HEADER
from bandit.telemetry.table import OTHER

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Requests:
    """The requests of one process.

    Args:
        counters: of this process.
    """

    def __init__(self, counters: Counters) -> None:
        self.counters = counters
        self._codes: dict[tuple[str, str, int], Cell] = {}
        self._durations: dict[tuple[str, str], Histogram] = {}

    def told(self, what: str, status: int, seconds: float) -> None:
        """A request for one of an experiment's operations was answered; `what` is the address behind its name."""
        self.answered(what, "POST", status, seconds)

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
        shown = _template(route)
        if (route, method) not in self._durations:
            duration = self.counters.histogram("bandit_http_request_duration_seconds", shown, method)
            self._durations[route, method] = duration
        cell = self.counters.cell("bandit_http_requests_total", shown, method, str(status))
        self._codes[route, method, status] = cell
        return cell


class Counted:
    """Passes on one answer of the ASGI way, and counts it when it is over: in the place of `send`.

    Args:
        requests: where it is counted.
        method: of the request.
        send: who sends.
        request_id: for the answer's headers.
    """

    def __init__(self, requests: Requests, method: str, send: Send, request_id: bytes) -> None:
        self._requests, self._method, self._send, self._since = requests, method, send, time.monotonic()
        self._request_id = request_id
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
        self._requests.answered(self.route, self._method, self._status, time.monotonic() - self._since)


def _template(route: str) -> str:
    return route if route.startswith("/") or route == OTHER else f"/v1/experiments/{{e}}/{route}"
