"""What each column of a sample is for, by its name and its values: the arm, a reward, a feature, or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

from bandit.core.inferred.columns import Column
from bandit.core.inferred.words import ID, after_the_fact, like_times, like_users, words_of
from bandit.errors import Code, Fault, Problem, nearest, pointer

Role = Literal["arm", "reward", "propensity", "time", "user", "decision_id", "position", "feature", "dropped"]
ROLES = get_args(Role)
TOLD = "as told"  # why a column has the role that the caller gave it
ONE_OF = "arm", "propensity", "time", "user", "decision_id", "position"  # roles that one column has, the first
# the likelier words first: where several columns would do, the first word decides
ARM = (
    "arm", "action", "variant", "treatment", "choice", "chosen", "offer", "banner", "creative", "campaign", "ad",
    "recommendation", "recommended", "article", "item", "product", "template", "layout", "option", "model",
)  # fmt: skip
SHOWN = {"shown", "displayed", "selected", "logged", "chosen", "served"} | ID
PROPENSITY = {"propensity", "pscore", "probability", "prob"}
POSITION = {"position", "rank", "slot", "place"}
DECISION = {"decision", "impression", "request", "event", "row", "log", "visit", "pageview", "transaction", "record"}
REWARD = {"success", "target", "opened", "won", "win", "rating", "stars", "score", "y", "r", "gain", "engaged"}
EARLIER = {
    "last", "previous", "prev", "past", "prior", "since", "before", "avg", "average", "mean", "history", "historical",
    "lifetime", "ever", "recency", "frequency", "first", "ago", "days", "num", "count", "n",
}  # fmt: skip


class Guess(NamedTuple):
    """What a column is for, and why that is thought."""

    role: Role
    why: str


def roles_of(columns: Sequence[Column], told: Mapping[str, str], at: str = "") -> dict[str, Guess]:
    """The role of each column, by its name.

    Args:
        columns: of a sample.
        told: roles that are known, by the columns' names.
        at: pointer to `told`, for errors.

    Raises:
        Problem: invalid_request: `told` names no column or no role, or two for a role that one column has.
    """
    _check(columns, told, at)
    found: dict[str, Guess] = {name: Guess(_role(role), TOLD) for name, role in told.items()}
    for find in (_unnamed, _propensity, _later, _time, _user, _arm, _decision, _position):
        taken = {guess.role for guess in found.values() if guess.role in ONE_OF}
        rest = [column for column in columns if column.name not in found]
        for name, guess in find(rest):
            if guess.role in taken:
                guess = Guess("dropped", f"another column is the {guess.role}; {guess.why}")
            taken |= {guess.role} & set(ONE_OF)
            found[name] = guess
    rest = [column for column in columns if column.name not in found]
    if not any(guess.role == "reward" for guess in found.values()):
        found |= dict(_perhaps_reward(rest))
    left = [column for column in rest if column.name not in found]
    return found | {
        column.name: Guess("feature", "known before the decision, as far as its name tells") for column in left
    }


def _role(text: str) -> Role:
    return next(role for role in ROLES if role == text)


def _check(columns: Sequence[Column], told: Mapping[str, str], at: str) -> None:
    names = [column.name for column in columns]
    for name, role in told.items():
        if name not in names:
            raise _refused(at, name, "a column of the sample" + nearest(name, names), "no such column")
        if role not in ROLES:
            raise _refused(at, name, ", ".join(ROLES[:-1]) + " or " + ROLES[-1] + nearest(role, ROLES), "another word")
        if role in ONE_OF and list(told.values()).count(role) > 1:
            raise _refused(at, name, f"one column as the {role}", "several")


def _refused(at: str, name: str, expected: str, got: str) -> Problem:
    return Problem.of(Code.INVALID_REQUEST, [Fault(at + pointer(name), expected, got)])


Found = Iterator[tuple[str, Guess]]


def _unnamed(columns: Sequence[Column]) -> Found:
    for column in columns:
        if not column.name or column.name.lower().startswith("unnamed:"):
            yield column.name, Guess("dropped", "it has no name")


def _propensity(columns: Sequence[Column]) -> Found:
    for column in columns:
        if column.words & PROPENSITY and column.kind in ("number", "boolean"):
            values = column.values[~np.isnan(column.values)]
            if bool(((values > 0) & (values <= 1)).all()):
                yield (
                    column.name,
                    Guess("propensity", "its name, and numbers above 0 up to 1; of no use to a live server"),
                )


def _later(columns: Sequence[Column]) -> Found:
    """What is known only after a decision: rewards, and what must not be a feature."""
    for column in columns:
        if not after_the_fact([column.name]) or column.words & EARLIER:
            continue
        if column.result.kind in ("number", "boolean"):
            yield column.name, Guess("reward", "its name sounds like what comes of a decision")
        else:
            why = "its name sounds like what is known only after a decision, and it has no numbers to be a reward"
            yield column.name, Guess("dropped", why)


def _time(columns: Sequence[Column]) -> Found:
    for column in sorted(columns, key=lambda column: not like_times([column.name])):
        if column.kind == "time":
            yield column.name, Guess("time", "times: send the hour or the weekday as a feature where it matters")


def _user(columns: Sequence[Column]) -> Found:
    for column in columns:
        if like_users([column.name]) and column.kind in ("text", "number") and column.distinct > 2:
            yield column.name, Guess("user", "its name: it is sent as user_id, not in the context")


def _arm(columns: Sequence[Column]) -> Found:
    """The column whose name has the likeliest word; others with such names may be features."""
    places = {column.name: place for column in columns if (place := _arm_place(column)) is not None}
    if places:
        name = min(places, key=lambda name: places[name])
        yield name, Guess("arm", "its name sounds like what was shown")


def _arm_place(column: Column) -> int | None:
    if column.kind not in ("text", "number", "boolean") or column.mostly_different:
        return None
    words = column.words
    return next((i for i, word in enumerate(ARM) if word in words and words <= SHOWN | {word}), None)


def _decision(columns: Sequence[Column]) -> Found:
    for column in columns:
        named = column.words & ID and column.words <= ID | DECISION
        if named and column.kind in ("text", "number") and (column.mostly_different or column.words & DECISION):
            yield column.name, Guess("decision_id", "its name, and different values: it is sent as decision_id")


def _position(columns: Sequence[Column]) -> Found:
    for column in columns:
        if column.words & POSITION and column.words <= POSITION | SHOWN and column.whole:
            yield column.name, Guess("position", "a place in a list, which the answer decides")


def _perhaps_reward(columns: Sequence[Column]) -> Found:
    """The first column that is named like a result, where none is named like a reward."""
    for column in columns:
        words = set(words_of(column.name))
        if words & REWARD and not words & EARLIER and column.result.kind in ("number", "boolean"):
            yield column.name, Guess("reward", "no other column sounds like what comes of a decision")
            return
