"""What goes over the wire: the bodies of requests, the answers, and the error of everything refused."""

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Final, Required, TypedDict, TypeVar
from uuid import uuid4

import msgspec

from bandit.client.values import Id, name_sent, names_sent, plain

T = TypeVar("T")

# What passes by itself. The two gateway codes are a proxy's while the server behind it restarts.
RETRIED: Final = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
UNREACHABLE: Final = 0  # the status of a ClientError when no answer came at all
NO_ANSWER: Final = "unreachable"  # and its code
OVERLOADED: Final = "overloaded"
NOTHING_TO_SHOW: Final = frozenset({"paused", "not_enough_arms"})  # what editors bring about, and no caller mends
BATCH: Final = 1000  # requests that the server takes at once


class ClientError(Exception):
    """The server refused, or never answered within the deadline.

    Attributes:
        status: the HTTP status; 0 if no answer came.
        code: the problem's code, such as `unknown_arm`; `unreachable` if no answer came.
        detail: what was expected and what came, for people.
        errors: `{pointer, expected, got}` of each faulty field, if the server named any.
        retry_after: seconds after which the server asked to be called again, if it did.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: Sequence[Mapping[str, Any]] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status, self.code, self.detail, self.errors = status, code, detail, list(errors)
        self.retry_after = retry_after

    @property
    def passes(self) -> bool:
        """Whether the same request may be answered later."""
        return self.code == NO_ANSWER or self.status in RETRIED

    @property
    def falls_back(self) -> bool:
        """Whether an arm of the caller's is shown: the server is at fault, or an editor has left it nothing to show."""
        return self.passes or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR or self.code in NOTHING_TO_SHOW

    @property
    def unanswered(self) -> bool:
        """Whether the server is away: no answer, a gateway's, or that it cannot decide. One that is busy is there."""
        return self.passes and self.status != HTTPStatus.TOO_MANY_REQUESTS and self.code != OVERLOADED


class Shown(msgspec.Struct, frozen=True):
    """One arm of an answer; score and estimates are left out of a replayed one."""

    arm: str
    propensity: float | None = None
    score: float | None = None
    estimates: dict[str, dict[str, float]] | None = None
    payload: Any = None


class Recommendation(msgspec.Struct, frozen=True):
    """The answer to `recommend`. `decision_id` is None where `logged` is False: such a decision takes no feedback.

    Attributes:
        slice_name: the slice that decided, where the experiment has slices.
        ignored: candidates and exclusions that are paused or retired.
        fallback: whether it is a fallback arm: of a paused experiment or, with an `error`, of the caller's.
        shadow: what would have been shown, where the experiment is in shadow.
        degraded: whether the server decided without its store: as good an answer, of which nothing is learned.
        error: why the caller's own arm is answered; None where the server answered.
    """

    arms: list[Shown]
    decision_id: str | None = None
    experiment_version: int | None = None
    model_position: str | int | None = None
    replayed: bool = False
    logged: bool = True
    expires_at: str | None = None
    slice_name: str | None = None
    ignored: list[str] = []
    fallback: bool = False
    shadow: Shown | None = None
    degraded: bool = False
    error: ClientError | None = None

    @property
    def arm(self) -> str:
        """The first arm: the only one unless k > 1 were asked for."""
        return self.arms[0].arm

    @classmethod
    def instead(cls, own: Shown, error: ClientError) -> "Recommendation":
        """The caller's own arm, where the server did not answer or had nothing to show."""
        return cls([own], logged=False, fallback=True, error=error)


class Receipt(msgspec.Struct, frozen=True):
    """The answer to `feedback` and `activate`: what became of it, and how much was credited.

    `decisions` says it of each decision, where an experiment credits all of a user's.
    """

    status: str
    credited: float = 0.0
    decision_id: str | None = None
    clipped: bool = False
    decisions: list["Receipt"] = []


class Wish(TypedDict, total=False):
    """What one of several experiments is asked for: the keyword arguments of `recommend`."""

    decision_id: Id
    k: int
    candidates: Iterable[str]
    exclude: Iterable[str]
    defer: bool
    strict: bool
    baseline: str


class Wanted(Wish, total=False):
    """One recommendation of a batch: the arguments of `recommend`."""

    context: Required[Mapping[str, Any]]
    user_id: Id


class Told(TypedDict, total=False):
    """One event of a batch: the keyword arguments of `feedback`."""

    event: Required[str]
    decision_id: Id | None
    user_id: Id | None
    value: float | Decimal | None
    event_id: Id | None
    arm: str | None
    refund_of: Id | None


class Question(msgspec.Struct, omit_defaults=True):
    """What is asked of one experiment, as it is sent."""

    context: Any = msgspec.UNSET
    decision_id: str | None = None
    user_id: str | None = None
    k: int = 1
    candidates: list[str | None] | None = None
    exclude: list[str | None] | None = None
    defer: bool = False
    strict: bool = False
    baseline: str | None = None


class Event(msgspec.Struct, omit_defaults=True):
    """Body of a feedback request."""

    event: str | None
    value: Any = msgspec.UNSET
    decision_id: str | None = None
    user_id: str | None = None
    event_id: str | None = None
    arm: str | None = None
    refund_of: str | None = None

    @property
    def about(self) -> tuple[str | None, ...]:
        """Events of which this is equal have to arrive in their order."""
        return self.decision_id, self.user_id, self.event, self.arm


class Problem(msgspec.Struct):
    """Body of an error (RFC 9457)."""

    code: str
    status: int = 0
    detail: str = ""
    errors: list[dict[str, Any]] = []


def question(context: Any = msgspec.UNSET, *, user_id: Id | None = None, **wish: Any) -> Question:
    """A recommendation as it is sent.

    Raises:
        TypeError: an id is none, or there is no such argument.
    """
    decision_id, baseline = name_sent(wish.pop("decision_id", None)), name_sent(wish.pop("baseline", None))
    candidates, exclude = names_sent(wish.pop("candidates", None)), names_sent(wish.pop("exclude", None))
    return Question(
        context, decision_id, name_sent(user_id), candidates=candidates, exclude=exclude, baseline=baseline, **wish
    )


def own_arm(fallback: str | Shown) -> Shown:
    """The arm that the caller names to be shown instead.

    Raises:
        TypeError: it is something else; said before there is an outage.
    """
    if not isinstance(fallback, str | Shown):
        raise TypeError(f"expected as fallback an arm's name or a Shown; got {type(fallback).__name__}")
    return Shown(fallback) if isinstance(fallback, str) else fallback


def named(asked: Question) -> Question:
    """It with a decision_id: a random one, unless the caller named one."""
    return asked if asked.decision_id is not None else msgspec.structs.replace(asked, decision_id=uuid4().hex)


def told(
    event: str,
    *,
    decision_id: Id | None = None,
    user_id: Id | None = None,
    value: float | Decimal | None = None,
    event_id: Id | None = None,
    arm: str | None = None,
    refund_of: Id | None = None,
) -> Event:
    """Feedback as it is sent.

    Raises:
        TypeError: an id is none.
        ValueError: it says neither of which decision it is nor of which user.
    """
    if decision_id is None and user_id is None:
        raise ValueError(
            f"expected a decision_id or a user_id with the event {event!r}; got neither: what was not logged, "
            "such as a fallback, takes no feedback"
        )
    return Event(
        name_sent(event), msgspec.UNSET if value is None else value, name_sent(decision_id), name_sent(user_id),
        name_sent(event_id), name_sent(arm), name_sent(refund_of),
    )  # fmt: skip


encode: Final = msgspec.json.Encoder(enc_hook=plain, decimal_format="number").encode


def decoded(body: bytes, answer: type[T]) -> T:
    """The answer as its type; nothing is said where None is expected."""
    if answer is type(None):
        return None
    try:
        return msgspec.json.decode(body, type=answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(answer, error) from error


def item(found: Any, answer: type[T]) -> T | ClientError:
    """One result of several: the answer, or the error that its problem is."""
    try:
        if isinstance(found, dict) and "problem" in found:
            problem = msgspec.convert(found["problem"], Problem)
            return ClientError(problem.status, problem.code, problem.detail, problem.errors)
        return msgspec.convert(found, answer)
    except msgspec.ValidationError as error:
        raise _malformed(answer, error) from error


def refusal(status: int, body: bytes, retry_after: str) -> ClientError:
    """The error of an answer that is not 2xx: its problem, or what a proxy said in its place."""
    seconds = float(retry_after) if retry_after.isdecimal() else None
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = body[:200].decode("utf-8", "replace")
        return ClientError(status, "no_problem_document", f"expected a problem document, got {text!r}", (), seconds)
    return ClientError(status, problem.code, problem.detail, problem.errors, seconds)


def unreachable(url: str, cause: Exception) -> ClientError:
    """The error of an attempt that got no answer."""
    why = f"no answer from {masked(url)}: {type(cause).__name__} {masked(str(cause))}"
    error = ClientError(UNREACHABLE, NO_ANSWER, why.rstrip())
    error.__cause__ = cause
    return error


def masked(text: str) -> str:
    """An address, or what is said of one, without its user and password, however they are written."""
    return re.sub(r"(\w+://)?.*@", r"\1***@", text, flags=re.DOTALL)


def _malformed(answer: type, error: Exception) -> ClientError:
    return ClientError(HTTPStatus.OK, "malformed_answer", f"expected {answer.__name__}: {error}")
