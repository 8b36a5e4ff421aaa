"""Work that a process of its own does, so that decisions do not wait for it: asked on stdin, it answers on stdout.

It gives way to whoever decides, and is ended with the request that asked for it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from bandit.errors import Code, CorruptLog, Fault, Problem, StoreUnavailable

if TYPE_CHECKING:
    from bandit.store.protocol import Store

NICE = 10

T = TypeVar("T")


class Refused(msgspec.Struct):
    """A problem on its way from one process to the other."""

    code: Code
    detail: str
    faults: tuple[Fault, ...]


class Reply(msgspec.Struct, Generic[T]):
    """What a process answers: exactly one of the two."""

    found: T | None = None
    refused: Refused | None = None


# who asks


async def run(command: Sequence[str], question: bytes, seconds: float) -> bytes:
    """What a process writes to its standard output.

    Raises:
        TimeoutError: it took longer; it has ended.
        RuntimeError: it ended with another code than 0.
    """
    child = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    try:
        answer, _ = await asyncio.wait_for(child.communicate(question), seconds)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode:
        raise RuntimeError(f"a process ended with {child.returncode}; its own messages are above")
    return answer


def found_in(data: bytes, kind: type[T]) -> T:
    """What a process found.

    Raises:
        Problem: it refused.
    """
    reply: Reply[T] = msgspec.json.decode(data, type=Reply[kind])  # type: ignore[valid-type]
    if (refused := reply.refused) is not None:
        raise Problem(refused.code, refused.detail, refused.faults)
    if reply.found is None:
        raise RuntimeError("a process ended without an answer")
    return reply.found


class Asker(Generic[T]):
    """Asks such processes about a store's experiments, one at a time.

    Args:
        what: they do.
        kind: of their answer.
        less: what may be asked for where it takes too long.
        redis_url: the store's address.
    """

    def __init__(self, what: str, kind: type[T], less: str, redis_url: str) -> None:
        self.redis_url = redis_url
        self._what, self._kind, self._less = what, kind, less
        self._free = asyncio.Lock()

    async def ask(self, command: Sequence[str], asked: Any, seconds: float) -> T:
        """The answer to a question.

        Raises:
            Problem: `overloaded` while another one runs, or where it takes too long; or what the process finds.
        """
        if self._free.locked():
            raise Problem(Code.OVERLOADED, f"another {self._what} is running here; try again in a second")
        async with self._free:
            question = msgspec.json.encode((self.redis_url, asked))  # not as arguments, which everyone here can read
            try:
                answer = await run(command, question, seconds)
            except TimeoutError:
                detail = f"the {self._what} took longer than {seconds:.0f} seconds; ask for {self._less}"
                raise Problem(Code.OVERLOADED, detail) from None
        return found_in(answer, self._kind)


# the process


def answer(work: Callable[[], object]) -> None:
    """Do the work and write what it gives, or why it was refused."""
    os.nice(NICE)
    try:
        reply = Reply(found=work())
    except Problem as problem:
        reply = Reply(refused=Refused(problem.code, problem.detail, problem.faults))
    except StoreUnavailable:
        reply = Reply(refused=Refused(Code.STORE_UNAVAILABLE, "the store does not answer now", ()))
    except CorruptLog as error:
        reply = Reply(refused=Refused(Code.NOT_READY, f"its log cannot be read: {error}", ()))
    sys.stdout.buffer.write(msgspec.json.encode(reply))


def answer_about(work: Callable[[Store, T], object], kind: type[T]) -> None:
    """Answer an `Asker`'s question, which is of this kind, about its store."""
    from bandit.store.open import open_store  # and with it redis: not every process needs a store

    redis_url, asked = msgspec.json.decode(sys.stdin.buffer.read(), type=tuple[str, kind])  # type: ignore[valid-type]
    store = open_store(redis_url)
    try:
        answer(lambda: work(store, asked))
    finally:
        store.close()
