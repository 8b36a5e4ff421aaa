"""`/v1/whoami` and `/v1/audit`, and who is behind a request."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from msgspec import UNSET
from starlette.types import Message, Scope, Send

from bandit.access.audit import Actor, AuditEntry, read_entry
from bandit.access.ring import GRANT, Grant
from bandit.errors import Code, Fault, Problem
from bandit.serving.access.docs import Audit, Identity
from bandit.serving.api import docs, native
from bandit.serving.service import Service
from bandit.settings import Network, Settings
from bandit.telling import REQUEST_ID

router = APIRouter(tags=["access"], dependencies=[Depends(native.known_only)])

Limit = Annotated[int, Query(ge=1, le=1000, description="at most so many on a page")]
Cursor = Annotated[str, Query(description="the `next` of the page before; empty for the newest")]
Named = Annotated[str, Query(description="only changes of this experiment and its arms")]

WHOAMI = docs.asking({200: "the key"}, Identity, 422)
AUDIT = docs.asking({200: "entries"}, Audit, 422, 503)

STEP = 1000  # entries read at once
MOST = 20  # steps of one page: a filter that finds little answers what it has, with `next`
_CURSOR = re.compile(r"(\d{1,20}-\d{1,20})?", re.ASCII)


@router.get("/v1/whoami", **WHOAMI)
async def whoami(request: Request) -> Response:
    """What the key that was sent may do."""
    grant, service = GRANT.get(), native.service_of(request)
    named = None if grant.experiments is None else sorted(grant.experiments)
    return native.json_answer(Identity(grant.id, grant.name, grant.role, named, service.gate.on))


@router.get("/v1/audit", **AUDIT)
async def audit(request: Request, limit: Limit = 100, cursor: Cursor = "", experiment: Named = "") -> Response:
    """Who changed what, when, from where; the newest first."""
    if _CURSOR.fullmatch(cursor) is None:
        raise Problem.of(Code.INVALID_REQUEST, [Fault("/query/cursor", "the `next` of a page", "another string")])
    service, grant = native.service_of(request), GRANT.get()
    return native.json_answer(await service.experiments.call(_page, service, grant, limit, cursor, experiment))


def _page(service: Service, grant: Grant, limit: int, cursor: str, experiment: str) -> Audit:
    found: list[AuditEntry] = []
    at = cursor
    for _ in range(MOST):
        entries = service.store.audited(at, STEP if experiment or grant.experiments is not None else limit + 1)
        for position, data in entries:
            entry = _read(data)
            if len(found) == limit:
                return Audit(found, at)
            at = position
            if entry is not None and _shown(entry, grant, experiment):
                found.append(entry)
        if not entries:
            return Audit(found, UNSET)
    return Audit(found, at)


def _read(data: bytes) -> AuditEntry | None:
    try:
        return read_entry(data)
    except msgspec.DecodeError:
        return None  # a later version's


def _shown(entry: AuditEntry, grant: Grant, experiment: str) -> bool:
    if experiment and entry.experiment != experiment:
        return False
    return grant.experiments is None or entry.experiment in grant.experiments


def actor_of(grant: Grant, scope: Scope, settings: Settings) -> Actor:
    """Who is behind a request; the address is made out only when it is asked for."""
    name = grant.name if grant.id is None else f"{grant.id} {grant.name}"
    return Actor(name, grant.role, lambda: address_of(scope, settings.proxies), REQUEST_ID.get())


def address_of(scope: Scope, proxies: tuple[Network, ...]) -> str:
    """The client's address: the peer's, or where that is a proxy that is believed, the last before it that is none."""
    peer = (scope.get("client") or ("",))[0]
    header = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for").decode("latin-1")
    chain = [word.strip() for word in header.split(",") if word.strip()]
    while chain and _is_within(peer, proxies):
        try:
            ipaddress.ip_address(following := chain.pop())
        except ValueError:
            break
        peer = following
    return peer


def _is_within(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        return any(ipaddress.ip_address(address) in network for network in networks)
    except ValueError:
        return False


def with_headers(send: Send, headers: tuple[tuple[bytes, bytes], ...]) -> Send:
    """`send`, which adds these headers to the answer."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *headers]}
        await send(message)

    return sent
