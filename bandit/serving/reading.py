"""Strict JSON: of limited nesting, and with numbers that a float can hold; and how a batch is split into its items."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
import numpy as np
from msgspec import Raw

from bandit.core.validation import malformed, typed_problem
from bandit.errors import Code

T = TypeVar("T")
NESTING_MAX = 32  # objects and arrays within each other
NUMBER_MAX = int(sys.float_info.max)
BRACKETS_MAX = 100_000  # looked at to split a batch that is not JSON as a whole


def read_json(data: bytes | Raw) -> Any:
    """A body's value, whatever its type.

    Raises:
        Problem: malformed: not JSON in UTF-8, a number beyond what a float can hold, however it is written, or
            nested deeper than `NESTING_MAX`.
    """
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error, data) from None
    text = bytes(data)
    if text.count(b"[") + text.count(b"{") > NESTING_MAX and _depth(text) > NESTING_MAX:
        raise malformed(RecursionError(), data)
    if _LONG_NUMBER.search(text) and any(isinstance(leaf, int) and abs(leaf) > NUMBER_MAX for leaf in _leaves(value)):
        raise malformed(OverflowError("out of range"), data)
    return value


_LONG_NUMBER = re.compile(rb"\d{300}")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_UP_OR_DOWN = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # 1 and -1
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)


def _depth(text: bytes) -> int:
    """How deeply objects and arrays are nested in valid JSON, without looking at each value."""
    signs = np.frombuffer(_STRING.sub(b"", text).translate(_UP_OR_DOWN, _NO_BRACKETS), np.int8)
    return int(signs.cumsum(dtype=np.int64).max(initial=0))


def _leaves(value: Any) -> Iterator[Any]:
    """Every value within this one that is neither an object nor an array."""
    if isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _leaves(each)
    else:
        yield value


def decode(decoder: msgspec.json.Decoder[T], data: bytes | Raw, code: Code) -> T:
    """A body as the decoder's type.

    Raises:
        Problem: malformed, or `code` with the path, what was expected and the nearest name.
    """
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        read_json(data)
        if not isinstance(error, msgspec.ValidationError):
            raise malformed(error, data) from None
        raise typed_problem(error, code, decoder.type) from None


# what stands before the next bracket, or comma, outside of strings
_BEFORE = rb'(?:[^"\[\]{}%b]|"(?:[^"\\]|\\.)*+")*+'
_BRACKET = re.compile(_BEFORE % b"" + rb"([\[\]{}])", re.DOTALL)
_BRACKET_OR_COMMA = re.compile(_BEFORE % b"," + rb"([\[\]{},])", re.DOTALL)


def apart(data: bytes) -> tuple[bytes, list[bytes]]:
    """(a batch with a number in place of each item of its list, the items), split by brackets and commas alone.

    Raises:
        ValueError: an item is empty, or there are more brackets than are looked at.
    """
    outline: list[bytes] = []
    items: list[bytes] = []
    depth = taken = at = 0
    listed = False  # depth 2 is a list's
    for _ in range(BRACKETS_MAX):
        if (found := (_BRACKET_OR_COMMA if listed and depth == 2 else _BRACKET).match(data, at)) is None:
            return b"".join([*outline, data[taken:]]), items
        at, sign = found.end(), found[1]
        if depth == 2 and listed and sign in b",]}":
            item = data[taken : at - 1]
            if item.strip():
                outline.append(b"%d" % len(items))
                items.append(item)
            elif sign != b"]" or outline[-1] == b",":
                raise ValueError("an empty item")
            outline.append(sign)
            taken = at
        depth += (sign in b"[{") - (sign in b"]}")
        if depth == 2 and sign in b"[{" and (listed := sign == b"["):
            outline.append(data[taken:at])
            taken = at
    raise ValueError("too many brackets")
