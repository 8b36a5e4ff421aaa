"""One thing that was looked at, with what to do about it."""

from __future__ import annotations

from typing import Literal, NamedTuple

Verdict = Literal["ok", "note", "FAIL"]


class Finding(NamedTuple):
    """One thing that was checked.

    Attributes:
        verdict: ok; note: it works, and something is to be known; FAIL: the server would not start, or lose data.
        about: what was looked at, in a word or two, the same from run to run.
        text: what was found, and where it is not well what to do.
    """

    verdict: Verdict
    about: str
    text: str
