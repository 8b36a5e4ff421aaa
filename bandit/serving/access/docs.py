"""What `/docs` and `/openapi.json` tell of keys: the routes about them, and what holds for every other one."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from bandit.access.audit import AuditEntry
from bandit.serving.access.gate import needed
from bandit.serving.api.problems import ProblemDetails
from bandit.serving.api.schemas import ref


class Identity(msgspec.Struct):
    """What a key may do.

    Attributes:
        key: The key's id; null where none was sent and none is asked for.
        name: What the key is for, as its maker said; "anonymous" where keys are not asked for.
        role: What it may do: "admin", "write", "read" or "read+write".
        experiments: The only experiments that it is for; null where it is for all.
        auth: Whether this server asks for keys.
    """

    key: str | None
    name: str
    role: str
    experiments: list[str] | None
    auth: bool


class Audit(msgspec.Struct):
    """A page of the audit log, the newest first.

    Attributes:
        entries: The changes of this page.
        next: The cursor of the next page; left out where no older entry is kept.
    """

    entries: list[AuditEntry]
    next: str | UnsetType = UNSET


TYPES = Identity, Audit
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer bs_...`."},
    "header": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The same key, for who sets it so.",
    },
}
_REFUSED = {
    "401": "no API key, or one that is not in force; only where keys are asked for",
    "403": "the key has another role, or is for other experiments",
    "429": "the key has been used too often; Retry-After says when it may be used again",
}
_PROBLEM = {"application/problem+json": {"schema": ref(ProblemDetails)}}
_EVERY = {status: {"description": text, "content": _PROBLEM} for status, text in _REFUSED.items()}


def guarded(document: dict[str, Any]) -> None:
    """Say of each operation of an OpenAPI document that it takes a key, and how it is refused; of the open ones not."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            role = needed(method.upper(), path)
            if role is None:
                operation["security"] = []
                continue
            operation["security"] = [{name: []} for name in SCHEMES]
            operation["responses"] |= _EVERY
            if role:
                operation["description"] = f"{operation.get('description', '')}\n\nRole: `{role}`.".strip()
    document["components"]["securitySchemes"] = SCHEMES
