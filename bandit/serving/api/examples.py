"""What a real server was sent, in this order, and what it answered; `tests/bandit/api/test_api_docs.py` renews it.

Each line of `examples.jsonl` is one exchange. The first of an operation and status is the example of that operation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

PATH = Path(__file__).with_name("examples.jsonl")


class Exchange(msgspec.Struct, omit_defaults=True):
    """A request and its answer.

    Attributes:
        operation: the method and the address as the OpenAPI document has it.
        e: what stands for `{e}`.
        arm: what stands for `{arm}`.
        decision_id: what stands for `{decision_id}`.
        query: after the address.
        body: what was sent.
        status: of the answer.
        answer: its body.
    """

    operation: str
    e: str = "home"
    arm: str = ""
    decision_id: str = ""
    query: str = ""
    body: Any | UnsetType = UNSET
    status: int = 0
    answer: Any | UnsetType = UNSET

    @property
    def method(self) -> str:
        """GET, PUT and so on."""
        return self.operation.partition(" ")[0]

    @property
    def address(self) -> str:
        """Path and query."""
        path = self.operation.partition(" ")[2].format(e=self.e, arm=self.arm, decision_id=self.decision_id)
        return f"{path}?{self.query}" if self.query else path


def read() -> list[Exchange]:
    """Every exchange, in order."""
    return msgspec.json.decode(b"[" + b",".join(PATH.read_bytes().splitlines()) + b"]", type=list[Exchange])


EXCHANGES = read()


def body_of(operation: str) -> Any:
    """The body of the operation's first example."""
    return next(each.body for each in EXCHANGES if each.operation == operation)


def answer_of(operation: str, status: int) -> Any:
    """The answer of the operation's first example of this status."""
    return next(each.answer for each in EXCHANGES if (each.operation, each.status) == (operation, status))
