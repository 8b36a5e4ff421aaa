"""Numbers as programs, spreadsheets and people write them: 1234.5, 1.234,50 €, $1,234.50, 12 %."""

from __future__ import annotations

import re

LARGEST = 1e50  # of a number, as documents have it
LONGEST = 64  # characters of one
PLAIN = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
UNIT = r"(?:[A-Z]{0,2}[$€£¥₹₽₺₩₪₫฿₴₦]|USD|EUR|GBP|CHF|SEK|NOK|DKK|PLN|CZK|JPY|CAD|AUD|kr\.?|zł|Kč|%)"


def _written(mark: str, groups: str) -> re.Pattern[str]:
    """A number with a mark before its fraction, and others between its thousands; a unit before or after it."""
    thousands = rf"[1-9]\d{{0,2}}(?P<mark>[{groups}\s'’])\d{{3}}(?:(?P=mark)\d{{3}})?"
    number = rf"(?:(?:{thousands}|\d+)(?:{mark}\d*)?|{mark}\d+)"
    return re.compile(rf"([-+−]?)(?:{UNIT}\s?)?(?P<number>{number})(?:\s?{UNIT})?")


WRITTEN = {".": _written(r"\.", ","), ",": _written(",", r"\.")}


def amount(text: str, decimal: str) -> float | None:
    """The number that a text is; None where it is none, or too large.

    Args:
        text: without the spaces around it.
        decimal: the mark before a fraction, a point or a comma.
    """
    if len(text) > LONGEST:
        return None
    plain = text if decimal == "." else text.replace(",", ".") if text.count(",") == 1 and "." not in text else text
    if (decimal == "." or "." not in text) and PLAIN.fullmatch(plain):
        value = float(plain)
    elif found := WRITTEN[decimal].fullmatch(text):
        digits = re.sub(r"[^\d" + decimal + "]", "", found["number"]).replace(",", ".")
        value = float(digits) * (-1 if found[1] in ("-", "−") else 1)
    else:
        return None
    return value if abs(value) <= LARGEST else None
