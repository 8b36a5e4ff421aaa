"""The ASGI application, put together: the routes of `native`, deciding and feedback before them, pages, errors."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import cache
from urllib.parse import unquote_to_bytes

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount
from starlette.types import Receive, Scope, Send

from bandit import __version__
from bandit.access.audit import ACTOR
from bandit.access.ring import GRANT
from bandit.errors import Code, Fault, Problem, pointer
from bandit.serving.access import routes as access
from bandit.serving.access.gate import PAGES
from bandit.serving.access.headers import with_page_headers
from bandit.serving.api import docs, hot, native
from bandit.serving.api.problems import INTERNAL, JSON, Answer, problem_answer, problem_response, response
from bandit.serving.dashboard import pages as dashboard
from bandit.serving.firstminutes import routes as firstminutes
from bandit.serving.service import Service
from bandit.serving.telemetry import routes as telemetry
from bandit.serving.telemetry.requests import Counted
from bandit.serving.telemetry.routes import Everyone, alone
from bandit.serving.views import routes as views
from bandit.serving.views.service import Views
from bandit.settings import Phase, expected_by
from bandit.telemetry import request_ids
from bandit.telemetry.table import OTHER
from bandit.telling import REQUEST_ID

log = logging.getLogger(__name__)

_ENCODER = msgspec.json.Encoder()


def build_app(
    service: Service, phase: Callable[[], Phase] = lambda: Phase.READY, everyone: Everyone | None = None
) -> Front:
    """The application in front of a service: ASGI.

    Args:
        service: already open; who opened it closes it.
        phase: of all workers of this start, so that `/readyz` speaks for all of them.
        everyone: gives what all workers have counted; by default there is this one only.
    """
    app: FastAPI = FastAPIOffline(
        title="bandit-server",
        version=__version__,
        redoc_url=None,
        description=DESCRIPTION,
        redirect_slashes=False,
        swagger_ui_parameters={"validatorUrl": None},  # else the page asks another server whether our document is valid
    )
    app.state.service, app.state.phase = service, phase
    app.state.everyone = everyone or alone(service.counters)
    app.include_router(native.router)
    app.include_router(native.health)
    app.include_router(firstminutes.router)
    app.include_router(telemetry.router)
    app.include_router(dashboard.router)
    app.include_router(access.router)
    app.state.views = Views(service)
    app.include_router(views.router)
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_query)
    app.add_exception_handler(Exception, _on_bug)
    plain = app.openapi
    app.openapi = cache(lambda: docs.complete(plain()))  # type: ignore[method-assign]  # it takes some 30 ms
    return Front(app, service)


DESCRIPTION = "An online contextual-bandit decision server: ask which arm to show, report what came of it."


ELSEWHERE = "", OTHER  # in the place of an experiment and an operation
ANSWERED = "bandit.answered"  # in a scope: its request failed, and the client has been told
COUNTED = "bandit.counted"  # in a scope: its `Counted`, whatever stands before it


class Front:
    """Stands before the framework: answers deciding and feedback itself, and refuses addresses that mislead.

    The framework's way to a route costs more than a decision.

    Args:
        app: the framework's application.
        service: which serves.
    """

    _address = re.compile(rf"/v1/experiments/([^/]+)/((?:{hot.NAMES})(?:/batch)?)")

    def __init__(self, app: FastAPI, service: Service) -> None:
        self.app, self._service = app, service
        self._document = cache(lambda: _ENCODER.encode(app.openapi()))
        self._served = service.gate.cors.around(self._serve) if service.gate.cors else self._serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, counted, and those that a browser asks before one, too."""
        if scope["type"] != "http":
            await self._pass_on(scope, receive, send)
            return
        request_id = request_ids.of(scope["headers"])
        REQUEST_ID.set(request_id.decode())  # until the task of this request ends
        counted = scope[COUNTED] = Counted(self._service, scope, send, request_id)
        try:
            await self._served(scope, receive, counted)
        except Problem as problem:  # a preflight's
            self._service.refused(*ELSEWHERE, problem)
            await _sent(counted, problem_answer(problem))
        finally:
            counted.end()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through the gate, or refuse it without reading its body."""
        counted: Counted = scope[COUNTED]
        verdict = self._service.gate.judge(scope["method"], scope["path"], scope["headers"])
        GRANT.set(verdict.grant)  # of this request's own task
        ACTOR.set(access.actor_of(verdict.grant, scope, self._service.settings))
        answer = verdict.refusal
        if verdict.problem is not None:
            if found := self._address.fullmatch(scope["path"]):
                counted.route, counted.asked = found[2], (found[1], found[2])
            self._service.refused(*(counted.asked or ELSEWHERE), verdict.problem)
        try:
            answer = answer or await self._answer(scope, receive, counted)
        except Exception as error:
            answer = hot.failure(error)
            self._service.refused(*(counted.asked or ELSEWHERE), error)
        if answer is None:
            if scope["method"] == "HEAD":
                scope = {**scope, "method": "GET"}  # whoever sends the answer knows, and leaves its body out
            shown: Send = access.with_headers(send, verdict.headers) if verdict.headers else send
            await self._pass_on(scope, receive, with_page_headers(shown) if PAGES.fullmatch(scope["path"]) else shown)
            counted.route = getattr(scope.get("route"), "path", counted.route)
            return
        await _sent(send, answer._replace(headers=(*answer.headers, *verdict.headers)))

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The framework raises an error again that it has answered: then the connection would be cut."""
        try:
            await self.app(scope, receive, send)
        except Exception:
            if ANSWERED not in scope:
                raise

    async def _answer(self, scope: Scope, receive: Receive, send: Counted) -> Answer | None:
        """The answer to a request of these routes; None to any other.

        Raises:
            Problem: the address misleads, or the request is at fault.
        """
        path = scope["path"]
        if b"%" in scope["raw_path"] or b"%" in scope["query_string"]:
            _check_escapes(scope["raw_path"], scope["query_string"])
        if path == self.app.openapi_url and scope["method"] in ("GET", "HEAD"):
            send.route = path
            return Answer(200, JSON, self._document())
        found = self._address.fullmatch(path) if scope["method"] == "POST" else None
        if found is not None:
            send.route, send.asked = found[2], (found[1], found[2])
        if found is not None and scope["query_string"]:
            faults = [Fault("/query", "no parameters", "some")]
            raise Problem.of(Code.INVALID_REQUEST, faults)
        if found is not None:
            return await hot.answer(self._service, found[2], found[1], scope["headers"], receive)
        if path.endswith("\n"):  # the router's patterns let a line end through: .../arms/a%0A would be a
            raise Problem(Code.NOT_FOUND, "an address must not end with a line break")
        return None


async def _sent(send: Send, answer: Answer) -> None:
    headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


_BROKEN = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def _check_escapes(path: bytes, query: bytes) -> None:
    """Refuse an address that does not decode exactly: two names could become one.

    Raises:
        Problem: `malformed` for a % without two digits and for what is not UTF-8; `not_found` for a / that is written
            %2F anywhere but in an arm's name: decoded, an experiment's name would go on as another address.
    """
    for part in (path, query):
        if _BROKEN.search(part):
            raise Problem(
                Code.MALFORMED, "a % in an address must be followed by two hexadecimal digits; % itself is written %25"
            )
        try:
            unquote_to_bytes(part).decode()
        except UnicodeDecodeError:
            raise Problem(Code.MALFORMED, "the percent-escapes of an address must be UTF-8") from None
    if any(b"%2f" in part.lower() for part in path.split(b"/", 5)[:5]):
        raise Problem(Code.NOT_FOUND, "a / written as %2F is allowed only in an arm's name")


async def _on_problem(request: Request, error: Exception) -> Response:
    """Any problem, as problem details, counted."""
    if not isinstance(error, Problem):
        raise error
    request.app.state.service.refused(*ELSEWHERE, error)
    return problem_response(error)


async def _on_http(request: Request, error: Exception) -> Response:
    """No such address, or not with this method."""
    status = error.status_code if isinstance(error, HTTPException) else 404
    code = Code.METHOD_NOT_ALLOWED if status == 405 else Code.NOT_FOUND
    response = await _on_problem(request, Problem(code, f"{request.method} of this address is not served; see /docs"))
    response.headers.update(getattr(error, "headers", None) or {})
    if status == 405 and (methods := _methods(request)):
        response.headers["Allow"] = ", ".join(methods)
    return response


METHODS = "GET", "PUT", "PATCH", "POST", "DELETE"


def _methods(request: Request) -> list[str]:
    """The methods that an address takes, by all of its routes; the router names only those of the first."""
    routes = [route for route in request.app.router.routes if not isinstance(route, Mount)]  # whose Allow is whole
    plain = {"type": "http", "path": request.scope["path"], "root_path": "", "headers": []}
    scopes = ((method, plain | {"method": method}) for method in METHODS)
    found = [method for method, scope in scopes if any(route.matches(scope)[0] is Match.FULL for route in routes)]
    return ["GET", "HEAD", *found[1:]] if "GET" in found else found  # HEAD is answered where GET is


async def _on_query(request: Request, error: Exception) -> Response:
    """The answer to an invalid query parameter."""
    found = error.errors() if isinstance(error, RequestValidationError) else []
    faults = [Fault(pointer(*each["loc"]), expected_by(each) or each["msg"], "another value") for each in found]
    return await _on_problem(request, Problem.of(Code.INVALID_REQUEST, faults))


async def _on_bug(request: Request, error: Exception) -> Response:
    """An error of the server itself: logged with its traceback, which the client does not see."""
    log.exception("%s %s failed", request.method, request.url.path, exc_info=error)
    request.app.state.service.refused(*ELSEWHERE, error)
    request.scope[ANSWERED] = True
    return response(INTERNAL)
