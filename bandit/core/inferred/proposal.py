"""From a sample of rows to an experiment's document: every column with its role, and what is doubtful."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec
import numpy as np

from bandit.core.document import ARMS_MAX, KINDS_MAX
from bandit.core.engine import model_bytes
from bandit.core.features import Feature, compile_encoder
from bandit.core.inferred.columns import Column, columns_of
from bandit.core.inferred.declared import LEVEL, Declared, declared
from bandit.core.inferred.leaks import leak
from bandit.core.inferred.rewards import kind_of
from bandit.core.inferred.roles import TOLD, Guess, Role, roles_of
from bandit.core.inferred.table import Table
from bandit.core.inferred.words import MISSING
from bandit.errors import Code, Fault, Problem, pointer

D = 256  # columns of x, at most: more need more data than a first experiment has
MEMORY = 256 << 20  # bytes of its model, at most
FEW_ROWS, FEW_SHOWN, FEW_REWARDED = 200, 10, 20
ARM = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,128}")


class ColumnRead(msgspec.Struct, frozen=True):
    """What a column of the sample was taken for.

    Attributes:
        name: The column's name.
        role: What it is for: "arm", "reward", "propensity", "time", "user", "decision_id", "position", "feature", or
            "dropped" where it is of no use.
        feature: The feature that the document has of it; null where it is none.
        why: Why it was taken for that, for people.
        examples_missing: How many of the rows have no value.
    """

    name: str
    role: str
    feature: Any
    why: str
    examples_missing: int


class Proposal(msgspec.Struct, frozen=True):
    """An experiment's document proposed from a sample; nothing is stored.

    Attributes:
        document: The document, which may be put as it is or changed first.
        columns: What each column was taken for, in the sample's order.
        warnings: What is doubtful and what to do about it, for people.
        rows: How many rows of the sample were looked at.
    """

    document: dict[str, Any]
    columns: tuple[ColumnRead, ...]
    warnings: tuple[str, ...]
    rows: int


def proposed(table: Table, told: Mapping[str, str] | None = None, at: str = "") -> Proposal:
    """The document that a sample suggests, which a server takes as it is.

    Args:
        table: the sample.
        told: roles of columns that are known, by name; see `roles.ROLES`.
        at: pointer to `told`, for errors.

    Raises:
        Problem: invalid_request, see `roles.roles_of`; or a column cannot be the reward or feature that it was told
            to be.
    """
    columns = columns_of(table)
    guesses = roles_of(columns, told or {}, at)
    warnings: list[str] = list(_of_the_rows(table))
    arms = _arms(columns, guesses, warnings)
    rewards = _rewards(columns, guesses, warnings, at)
    features = _features(columns, guesses, len(arms), len(rewards), warnings, at)
    shown = {name: msgspec.json.decode(msgspec.json.encode(feature)) for name, feature in features.items()}
    document = {"features": list(shown.values()), "rewards": rewards, "arms": arms}
    read = (
        ColumnRead(c.name, guesses[c.name].role, shown.get(c.name), guesses[c.name].why, c.missing) for c in columns
    )
    return Proposal(document, tuple(read), tuple(warnings), table.rows)


def _of_the_rows(table: Table) -> Iterator[str]:
    if table.more:
        yield f"only the first {table.rows} rows were looked at"
    if table.skipped:
        yield f"{table.skipped} rows were left out: they have more or fewer cells than there are names"
    if table.rows < FEW_ROWS:
        yield f"{table.rows} rows are few: levels, means and scales may be chance; a few thousand tell more"


def _named(columns: tuple[Column, ...], guesses: Mapping[str, Guess], role: Role) -> list[Column]:
    return [column for column in columns if guesses[column.name].role == role]


def _arms(columns: tuple[Column, ...], guesses: dict[str, Guess], warnings: list[str]) -> list[str]:
    """The arms, the most frequent first."""
    found = _named(columns, guesses, "arm")
    if not found:
        warnings.append("no column was taken for the arm: write the arms into the document yourself")
        return []
    (column,) = found
    fit = [text for text, _ in column.texts.most_common() if ARM.fullmatch(text)]
    if left := len(column.texts) - len(fit[:ARMS_MAX]):
        warnings.append(f"{left} arms were left out: too long, with control characters, or beyond {ARMS_MAX}")
    if len(fit) < 2:
        warnings.append(f"column {column.name!r} has {len(fit)} arms: there is nothing to choose until there are two")
    if rare := sum(count < FEW_SHOWN for count in column.texts.values()):
        warnings.append(
            f"{rare} of {len(column.texts)} arms are in fewer than {FEW_SHOWN} rows: are all still offered?"
        )
    guesses[column.name] = guesses[column.name]._replace(why=f"{guesses[column.name].why}: {len(fit)} arms")
    return fit[:ARMS_MAX]


def _refuse_told(column: Column, guesses: Mapping[str, Guess], why: str, at: str) -> None:
    """A role that the caller gave is not quietly taken away."""
    if guesses[column.name].why == TOLD:
        role = guesses[column.name].role
        raise Problem.of(
            Code.INVALID_REQUEST, [Fault(at + pointer(column.name), f"a column that can be a {role}", why)]
        )


def _rewards(columns: tuple[Column, ...], guesses: dict[str, Guess], warnings: list[str], at: str) -> dict[str, Any]:
    rewards: dict[str, Any] = {}
    seen: list[Column] = []
    for column in (each.result for each in _named(columns, guesses, "reward")):
        if refused := _no_reward(column, seen):
            _refuse_told(column, guesses, f"one that cannot: {refused}", at)
            guesses[column.name] = Guess("dropped", refused)
            continue
        told = kind_of(column)
        rewards[column.name] = told.document
        guesses[column.name] = Guess("reward", f"{guesses[column.name].why}: {told.why}")
        seen.append(column)
        if (there := int((np.nan_to_num(column.values) != 0).sum())) < FEW_REWARDED:
            warnings.append(f"reward {column.name!r} is other than 0 in {there} rows only: its range may be chance")
        if column.strange:
            warnings.append(f"reward {column.name!r}: {column.strange} of its values are no numbers and count as none")
        if "cost" in column.words:
            warnings.append(f"reward {column.name!r}: where less is better, give it a negative weight")
    if len(rewards) > 1:
        warnings.append(
            f"the {len(rewards)} rewards are added up with weight 1 each: say what each is worth by `weight`"
        )
    if not rewards:
        warnings.append("no column was taken for a reward: the document has `click`, from 0 to 1, in its place")
        rewards["click"] = {}
    return rewards


def _no_reward(column: Column, others: list[Column]) -> str:
    """Why a column cannot be a reward; empty where it can."""
    if not LEVEL.fullmatch(column.name) or len(column.name) > 128:
        return "a reward's name has up to 128 characters and no control character"
    if column.kind not in ("number", "boolean"):
        return f"a reward must be a number, or yes and no: {column.strange} rows have another text{_first(column)}"
    if len(others) >= KINDS_MAX:
        return f"there are {KINDS_MAX} rewards already"
    same = [other.name for other in others if np.array_equal(other.values, column.values, equal_nan=True)]
    return f"it equals the reward {same[0]!r} in every row" if same else ""


def _first(column: Column) -> str:
    """Where the first text is that is no number."""
    found = (row for row, text in enumerate(column.cells, 1) if text not in column.numbers and text not in MISSING)
    return "".join(f", the first is row {row} below the names" for row in islice(found, 1))


def _features(
    columns: tuple[Column, ...], guesses: dict[str, Guess], arms: int, kinds: int, warnings: list[str], at: str
) -> dict[str, Feature]:
    """The features by name, as many as fit; what is none is marked as dropped."""
    found: dict[str, Feature] = {}
    d = 1  # the intercept
    rewards = [column.result for column in _named(columns, guesses, "reward")]
    for column in _named(columns, guesses, "feature"):
        told = declared(column)
        leaks = leak(column, rewards) if guesses[column.name].why != TOLD else ""
        if told.feature is not None and leaks:
            warnings.append(
                f"column {column.name!r} was dropped: {leaks}; it would be a feature that no visitor has yet"
            )
            told = Declared(None, leaks)
        width = 0 if told.feature is None else compile_encoder((told.feature,), None).d - 1
        if width and (d + width > D or model_bytes(max(arms, 1), kinds, d + width) > MEMORY):
            told = Declared(None, "there is no room for its columns beside those of the features before it")
            warnings.append(f"column {column.name!r} was dropped: {told.why}")
        if told.feature is None:
            _refuse_told(column, guesses, f"one that cannot: {told.why}", at)
        guesses[column.name] = Guess("dropped" if told.feature is None else "feature", told.why)
        if told.feature is not None:
            found[column.name] = told.feature
            d += width
            warnings += [
                f"column {column.name!r}: {doubt}" for doubt in (told.doubt, _strange_level(column, told)) if doubt
            ]
    return found


def _strange_level(column: Column, told: Declared) -> str:
    """A text that other programs write where there is no value."""
    levels: tuple[str, ...] = getattr(told.feature, "levels", ())
    found = [text for text in levels if text in MISSING]
    return f"the text {found[0]!r} is a level: if it stands for nothing, send null, and take it out" if found else ""
