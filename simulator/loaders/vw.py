"""Vowpal Wabbit's text formats of contextual bandits.

    --cb      action:cost:probability | features                      an example a line
    cb_adf    shared | features                                       an example a block, blocks apart by a blank line
              0:cost:probability | features of the action shown
              | features of another action

The reward is -cost. A feature that a line does not have is 0, one that it has twice is the sum; it goes by
NAMESPACE.NAME, or NAME without a namespace. Actions of cb_adf are called by their tags where these differ within the
block, else by their features. A tag is no id: many lines may have the same. Only blank and tab are separators, as for
Vowpal Wabbit; lines that only ask it to save its model are passed over.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from simulator.contexts import LogError, Value
from simulator.loaders.rows import surveyed
from simulator.storage import BOM, opened
from simulator.table import Eligible, Row, Shown, Table

UNLABELLED = "examples left out: without cost and probability"
OTHERS = ("ccb", "slates")  # formats with several slots
SAVE = re.compile(r"'?save(_[^ \t|]*)?[ \t]*\|?")
BLANK = " \t"
LABEL = re.compile(r"(\d+):([^:\s]+):([^:\s]+)$")
Lines = list[tuple[int, str]]


class Label(NamedTuple):
    """What became of the action shown."""

    action: str
    cost: float
    probability: float


def read(path: Path, *, learning: bool = False) -> Table:
    """A text file of Vowpal Wabbit as a table; only the propensity of the action shown is known.

    Raises:
        LogError: a line is no example; says which.
    """
    examples = _adf if _is_adf(path) else _simple
    return surveyed(partial(_rows, path, examples), learning=learning, sparse=True)


def _is_adf(path: Path) -> bool:
    """Whether examples are blocks: a shared line, or a blank line between others.

    Raises:
        LogError: they are of another kind.
    """
    blank = False
    for number, line in _lines(path):
        kind = line.partition(" ")[0]
        if kind in OTHERS:
            raise LogError(f"{path.name}, line {number}: expected examples of one slot, got those of {kind!r}")
        if kind.partition("|")[0] == "shared" or (blank and line):
            return True
        blank = not line
    return False


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line); blank ones are empty.

    Raises:
        LogError: it is not UTF-8.
    """
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            try:
                text = (line.removeprefix(BOM) if number == 1 else line).decode().strip(" \t\r\n")
            except UnicodeDecodeError as error:
                raise LogError(f"{path.name}, line {number}: expected UTF-8, got {error.reason}") from None
            if not SAVE.fullmatch(text):
                yield number, text


def _rows(path: Path, examples: Callable[[Path], Iterator[Row | None]], counts: Counter[str]) -> Iterator[Row]:
    for row in examples(path):
        if row is None:
            counts[UNLABELLED] += 1
        else:
            yield row


def _simple(path: Path) -> Iterator[Row | None]:
    """An example a line; the arm is the action's number."""
    for number, line in _lines(path):
        if line:
            label, _, features = _split(path, number, line)
            yield label and _row(label, label.action, _summed(path, number, features))


def _adf(path: Path) -> Iterator[Row | None]:
    """An example a block; the arm is called by its tag or features."""
    for filled, block in groupby(_lines(path), key=lambda each: bool(each[1])):
        if filled:
            yield _block(path, list(block))


def _block(path: Path, block: Lines) -> Row | None:
    number, line = block[0]
    shared = line.startswith("shared")
    context = _summed(path, number, line.partition("|")[2]) if shared else {}
    shown: tuple[Label, int] | None = None
    tags, names = list[str | None](), list[str]()
    for number, line in block[shared:]:
        label, tag, features = _split(path, number, line)
        if label and shown:
            raise LogError(f"{path.name}, line {number}: expected one action with a cost, got a second one")
        shown = (label, len(names)) if label else shown
        tags.append(tag)
        names.append(_text(_summed(path, number, features)))
    named = [tag or name for tag, name in zip(tags, names, strict=True)]
    names = named if len(set(named)) == len(named) else names
    if shown is None:
        return None
    row = _row(shown[0], names[shown[1]], context)
    row.eligible = [Eligible(name, None) for name in dict.fromkeys(names)]
    return row


def _row(label: Label, arm: str, context: Mapping[str, Value]) -> Row:
    return Row(context=context, shown=[Shown(arm, label.probability)], reward=0.0 - label.cost)


def _split(path: Path, number: int, line: str) -> tuple[Label | None, str | None, str]:
    """(label, tag, the rest after the first bar)."""
    head, bar, features = line.partition("|")
    if not bar:
        raise LogError(f"{path.name}, line {number}: expected 'label | features', got no bar")
    tokens = _tokens(head)
    tag = None
    if tokens and (tokens[-1].startswith("'") or head[-1] not in BLANK):  # what touches the bar is a tag
        tag = tokens.pop().lstrip("'")
    found = [match for token in tokens if (match := LABEL.match(token))]
    if len(found) > 1:
        raise LogError(f"{path.name}, line {number}: expected one action with a cost, got {len(found)}")
    at = f"{path.name}, line {number}, label"
    label = Label(found[0][1], _number(at, found[0][2]), _number(at, found[0][3])) if found else None
    return label, tag, features


def _tokens(text: str) -> list[str]:
    return [token for token in re.split(r"[ \t]+", text) if token]


def _summed(path: Path, number: int, text: str) -> dict[str, float]:
    """Features with their values; what is there several times adds up."""
    found: dict[str, float] = {}
    for name, value in _features(path, number, text):
        found[name] = found.get(name, 0.0) + value
    return found


def _features(path: Path, number: int, text: str) -> Iterator[tuple[str, float]]:
    """(name, value) of each feature after the first bar."""
    at = f"{path.name}, line {number}, feature"
    for part in text.split("|"):
        tokens = _tokens(part)
        space, scale = "", 1.0
        if tokens and part[0] not in BLANK:
            name, _, weight = tokens.pop(0).partition(":")
            space, scale = f"{name}.", _number(at, weight) if weight else 1.0
        for token in tokens:
            name, _, value = token.partition(":")
            yield space + name, scale * (_number(at, value) if value else 1.0)


def _number(at: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise LogError(f"{at}: expected a number, got {text!r}") from None


def _text(features: Mapping[str, float]) -> str:
    """An action's features, in one order whatever theirs, with every digit of their values."""
    return " ".join(name if features[name] == 1 else f"{name}:{_digits(features[name])}" for name in sorted(features))


def _digits(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
