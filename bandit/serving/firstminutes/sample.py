"""A sample of data as it is sent, and the experiment's document that it suggests; one at a time in each worker.

A large one is looked at by a process of its own, as an evaluation is: a thread, which takes the interpreter from those
who decide, kept some of them waiting for up to 0.4 s.
"""

from __future__ import annotations

import asyncio
import sys
import threading

import msgspec
from msgspec import UNSET, UnsetType

from bandit.core.inferred.proposal import Proposal, proposed
from bandit.core.inferred.table import read_table
from bandit.core.validation import malformed, typed_problem
from bandit.errors import Code, Problem
from bandit.serving.child import answer, found_in, run

BUSY = threading.Lock()  # held while a sample is looked at
SMALL = 1 << 14  # bytes that are looked at in a thread: 20 ms
SECONDS = 60.0


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
    try:
        if len(data) <= SMALL:
            return await asyncio.to_thread(_worked_out, data, plain)
        return found_in(await _child(data, plain), Proposal)
    finally:
        BUSY.release()


async def _child(data: bytes, plain: bool) -> bytes:
    """What the process answers.

    Raises:
        Problem: overloaded, where it took too long, could not begin, or was killed.
    """
    command = sys.executable, "-P", "-m", __name__, *(["plain"] if plain else [])  # -P: a redis.py there is not ours
    try:
        return await run(command, data, SECONDS)
    except (TimeoutError, OSError, RuntimeError):  # the last is also uvloop's, of a pipe whose reader has gone
        detail = "the sample could not be looked at now; try again, or with fewer rows"
        raise Problem(Code.OVERLOADED, detail) from None


def _worked_out(data: bytes, plain: bool) -> Proposal:
    if plain:
        return proposed(read_table(_text(data)))
    body = _read(data)
    return proposed(read_table(body.csv, "/csv"), body.roles or {}, "/roles")


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


if __name__ == "__main__":
    answer(lambda: _worked_out(sys.stdin.buffer.read(), sys.argv[1:] == ["plain"]))
