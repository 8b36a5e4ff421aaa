"""Marks of thousands in a CSV's numbers: 1.234 may be little more than one, or more than a thousand.

Where the decimal mark is found out, a column whose marked values all have three digits after the mark, and no 0 before
it, is refused. Where it is said, the other mark is one of thousands if it stands before groups of three digits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.logs.contexts import LogError, as_floats

OTHER = {".": ",", ",": "."}


def grouped(decimal: str) -> str:
    """The pattern of numbers with marks of thousands."""
    return rf"^\s*[-+]?\d{{1,3}}(?:\{OTHER[decimal]}\d{{3}})+(?:\{decimal}\d*)?\s*$"


def plain(decimal: str) -> str:
    """The pattern of numbers without."""
    return rf"^\s*[-+]?(?:\d+(?:\{decimal}\d*)?|\{decimal}\d+)(?:[eE][-+]?\d+)?\s*$"


def ungrouped(texts: pa.Array, decimal: str) -> tuple[pa.Array, int | None]:
    """(the numbers that texts are, without marks of thousands; the first text that is none, where there is one)."""
    there = texts.is_valid()
    many = pc.match_substring_regex(texts, grouped(decimal))
    fine = pc.or_kleene(many, pc.match_substring_regex(texts, plain(decimal)))
    wrong = pc.index(pc.and_(there, pc.invert(fine.fill_null(False))), True).as_py()
    bare = pc.if_else(many, pc.replace_substring(texts, OTHER[decimal], ""), texts)
    numbers = pc.utf8_trim_whitespace(pc.replace_substring(bare, decimal, "."))
    if wrong >= 0:
        return pa.nulls(len(texts), pa.float64()), wrong
    return pc.cast(numbers, pa.float64()), None


def all_grouped(texts: pa.Array, decimal: str) -> bool:
    """Whether all texts are numbers, some with marks of thousands."""
    some = pc.any(pc.match_substring_regex(texts, grouped(decimal))).as_py()
    return bool(some) and ungrouped(texts, decimal)[1] is None


class Marks:
    """Which columns of numbers have marks that may be of thousands.

    Args:
        decimal: the decimal mark that was found out.
    """

    def __init__(self, decimal: str) -> None:
        self.decimal = decimal
        mark = re.escape(decimal)
        self.like = re.compile(rf"{mark}(?<=\d{mark})\d{{3}}(?![\d.,])".encode())
        self.three = rf"^\s*[-+]?[1-9]\d{{0,2}}\{decimal}\d{{3}}\s*$"
        self.clear: set[str] = set()  # columns that can be nothing but decimal
        self.found: dict[str, str] = {}  # the others with a mark, and a number of each

    def asked(self, data: bytes, numbers: Mapping[str, pa.Array]) -> list[str]:
        """The columns of numbers whose texts have to be seen, of rows of a file."""
        if not (open_ := {name: as_floats(each) for name, each in numbers.items() if name not in self.clear}):
            return []
        like = self.like.search(data) is not None
        return [name for name, each in open_.items() if like or bool((each != np.rint(each))[np.isfinite(each)].any())]

    def add(self, name: str, texts: pa.Array) -> None:
        """Some texts of a column of numbers."""
        marked = texts.drop_null().filter(pc.match_substring(texts.drop_null(), self.decimal))
        if not len(marked):
            return
        if pc.all(pc.match_substring_regex(marked, self.three)).as_py():
            self.found.setdefault(name, marked[0].as_py().strip())
        else:
            self.clear.add(name)

    def check(self, file: str) -> None:
        """Refuse what cannot be told.

        Raises:
            LogError: a column's marks may be decimal or of thousands; says which option decides.
        """
        for name, number in self.found.items():
            if name not in self.clear:
                whole = number.replace(self.decimal, "")
                ways = {whole: OTHER[self.decimal], number.replace(self.decimal, "."): self.decimal}
                say = " or ".join(f"{each} (then say --decimal {mark} )" for each, mark in ways.items())
                raise LogError(f"{file}, column {name!r}: cannot tell whether {number} is {say}")
