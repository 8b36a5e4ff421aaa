"""Vowpal Wabbit's text formats of contextual bandits.

    --cb      action:cost:probability | features                      an example a line
    cb_adf    shared | features                                       an example a block, blocks apart by a blank line
              0:cost:probability | features of the action shown
              | features of another action

The reward is -cost. A feature that a line does not have is 0; it goes by NAMESPACE.NAME, or NAME without a namespace.
Actions of cb_adf are called by their tag, else by their features.
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
from simulator.storage import opened
from simulator.table import Eligible, Row, Shown, Table

UNLABELLED = "examples left out: without cost and probability"
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
    """Whether examples are blocks: a shared line, or a blank line between others."""
    blank = False
    for _, line in _lines(path):
        if line.startswith("shared") or (blank and line):
            return True
        blank = not line
    return False


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            yield number, line.decode(errors="replace").strip()


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
            label, tag, features = _split(path, number, line)
            yield label and _row(label, label.action, dict(_features(path, number, features)), tag)


def _adf(path: Path) -> Iterator[Row | None]:
    """An example a block; the arm is called by its tag or features."""
    for filled, block in groupby(_lines(path), key=lambda each: bool(each[1])):
        if filled:
            yield _block(path, list(block))


def _block(path: Path, block: Lines) -> Row | None:
    number, line = block[0]
    shared = line.startswith("shared")
    context = dict(_features(path, number, line.partition("|")[2])) if shared else {}
    row, names = None, []
    for number, line in block[shared:]:
        label, tag, features = _split(path, number, line)
        if label and row:
            raise LogError(f"{path.name}, line {number}: expected one action with a cost, got a second one")
        names.append(tag or _text(dict(_features(path, number, features))))
        if label:
            row = _row(label, names[-1], context, None)
    if row:
        row.eligible = [Eligible(name, None) for name in names]
    return row


def _row(label: Label, arm: str, context: dict[str, Value], tag: str | None) -> Row:
    return Row(decision_id=tag, context=context, shown=[Shown(arm, label.probability)], reward=0.0 - label.cost)


def _split(path: Path, number: int, line: str) -> tuple[Label | None, str | None, str]:
    """(label, tag, the rest after the first bar)."""
    head, bar, features = line.partition("|")
    if not bar:
        raise LogError(f"{path.name}, line {number}: expected 'label | features', got no bar")
    tokens = head.split()
    tag = None
    if tokens and (tokens[-1].startswith("'") or not head[-1].isspace()):  # what touches the bar is a tag
        tag = tokens.pop().lstrip("'")
    found = [match for token in tokens if (match := LABEL.match(token))]
    if len(found) > 1:
        raise LogError(f"{path.name}, line {number}: expected one action with a cost, got {len(found)}")
    at = f"{path.name}, line {number}, label"
    label = Label(found[0][1], _number(at, found[0][2]), _number(at, found[0][3])) if found else None
    return label, tag, features


def _features(path: Path, number: int, text: str) -> Iterator[tuple[str, Value]]:
    """(name, value) of each feature after the first bar."""
    at = f"{path.name}, line {number}, feature"
    for part in text.split("|"):
        tokens = part.split()
        space, scale = "", 1.0
        if tokens and not part[0].isspace():
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


def _text(features: Mapping[str, Value]) -> str:
    """An action's features, in one order whatever theirs."""
    return " ".join(name if features[name] == 1 else f"{name}:{features[name]:g}" for name in sorted(features))
