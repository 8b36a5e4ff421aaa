"""One request that waits: how it is read, what it was read as, where its answer goes, and what it will take."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast

import msgspec

from bandit.core.experiment import Experiment
from bandit.errors import Code, Problem
from bandit.serving.outage.watch import UNAVAILABLE
from bandit.serving.requests import RecommendationRequest
from bandit.serving.waiting.outcomes import Paused
from bandit.store.protocol import USER_MAX, Activate, Reward

BY_USER = 2.5e-5  # seconds of the store for each decision of a user that is looked at

Request = RecommendationRequest | Reward | Activate
Reader = Callable[[Experiment], Request]


class Answer(Protocol):
    """Where an answer goes: a future, or what stands for one."""

    def done(self) -> bool:
        """Whether nobody waits for it any more."""

    def set_result(self, value: Any, /) -> None:
        """This is the answer."""

    def set_exception(self, error: BaseException, /) -> None:
        """There is none, for this reason."""


class PendingRequest(msgspec.Struct):  # made in a third of a dataclass's time
    """One request in a batcher: how to read it, what it was read as, and where its answer goes."""

    read: Reader
    request: Request
    experiment: Experiment
    answer: Answer
    since: float
    work: float  # estimated seconds
    reads: int = 0
    patient: bool = False  # one of a batch, whose items come as those before them are answered
    trace: Any = None  # its span, where it is traced

    def give(self, value: Any) -> None:
        """Answer, if nobody has."""
        if not self.answer.done():
            self.answer.set_result(value)

    def fail(self, error: Exception) -> None:
        """Say why there is no answer, if there is none."""
        if not self.answer.done():
            self.answer.set_exception(error)


def read_again(pending: PendingRequest, experiment: Experiment) -> bool:
    """Read a request whose experiment has changed since by its version now; False where it is at fault."""
    try:
        pending.request, pending.experiment = pending.read(experiment), experiment
    except Exception as error:  # whatever it is, it is this request's own
        pending.fail(error)
        return False
    return True


def answer_paused(batch: Iterable[PendingRequest]) -> None:
    """Tell those who asked a paused experiment."""
    for pending in batch:
        pending.give(Paused(cast(RecommendationRequest, pending.request)))


def awaited(pending: PendingRequest, overdue: float) -> bool:
    """Whether somebody still waits; who has waited since before `overdue`, behind others, is told so."""
    if pending.since < overdue:
        pending.fail(Problem(Code.STORE_UNAVAILABLE, UNAVAILABLE))
    return not pending.answer.done()


def work_of(request: Request, experiment: Experiment, longest: int) -> float:
    """Roughly how many seconds a request takes in the store and here, as measured by `benchmarks/stalls.py`.

    Only the store knows which decision feedback or an activation refers to: it may be the longest list ever made.
    """
    if isinstance(request, RecommendationRequest):
        K, d = len(experiment.config.index), experiment.encoder.d
        lists = 1.5e-4 + 8e-10 * K * d * d + request.k * (1e-9 * d * d + 6e-6) if request.k > 1 else 0.0
        return 6e-5 + K * (3e-11 * d * d + 3e-8) + lists + len(experiment.slices) * (5e-6 + 6e-8 * K)
    if isinstance(request, Reward) and request.ref.user:
        return BY_USER * (USER_MAX if experiment.document.attribution == "all" else 4)
    return 4e-5 + 7e-7 * longest


def own_work(batch: Iterable[PendingRequest]) -> float:
    """Estimated seconds of those that came by themselves."""
    return sum(pending.work for pending in batch if not pending.patient)


def fresh(read: Reader) -> Reader:
    """The same reader, of a request that an earlier decision does not answer."""
    return lambda experiment: cast(RecommendationRequest, read(experiment))._replace(fresh=True)
