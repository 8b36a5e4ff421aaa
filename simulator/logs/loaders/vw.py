"""Vowpal Wabbit's text formats of contextual bandits.

    --cb      action:cost:probability | features                      an example a line
    cb_adf    shared | features                                       an example a block, blocks apart by an empty line
              0:cost:probability | features of the action shown
              | features of another action

The reward is -cost. A feature that a line does not have is 0, one that it has twice is the sum, and one whose value is
a text is NAME:TEXT; it goes by NAMESPACE.NAME, or NAME without a namespace. Actions of cb_adf are called by their tags
where these differ within the block, else by their features, with every digit of their numbers; a block of which two
are equal is skipped, since only one of their probabilities is known. A tag is no id: many lines may have the same.
Only blank and tab are separators, as for Vowpal Wabbit. Lines of nothing but those, and lines that only ask it to save
its model, are skipped and end no block; a further shared line does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from simulator.logs.cleaning import FAULTY, refuse_unrewarded
from simulator.logs.contexts import LogError
from simulator.logs.loaders.rows import surveyed
from simulator.logs.storage import BOM, opened
from simulator.logs.table import Eligible, Row, Shown, Table

UNLABELLED = "examples left out: without cost and probability"
TWINS = "examples left out: equal actions, of which the probability of one is known"
SHARED = "shared"
NAMELESS = "{}"  # an action without features
OTHERS = ("ccb", "slates")  # formats with several slots
KIND = re.compile(r"(shared|ccb|slates)(?=[ \t|])")
SAVE = re.compile(r"'?save(_[^ \t|]*)?[ \t]*\|?")
BLANK = " \t"
LABEL = re.compile(r"(\d+):([^:\s]+):([^:\s]+)$")
DIGITS = 19  # of a whole number that is kept whole; ids have no more
SIGNS = "+-.0123456789"  # that a number begins with
Lines = list[tuple[int, str]]


class Label(NamedTuple):
    """What became of the action shown."""

    action: str
    cost: float
    probability: float


def read(path: Path, *, learning: bool = False, faulty: float = FAULTY) -> Table:
    """A text file of Vowpal Wabbit as a table; only the propensity of the action shown is known.

    Args:
        path: the file, compressed or not.
        learning: whether the logging policy learned.
        faulty: the largest share of examples, in [0, 1], that may have no cost.

    Raises:
        LogError: a line is no example; says which. Or more than `faulty` have no cost.
    """
    examples = _adf if _is_adf(path) else _simple
    return surveyed(partial(_rows, path, examples, faulty), learning=learning, sparse=True)


def _is_adf(path: Path) -> bool:
    """Whether examples are blocks: there is a shared line, or a block of several lines before one with two costs."""
    size = costs = 0
    for number, line in _lines(path):
        if _kind(line) == SHARED or (not line and size > 1):
            return True
        label = _split(path, number, line)[0] if line else None
        size, costs = (size + 1, costs + bool(label)) if line else (0, 0)
        if costs > 1:
            break
    return False


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line) of all lines but those that are skipped; empty ones end a block.

    Raises:
        LogError: it is not UTF-8, or of a format with several slots.
    """
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            try:
                whole = (line.removeprefix(BOM) if number == 1 else line).decode().rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise LogError(f"{path.name}, line {number}: expected UTF-8, got {error.reason}") from None
            text = whole.strip(BLANK)
            if (kind := _kind(text)) in OTHERS:
                raise LogError(f"{path.name}, line {number}: expected examples of one slot, got those of {kind!r}")
            if (text or not whole) and not SAVE.fullmatch(text):
                yield number, text


def _kind(line: str) -> str:
    """The word that says of what kind a line is; empty for most."""
    found = KIND.match(line)
    return found[1] if found else ""


def _rows(
    path: Path, examples: Callable[[Path], Iterator[Row | str]], faulty: float, counts: Counter[str]
) -> Iterator[Row]:
    seen = 0
    for seen, row in enumerate(examples(path), 1):  # noqa: B007 - how many there are
        if isinstance(row, str):
            counts[row] += 1
        else:
            yield row
    refuse_unrewarded("examples", counts[UNLABELLED], seen, faulty)


def _simple(path: Path) -> Iterator[Row | str]:
    """An example a line; the arm is the action's number. A line without a row gives the reason."""
    for number, line in _lines(path):
        if line:
            label, _, features = _split(path, number, line)
            if _kind(line) == SHARED or (label and label.action == "0"):
                at, got = f"{path.name}, line {number}", "a shared line" if label is None else "0"
                raise LogError(
                    f"{at}: expected an action's number from 1, got {got}: are blocks separated by empty lines?"
                )
            yield _row(label, label.action, _summed(path, number, features)) if label else UNLABELLED


def _adf(path: Path) -> Iterator[Row | str]:
    """An example a block; the arm is called by its tag or features. A block without a row gives the reason."""
    block: Lines = []
    for number, line in chain(_lines(path), [(0, "")]):
        if block and (not line or _kind(line) == SHARED):
            yield _block(path, block)
            block = []
        if line:
            block.append((number, line))


def _block(path: Path, block: Lines) -> Row | str:
    number, line = block[0]
    shared = _kind(line) == SHARED
    context = _summed(path, number, line.partition("|")[2]) if shared else {}
    shown: tuple[Label, int] | None = None
    tags, names = list[str | None](), list[str]()
    for number, line in block[shared:]:
        label, tag, features = _split(path, number, line)
        if label and shown:
            raise LogError(f"{path.name}, line {number}: expected one action with a cost, got a second one")
        shown = (label, len(names)) if label else shown
        tags.append(tag)
        names.append(_text(_summed(path, number, features)) or NAMELESS)
    named = [tag or name for tag, name in zip(tags, names, strict=True)]
    names = named if len(set(named)) == len(named) else names
    if shown is None:
        return UNLABELLED
    if len(set(names)) < len(names):
        return TWINS
    row = _row(shown[0], names[shown[1]], context)
    row.eligible = [Eligible(name, None) for name in names]
    return row


def _row(label: Label, arm: str, context: Mapping[str, float]) -> Row:
    context = {name: float(value) for name, value in context.items()}
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
    label = Label(found[0][1].lstrip("0") or "0", _number(at, found[0][2]), _number(at, found[0][3])) if found else None
    return label, tag, features


def _tokens(text: str) -> list[str]:
    return [token for token in text.replace("\t", " ").split(" ") if token]


def _summed(path: Path, number: int, text: str) -> dict[str, float]:
    """Features with their values; repeated ones add up."""
    found: dict[str, float] = {}
    for name, value in _features(f"{path.name}, line {number}, feature", text):
        found[name] = found.get(name, 0) + value
    return found


def _features(at: str, text: str) -> Iterator[tuple[str, float]]:
    """(name, value) of each feature after the first bar."""
    for part in text.split("|"):
        tokens = _tokens(part)
        space, scale = "", 1.0
        if tokens and part[0] not in BLANK:
            name, _, weight = tokens.pop(0).partition(":")
            space, scale = f"{name}.", _number(at, weight) if weight else 1.0
        for token in tokens:
            name, _, value = token.partition(":")
            if value and value[0] not in SIGNS and not _is_number(value):
                name, value = token, ""
            size = _number(at, value) if value else 1
            yield space + name, size if scale == 1 else scale * size


def _number(at: str, text: str) -> float:
    """A number; whole ones, such as ids, with every digit."""
    if text.isdigit() and text.isascii() and len(text) <= DIGITS:
        return int(text)
    if not _is_number(text):
        raise LogError(f"{at}: expected a number, got {text!r}")
    return -_number(at, text[1:]) if text[0] == "-" else float(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and "_" not in text  # that Python's numbers may have


def _text(features: Mapping[str, float]) -> str:
    """An action's features, in one order whatever theirs, with every digit of their values."""
    return " ".join(name if features[name] == 1 else f"{name}:{_digits(features[name])}" for name in sorted(features))


def _digits(value: float) -> str:
    whole = isinstance(value, int) or (value.is_integer() and abs(value) < 2**53)
    return str(int(value)) if whole else repr(value)
