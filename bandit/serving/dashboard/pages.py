"""`/dashboard`: its files, read and compressed once at start, and answered from memory. They need no key."""

from __future__ import annotations

import gzip
import hashlib
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

from fastapi import APIRouter, Request, Response

from bandit.errors import Code, Problem

INDEX = "index.html"
TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
# Stricter than the policy of other pages, whose further headers these files get as well (`access.headers`): nothing
# inline, and no text becomes markup or code, as what is shown are names that somebody else chose.
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # kept, and asked about by its ETag: a new version of the server is seen at once
    "Vary": "Accept-Encoding",
}


class Static(NamedTuple):
    """A file as it is served."""

    plain: bytes
    packed: bytes  # by gzip
    etag: str
    type: str


def _read(place: Traversable, path: str = "") -> dict[str, Static]:
    """Every file below a place that is of a type to be served, by its path."""
    found: dict[str, Static] = {}
    for each in place.iterdir():
        name = f"{path}{each.name}"
        if each.is_dir():
            found |= _read(each, f"{name}/")
        elif (kind := TYPES.get(name.rpartition(".")[2])) is not None:
            plain = each.read_bytes()
            etag = f'"{hashlib.sha256(plain).hexdigest()[:32]}"'
            found[name] = Static(plain, gzip.compress(plain, 9, mtime=0), etag, kind)
    return found


FILES = _read(files(__package__) / "static")

router = APIRouter(include_in_schema=False)  # pages are no part of the API


@router.get("/dashboard")
async def index(request: Request) -> Response:
    """The page that loads all else; which part it shows stands behind the # of its address."""
    return _answer(request, INDEX)


@router.get("/dashboard/")
async def misspelt(request: Request) -> Response:
    """To the address without the last slash: what the page loads it names relative to that."""
    return Response(status_code=308, headers={**HEADERS, "Location": "../dashboard"})


@router.get("/dashboard/{name:path}")
async def file(request: Request, name: str) -> Response:
    """One of its files.

    Raises:
        Problem: not_found.
    """
    return _answer(request, name)


def _answer(request: Request, name: str) -> Response:
    if (found := FILES.get(name)) is None:
        raise Problem(Code.NOT_FOUND, "the dashboard has no such file")
    headers = {**HEADERS, "ETag": found.etag}
    if found.etag in (each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")):
        return Response(status_code=304, headers=headers)
    if not _takes_gzip(request.headers.get("accept-encoding", "")):
        return Response(found.plain, headers=headers, media_type=found.type)
    return Response(found.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=found.type)


def _takes_gzip(accepted: str) -> bool:
    """Whether a client says that it reads gzip."""
    for each in accepted.lower().split(","):
        name, _, quality = each.partition(";")
        if name.strip() in ("gzip", "*"):
            return quality.replace(" ", "").removeprefix("q=").strip("0.") != "" or not quality.strip()
    return False
