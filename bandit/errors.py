"""What can go wrong, in the words of the wire contract: a code, and what was expected, what came, and where.

A problem knows no HTTP status; one table in `bandit.serving.api.problems` maps codes to statuses.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from rapidfuzz import fuzz, process


class Code(StrEnum):
    """Every way a request can be refused."""

    MALFORMED = "malformed"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    EXPERIMENT_NOT_FOUND = "experiment_not_found"
    ARM_NOT_FOUND = "arm_not_found"
    DECISION_NOT_FOUND = "decision_not_found"
    EVENT_NOT_FOUND = "event_not_found"
    DECISION_ID_REUSED = "decision_id_reused"
    FEATURES_CHANGED = "features_changed"
    PAUSED = "paused"
    PRECONDITION_FAILED = "precondition_failed"
    CONFIRMATION_REQUIRED = "confirmation_required"
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    INVALID_EXPERIMENT = "invalid_experiment"
    INVALID_CONTEXT = "invalid_context"
    INVALID_REQUEST = "invalid_request"
    UNKNOWN_EVENT = "unknown_event"
    REWARD_OUT_OF_RANGE = "reward_out_of_range"
    REFUND_REFUSED = "refund_refused"
    TOO_MANY_EVENTS = "too_many_events"
    UNKNOWN_ARM = "unknown_arm"
    NOT_ENOUGH_ARMS = "not_enough_arms"
    STORE_UNAVAILABLE = "store_unavailable"
    OVERLOADED = "overloaded"
    NOT_READY = "not_ready"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"


class Fault(NamedTuple):
    """One fault of a document: where (a JSON pointer), what was expected, what came (a JSON type or a length)."""

    pointer: str
    expected: str
    got: str

    @property
    def text(self) -> str:
        """The fault as a clause for people."""
        return f"{self.pointer or 'the body'}: expected {self.expected}, got {self.got}"


class Problem(Exception):  # noqa: N818 - the wire's own word (RFC 9457)
    """A refused request. `detail` is for people, `faults` for programs; `wait` are seconds after which it may pass."""

    def __init__(self, code: Code, detail: str, faults: Iterable[Fault] = (), wait: int = 1) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.faults = tuple(faults)
        self.wait = wait

    @classmethod
    def of(cls, code: Code, faults: Iterable[Fault]) -> Problem:
        """The problem whose detail is its faults."""
        faults = tuple(faults)
        return cls(code, "; ".join(fault.text for fault in faults), faults)


class StoreUnavailable(Exception):  # noqa: N818
    """The store did not answer, or answered that it cannot write now; nothing is known of the call's effect."""


class StoreUnsuitable(Exception):  # noqa: N818
    """The store answers, but must not be used: too old, or it may evict what has to be kept."""


class CorruptLog(Exception):  # noqa: N818
    """A log entry or checkpoint that this version cannot read; folding on would make wrong sums."""


class EmbeddedError(RuntimeError):
    """The store of a data directory cannot be found, started or used."""


NAME_MAX = 256  # characters: nothing longer is a name mistyped
ALIKE = 60  # of 100: less is another name


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'NAME'?"` with the known name most like `name`, or the empty string."""
    if len(name) > NAME_MAX:
        return ""
    close = process.extractOne(name, list(known), scorer=fuzz.ratio, score_cutoff=ALIKE)
    return f"; did you mean {close[0]!r}?" if close else ""


def json_type(value: object) -> str:
    """The JSON name of a decoded value's type: what an error may say of a value without echoing it."""
    if isinstance(value, bool):
        return "boolean"
    names = {dict: "object", list: "array", str: "string", int: "number", float: "number", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def pointer(*parts: str | int) -> str:
    """The JSON pointer (RFC 6901) of a path."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def printable(text: str) -> str:
    """The text as a terminal or a log may show it: what is no letter, sign or space becomes its escape.

    So a name can neither colour a terminal, nor begin a line of its own, nor turn the direction of writing.
    """
    return text if text.isprintable() else "".join(map(_plain, text))


def _plain(letter: str) -> str:
    return letter if letter.isprintable() or unicodedata.category(letter) == "Zs" else repr(letter)[1:-1]
