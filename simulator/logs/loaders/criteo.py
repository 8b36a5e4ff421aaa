"""Criteo's counterfactual test-bed: banners filled from candidates, with clicks and the propensity of what was shown.

    example ID: HASH CLICKED PROPENSITY SLOTS CANDIDATES FEATURE:VALUE ...     then a line for each candidate:
    CLICKED exid:ID FEATURE:VALUE ...                                          the first SLOTS ones were shown

Banners without a click were kept with a share of 0.1 only, so such rows weigh 10. Candidates have no ids: the arms are
their places in the example, and the one shown is always the first. Banners of several slots are left out.

Lefortier, Swaminathan, Gu, Joachims, de Rijke (2016), https://arxiv.org/abs/1612.00367
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from simulator.logs.contexts import LogError, Value
from simulator.logs.loaders.rows import surveyed
from simulator.logs.storage import lines
from simulator.logs.table import Row, Shown, Table

MORE_SLOTS = "rows left out: banners of more than one slot"
CLICKED = {"1": 1.0, "0": 0.0, "0.001": 1.0, "0.999": 0.0}  # as a label, or as the loss that derived files have
NUMBERS = {"1", "2"}  # the banner's width and height; other features are categories, with one or more values


def read(path: Path, *, kept: float = 0.1, inverse: bool = False) -> Table:
    """A file of the test-bed as a table; only the propensity of what was shown is known.

    Args:
        path: the file, compressed or not.
        kept: the share of banners without a click that is in the file, in (0, 1].
        inverse: whether the file has 1 / propensity in place of the propensity.

    Raises:
        LogError: a line is not of this form; says which.
    """
    if not 0 < kept <= 1:
        raise LogError(f"kept: expected a share in (0, 1], got {kept:g}")
    return surveyed(partial(_rows, path, kept, inverse), sparse=True)


def _rows(path: Path, kept: float, inverse: bool, counts: Counter[str]) -> Iterator[Row]:
    at, waiting, example = "", 0, ""  # candidates that are still to come, and whose
    K = 0
    for number, line in lines(path):
        at = f"{path.name}, line {number}"
        tokens = _text(at, line).split()
        if not waiting:
            row, example, waiting, slots = _header(at, tokens, kept, inverse)
            K = max(K, waiting)
            if slots == 1:
                yield row
            counts[MORE_SLOTS] += slots > 1
        elif len(tokens) > 1 and tokens[1] == f"exid:{example}":
            waiting -= 1
        else:
            raise LogError(f"{at}: expected a candidate of example {example}, got {' '.join(tokens[:2])!r}")
    if waiting:
        raise LogError(f"{at}: expected {waiting} more candidates of example {example}, got the end")


def _text(at: str, line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise LogError(f"{at}: expected UTF-8, got {error.reason}") from None


def _header(at: str, tokens: list[str], kept: float, inverse: bool) -> tuple[Row, str, int, int]:
    """(row, example, candidates, slots) of an example's first line."""
    match tokens:
        case ["example", name, _, label, propensity, slots, candidates, *features] if label in CLICKED:
            clicked, example = CLICKED[label], name.rstrip(":")
        case _:
            expected = "'example ID: HASH CLICKED PROPENSITY SLOTS CANDIDATES ...' with CLICKED 0 or 1"
            raise LogError(f"{at}: expected {expected}, got {' '.join(tokens[:7])!r}")
    try:
        p, count, shown = float(propensity), int(candidates), int(slots)
    except ValueError as error:
        raise LogError(f"{at}: expected numbers for propensity, slots and candidates: {error}") from None
    row = Row(
        decision_id=example,
        context=dict(_features(at, features)),
        shown=[Shown("1", 1 / p if inverse and p else p)],
        reward=clicked,
        weight=1.0 if clicked else 1 / kept,
    )
    return row, example, count, shown


def _features(at: str, tokens: list[str]) -> Iterator[tuple[str, Value]]:
    for token in tokens:
        name, colon, value = token.partition(":")
        if not colon:
            raise LogError(f"{at}: expected FEATURE:VALUE, got {token!r}")
        if name in NUMBERS:
            try:
                yield name, float(value)
            except ValueError:
                raise LogError(f"{at}: expected a number for feature {name}, got {value!r}") from None
        else:
            yield f"{name}:{value}", True
