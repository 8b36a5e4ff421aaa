"""An entry of the audit log: who changed what, when, from where, and what was there before and after.

The log is bounded: about `audit_entries` of them, each of at most `ENTRY_BYTES`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

import msgspec

from bandit.core.times import time_of

VALUE_BYTES = 512  # of one value's JSON
ENTRY_BYTES = 4096  # of an entry, about
PLACES = 50  # that one entry names


class Actor(NamedTuple):
    """Who changes something.

    Attributes:
        actor: id and name of the key, `command line`, or `anonymous` where keys are not asked for.
        role: in a word.
        address: finds the client's address; it is looked for only when something is changed.
        request_id: of the request, or empty.
    """

    actor: str
    role: str
    address: Callable[[], str] = str
    request_id: str = ""


ITSELF = Actor("the server", "admin")
ACTOR: ContextVar[Actor] = ContextVar("actor", default=ITSELF)


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A change that somebody made.

    Attributes:
        at: When it was asked for, RFC 3339 in UTC, by the server's clock.
        actor: Who asked: the id and name of a key, "command line", or "anonymous" where keys are not asked for.
        role: The role that allowed it.
        address: The client's address; empty on the command line.
        action: What was done: experiment.create, experiment.change, experiment.delete, arm.create, arm.change,
            arm.retire, key.create, key.rotate or key.revoke.
        target: The experiment, the arm as EXPERIMENT/ARM, or the key's id.
        before: What was there, by JSON pointer; of what was created nothing.
        after: What is there now, by JSON pointer; a value of more than 512 bytes is told by its size.
        request_id: The request's X-Request-ID, its own or the one that it was given; empty on the command line.
        outcome: How it ended: "done", or "unknown" where the server or the store ended before it could tell.
    """

    at: str
    actor: str
    role: str
    address: str
    action: str
    target: str
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    request_id: str
    outcome: str = "unknown"

    @property
    def experiment(self) -> str:
        """The experiment that was changed, or nothing."""
        return "" if self.action.startswith("key.") else self.target.partition("/")[0]

    def done(self) -> AuditEntry:
        """The same, once it is known to have happened."""
        return msgspec.structs.replace(self, outcome="done")

    def encoded(self) -> bytes:
        """As the store has it."""
        return _ENCODER.encode(self)


_ENCODER, _DECODER = msgspec.json.Encoder(), msgspec.json.Decoder(AuditEntry)


def entry_of(actor: Actor, action: str, target: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> AuditEntry:
    """An entry whose end is not known yet; it has what fits of `before` and `after`."""
    return AuditEntry(
        at=time_of(round(time.time() * 1000)),
        actor=actor.actor,
        role=actor.role,
        address=actor.address(),
        action=action,
        target=target,
        before=_bounded(before),
        after=_bounded(after),
        request_id=actor.request_id,
    )


def read_entry(data: bytes) -> AuditEntry:
    """An entry as the store has it; raises `msgspec.DecodeError`."""
    return _DECODER.decode(data)


def _bounded(values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    left = ENTRY_BYTES // 2
    for place, value in values.items():
        text = msgspec.json.encode(value)
        shown = value if len(text) <= VALUE_BYTES else f"({len(text)} bytes)"
        left -= len(place) + min(len(text), VALUE_BYTES)
        if left < 0 or len(found) == PLACES:
            return found | {"": f"and {len(values) - len(found)} more"}
        found[place] = shown
    return found
