"""What the views of counts answer, field by field: series and summaries."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType


class KindCount(msgspec.Struct, frozen=True):
    """Feedback of one kind.

    Attributes:
        count: How many events were credited.
        sum: What they changed, in the kind's reward units; refunds count below 0.
    """

    count: int
    sum: float


class SlicePoint(msgspec.Struct, frozen=True):
    """One slice's part of a point.

    Attributes:
        decisions: How many decisions were made in this slice.
        earned: What has been credited to these decisions so far, by kind.
        reward: The same over all kinds, by the weights in force now.
    """

    decisions: int
    earned: dict[str, KindCount]
    reward: float


class Point(msgspec.Struct, frozen=True):
    """What was counted in one minute or hour.

    Attributes:
        at: When the minute or hour begins, RFC 3339 in UTC.
        decisions: How many decisions were made.
        impressions: How many arms these showed.
        deferred: How many of the decisions waited to be activated.
        activated: How many decisions were activated, whenever they were made.
        explored: How many decisions showed first an arm that was not the likeliest.
        even: How many decisions had no likeliest arm: each eligible one was as likely.
        arms: Impressions by arm, of at most 32 arms; where more were shown, each may be short of its share by 3 % of
            all impressions.
        other_arms: Impressions that `arms` does not name.
        feedback: What feedback came in this time, by kind.
        earned: What has been credited so far to the decisions of this time, by kind.
        reward: The same over all kinds, by the weights in force now.
        slices: The same by slice; empty where there are none.
        outcomes: How many items of feedback and activations wrote nothing, by what became of them, such as "duplicate",
            "late" and "unknown".
    """

    at: str
    decisions: int
    impressions: int
    deferred: int
    activated: int
    explored: int
    even: int
    arms: dict[str, int]
    other_arms: int
    feedback: dict[str, KindCount]
    earned: dict[str, KindCount]
    reward: float
    slices: dict[str, SlicePoint]
    outcomes: dict[str, int]


class SeriesAnswer(msgspec.Struct, frozen=True):
    """What was counted, a minute or an hour at a time.

    Attributes:
        experiment: The experiment's name.
        resolution: How long a point is: "minute" or "hour".
        position: The position in the log up to which all is counted, but for `outcomes`, which the log does not have.
        complete: Whether that is as far as this server has read the log; else ask again.
        now: The store's time, RFC 3339 in UTC.
        points: What was counted, in order; a minute or hour in which nothing was counted is left out.
    """

    experiment: str
    resolution: str
    position: str
    complete: bool
    now: str
    points: list[Point]


class SliceWindow(msgspec.Struct, frozen=True):
    """One slice's part of a window.

    Attributes:
        decisions: How many decisions were made in this slice.
        share: Its share of the window's decisions.
        reward_per_decision: What one of them has earned so far, by the weights in force now; null where there is none.
    """

    decisions: int
    share: float
    reward_per_decision: float | None


class WindowCounts(msgspec.Struct, frozen=True):
    """What was counted lately. A share is null where there is nothing that it is of.

    Attributes:
        seconds: How long the window is: whole minutes or hours, and the one under way; or since the first decision of
            the last day, where that is shorter, but 10 at least.
        decisions: How many decisions were made.
        per_second: How many a second.
        impressions: How many arms they showed.
        explore_share: The share of decisions that showed first an arm that was not the likeliest.
        even_share: The share of decisions that had no likeliest arm.
        feedback: How many items of feedback and activations came.
        late_share: The share of these that came too late.
        duplicate_share: The share of these that had come before.
        refused_share: The share of these that were refused for another reason, such as an unknown decision.
        reward: What the decisions have earned so far, by the weights in force now.
        reward_per_decision: What one of them has earned so far.
        slices: The same by slice; empty where there are none.
    """

    seconds: int
    decisions: int
    per_second: float
    impressions: int
    explore_share: float | None
    even_share: float | None
    feedback: int
    late_share: float | None
    duplicate_share: float | None
    refused_share: float | None
    reward: float
    reward_per_decision: float | None
    slices: dict[str, SliceWindow]


class SummaryAnswer(msgspec.Struct, frozen=True):
    """How an experiment is doing.

    Attributes:
        experiment: The experiment's name.
        version: The number of its last change.
        generation: How many times it has started from zero, counted from 1.
        arms: How many arms may be shown.
        now: The store's time, RFC 3339 in UTC.
        position: The position in the log up to which all is counted.
        complete: Whether that is as far as this server has read the log.
        windows: What was counted in the last five minutes, hour and day: "5m", "1h" and "1d".
        newest_decision: When the last decision was made, RFC 3339 in UTC; null where there was none within a day.
        newest_reward: When the last feedback was credited, RFC 3339 in UTC; null where there was none within a day.
        lag_ms: Milliseconds since this server last read the log to its end; null where it has not yet.
        waiting_arms: How many arms have learned something that decisions do not reflect yet.
        matured_share: The share of the decisions of the last 90 days whose reward window is over, to a minute where it
            is shorter than a day, else to an hour; null where there are none; left out of lists.
    """

    experiment: str
    version: int
    generation: int
    arms: int
    now: str
    position: str
    complete: bool
    windows: dict[str, WindowCounts]
    newest_decision: str | None
    newest_reward: str | None
    lag_ms: int | None
    waiting_arms: int
    matured_share: float | UnsetType | None = UNSET


class SummariesAnswer(msgspec.Struct, frozen=True):
    """A page of summaries.

    Attributes:
        experiments: The experiments that this server serves, by name.
        next: The cursor of the next page; left out of the last one.
    """

    experiments: list[SummaryAnswer]
    next: str | UnsetType = UNSET


TYPES = SeriesAnswer, SummaryAnswer, SummariesAnswer
