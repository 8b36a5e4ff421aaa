"""A sample of data as it is sent, and the experiment's document that it suggests; one at a time in each worker."""

from __future__ import annotations

import asyncio
import threading

import msgspec
from msgspec import UNSET, UnsetType

from bandit.core.inferred.proposal import Proposal, proposed
from bandit.core.inferred.table import read_table
from bandit.core.validation import malformed, typed_problem
from bandit.errors import Code, Problem

BUSY = threading.Lock()  # held while a sample is looked at: it takes the interpreter from those who decide


class SampleBody(msgspec.Struct, forbid_unknown_fields=True):
    """A sample of data, as JSON.

    Attributes:
        csv: The rows as CSV, the first line with the names of the columns; the separator is found out.
        roles: What columns are for where that is known, by their names: "arm", "reward", "propensity", "time", "user",
            "decision_id", "position", "feature" or "dropped"; by default every role is guessed.
    """

    csv: str
    roles: dict[str, str] | UnsetType = UNSET


_JSON: msgspec.json.Decoder[SampleBody] = msgspec.json.Decoder(SampleBody)


async def proposal_of(data: bytes, *, plain: bool) -> Proposal:
    """What a sample suggests, worked out beside the event loop.

    Args:
        data: the body.
        plain: whether it is the CSV itself, rather than JSON around it.

    Raises:
        Problem: malformed, or invalid_request; overloaded while another sample is being looked at.
    """
    if not BUSY.acquire(blocking=False):
        raise Problem(Code.OVERLOADED, "another sample is being looked at; try again in a second")
    return await asyncio.shield(asyncio.to_thread(_worked_out, data, plain))


def _worked_out(data: bytes, plain: bool) -> Proposal:
    try:
        if plain:
            return proposed(read_table(_text(data)))
        body = _read(data)
        return proposed(read_table(body.csv, "/csv"), body.roles or {}, "/roles")
    finally:
        BUSY.release()


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Problem(Code.MALFORMED, "the body is not text in UTF-8") from None


def _read(data: bytes) -> SampleBody:
    try:
        return _JSON.decode(data)
    except msgspec.ValidationError as error:
        raise typed_problem(error, Code.INVALID_REQUEST, SampleBody) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error, data) from None
