"""The live evaluation: what slices earned, and what candidates would have earned, on the newest decisions.

The arithmetic is the simulator's (`simulator.live`). It runs in a process of its own that reads the store and ends with
its answer: in a thread of the server it kept decisions waiting for up to 160 ms. One evaluation at a time for each
server, of bounded memory, whatever the number of arms.
"""

from __future__ import annotations

import sys
from typing import Literal, NamedTuple

import msgspec

from bandit.core.document import WINDOW_MAX
from bandit.core.times import DURATION, instant, seconds
from bandit.errors import Code, Fault, Problem
from bandit.replica.recent import Window
from bandit.serving.child import Asker

ROWS_MAX = 100_000  # decisions of an evaluation
TARGETS_MAX = 8
SECONDS = 120.0
COMMAND = sys.executable, "-P", "-m", "simulator.live"  # -P: a redis.py there is not ours


class Asked(NamedTuple):
    """What is asked of an evaluation.

    Attributes:
        experiment: its name.
        targets: what to evaluate; see `simulator.live`.
        since: where the window begins: a time (RFC 3339), or a duration before now; empty: where the log does.
        min_age: decisions younger than this duration, at the log's end, are left out: their feedback may still come;
            empty: the age by which 99 % of rewards came, as decisions older than the reward window tell.
        rows: how many decisions at most.
        slice: name of the slice that the lift is of; empty: "learned", or else the first one.
        baseline: name of the slice that it is compared with; empty: "random", or else what plays uniformly, or else
            the next slice.
    """

    experiment: str
    targets: tuple[str, ...]
    since: str
    min_age: str
    rows: int
    slice: str = ""
    baseline: str = ""


class Slice(msgspec.Struct, frozen=True):
    """What a share of the traffic earned a decision, computed as a lift is: rewards capped, by users.

    Attributes:
        slice: The slice's number; 0 where `slice_name` is null.
        slice_name: The slice's name; null: all that was decided while the experiment had no slices.
        n: How many decisions it has.
        value: What a decision earned, in weighted reward units, each kind's rewards cut to its `cap`.
        low: The lower end of the value's 95 % confidence sequence; null where there are too few users to say.
        high: The upper end of the value's 95 % confidence sequence; null with it.
    """

    slice: int
    slice_name: str | None
    n: int
    value: float
    low: float | None
    high: float | None


class Effect(msgspec.Struct, frozen=True):
    """How much more a decision earns in one slice than in another, with 95 % confidence sequences by user.

    Attributes:
        kind: The kind of reward; null: the sum of all kinds by their weights.
        mean: What a decision earns in the slice.
        baseline: What a decision earns in the baseline.
        value: The mean less the baseline; null where there are too few users to say.
        low: The lower end of the value's 95 % confidence sequence; null with it.
        high: The upper end of the value's 95 % confidence sequence; null with it.
        relative: The value as a share of the baseline; null where that is not clearly above 0.
        relative_low: The lower end of its own 95 % confidence sequence; null with it.
        relative_high: The upper end of its own 95 % confidence sequence; null with it.
        more: About how many decisions more make the value clear, if it is as large as it looks; null where it is clear
            already, or so near 0 that it would take a hundred times as many.
        missing: How many more users have to be rewarded before anything is said; 0 where it is.
        cap: What a decision's rewards were cut to; null where the kind has no `cap`.
        capped: How many decisions were cut.
        matured: The share of the reward that has come by now; null where nothing tells how long rewards take.
    """

    kind: str | None
    mean: float
    baseline: float
    value: float | None
    low: float | None
    high: float | None
    relative: float | None
    relative_low: float | None
    relative_high: float | None
    more: int | None
    missing: int
    cap: float | None
    capped: int
    matured: float | None


class Change(msgspec.Struct, frozen=True):
    """What was changed in the period that a lift is from.

    Attributes:
        time: When, RFC 3339 in UTC.
        what: What changed, in words.
    """

    time: str
    what: str


class Lift(msgspec.Struct, frozen=True):
    """One slice of the traffic against another, in the decisions in which both had a share.

    Attributes:
        sentence: All of this in one sentence.
        slice: The slice's name: as asked for, or "learned", or else the first one.
        baseline: The name of what it is compared with: as asked for, or "random", or else what plays uniformly, or
            else the next slice.
        effect: Of the sum of all kinds by their weights.
        kinds: Of each kind, each with 95 % confidence for itself.
        decisions: How many decisions of both slices it is from.
        users: How many users made these; a decision without a user is one of its own.
        missing: How many more users the smaller slice needs before anything is said; 0 where it is.
        changes: What changed meanwhile: policies, shares, weights.
        alarm: Why none of this can be trusted: slices that did not get the users that their shares say; null
            where they did.
        cut: Whether there are older decisions that were not read: what it is from then moves with each look.
        confidence: That of every sequence, 0.95.
    """

    sentence: str
    slice: str
    baseline: str
    effect: Effect
    kinds: list[Effect]
    decisions: int
    users: int
    missing: int
    changes: list[Change]
    alarm: str | None
    cut: bool
    confidence: float


class Candidate(msgspec.Struct, frozen=True):
    """What a target would have earned in the window, with 95 % confidence sequences.

    Attributes:
        target: The target as it was asked for.
        value: The mean reward that it would have earned, by DR, in weighted reward units; null where nothing
            says what it is.
        low: The lower end of the value's 95 % confidence sequence; null if refused.
        high: The upper end of the value's 95 % confidence sequence; null if refused.
        lift: The value less that of what was shown in the same decisions; null if refused.
        lift_low: The lower end of the lift's 95 % confidence sequence; null if refused.
        lift_high: The upper end of the lift's 95 % confidence sequence; null if refused.
        n: How many decisions say something of it: in these, all that it plays could be shown. A policy stays as it had
            learned by the middle of the window, and is valued on those after it.
        n_eff: How many decisions of its own they are worth.
        max_weight: The largest weight: how much likelier the target was to show what was shown than the policy
            in charge.
        mean_weight: The mean weight, which is near 1 in a sound log.
        verdict: Whether the log supports an interval, "sequence", or not, "refused".
        note: What a reader must know beside the number; it may be empty.
    """

    target: str
    value: float | None
    low: float | None
    high: float | None
    lift: float | None
    lift_low: float | None
    lift_high: float | None
    n: int
    n_eff: float
    max_weight: float
    mean_weight: float
    verdict: Literal["sequence", "refused"]
    note: str


class Shadow(msgspec.Struct, frozen=True):
    """What would have been shown beside what was, of the decisions made in shadow.

    Attributes:
        decisions: How many of the decisions were made in shadow.
        agreed: In how many of these the same arm would have been shown.
    """

    decisions: int
    agreed: int


class Evaluation(msgspec.Struct, frozen=True):
    """Values on the newest decisions of the log.

    Attributes:
        decisions: How many decisions were looked at.
        first: When the first of them was made, RFC 3339 in UTC; null where there are none.
        last: When the last of them was made, RFC 3339 in UTC; null where there are none.
        cut: Whether the window has older decisions, beyond `rows`.
        waiting: How many decisions were left out because they were deferred and have not been activated.
        matured: How many seconds old decisions have to be at the log's end; null where nothing tells how long rewards
            take, so that all count and rewards on their way count as none.
        lift: How much more one slice earned than another; null where there are no two slices.
        note: Why `lift` is null; empty where it is not.
        slices: What each slice of the traffic earned.
        targets: What each target would have earned, in the order asked for.
        shadow: How often what would have been shown was what was shown; null where nothing was decided in shadow.
    """

    decisions: int
    first: str | None
    last: str | None
    cut: bool
    waiting: int
    matured: float | None
    lift: Lift | None
    note: str
    slices: list[Slice]
    targets: list[Candidate]
    shadow: Shadow | None = None


class Evaluator(Asker[Evaluation]):
    """Runs evaluations for one server."""

    def __init__(self, redis_url: str) -> None:
        super().__init__("evaluation", Evaluation, "fewer rows or targets", redis_url)

    async def evaluate(self, asked: Asked) -> Evaluation:
        """The answer of `GET /v1/experiments/{e}/evaluation`.

        Raises:
            Problem: `invalid_request` or `unknown_arm` for an invalid question; `overloaded` while another one runs,
                or where it takes longer than `SECONDS`; `store_unavailable`.
        """
        window_of(asked, 0, 0)
        return await self.ask(COMMAND, asked, SECONDS)


def window_of(asked: Asked, now_ms: int, end_ms: int) -> Window:
    """The part of the log that is asked for.

    Raises:
        Problem: `invalid_request`, where a parameter is invalid.
    """
    if len(asked.targets) > TARGETS_MAX:
        raise wrong("target", f"at most {TARGETS_MAX} of them", str(len(asked.targets)))
    age = duration_ms("min_age", asked.min_age) if asked.min_age else 0
    return Window(time_ms("since", asked.since, now_ms) or 0, end_ms + 1 - age, asked.rows)


def time_ms(name: str, text: str, now_ms: int) -> int | None:
    """A time in a query parameter, or a duration before now, in milliseconds since 1970; None where it is empty.

    Raises:
        Problem: `invalid_request`, where it is neither.
    """
    if not text:
        return None
    if DURATION.fullmatch(text):
        return now_ms - duration_ms(name, text)
    if (time := instant(text)) is None:
        raise wrong(name, 'a time such as "2026-11-25T08:00:00Z" or a duration such as "7d"', "another text")
    return max(0, time)


def duration_ms(name: str, text: str) -> int:
    """A duration in a query parameter, in milliseconds."""
    if not DURATION.fullmatch(text):
        raise wrong(name, 'a duration such as "90s", "15m", "12h" or "7d"', "another text")
    return round(min(seconds(text), WINDOW_MAX) * 1000)


def wrong(name: str, expected: str, got: str) -> Problem:
    """The problem of an invalid query parameter."""
    return Problem.of(Code.INVALID_REQUEST, [Fault(f"/query/{name}", expected, got)])
