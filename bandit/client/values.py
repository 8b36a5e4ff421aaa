"""What callers may pass, as it is sent: scalars of NumPy and pandas, dates, decimals and ids of other kinds."""

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec

T = TypeVar("T")

Id = str | int | date | UUID  # and what is like them; sent as text
EXACT: Final = 2.0**53  # from here on not every whole number is a float


def plain(value: Any) -> Any:
    """A scalar of NumPy or pandas, or of a subclass of a type of Python's, as what JSON has; NaT and NA are null.

    Neither library is imported: a value of theirs tells by itself what it is.

    Raises:
        TypeError: it is something else, such as an array or a row of a table.
    """
    if isinstance(value, Mapping):
        return dict(value)
    if type(value).__name__ in ("NaTType", "NAType"):
        return None
    if isinstance(value, datetime):  # of a subclass: as its plain self, written like every other
        return datetime.combine(value.date(), value.timetz())
    kind = value.dtype.kind if getattr(value, "ndim", 1) == 0 else ""
    if kind == "M":  # counted in nanoseconds, it is a bare number to Python
        found = value.item()
        return found if found is None or isinstance(found, date) else value.astype("datetime64[us]").item()
    for letters, plain in (("U", str), ("b", bool), ("iu", int), ("f", float)):
        if (kind and kind in letters) or (not kind and isinstance(value, plain)):
            return plain(value)
    raise TypeError(f"expected text, a number, a truth value, a date or None; got {type(value).__name__}")


def name_sent(value: Any) -> str | None:
    """An id or a name as text; None stays None.

    Raises:
        TypeError: it is neither text nor a date, a UUID or a whole number.
    """
    found = msgspec.to_builtins(value, enc_hook=plain, builtin_types=(bytes,))  # bytes are not made text
    if isinstance(found, float) and found.is_integer() and abs(found) < EXACT:
        found = int(found)  # whole numbers of which some are missing are floats to pandas
    if (found is None and value is not None) or not isinstance(found, str | int | None) or isinstance(found, bool):
        raise TypeError(f"expected an id as text, a whole number, a date or a UUID; got {value!r}")
    return None if found is None else str(found)


def listed(values: Iterable[T], of: str) -> list[T]:
    """The values as a list, also from an array or an iterator.

    Raises:
        TypeError: they are a text, a mapping or a table, of which going through would keep characters or keys only.
    """
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable) or getattr(values, "ndim", 1) != 1:
        raise TypeError(f"expected a list of {of}; got {type(values).__name__}")
    return list(values)


def names_sent(values: Iterable[Any] | None, of: str = "arms' names") -> list[str | None] | None:
    """A list of names, also from an array."""
    return None if values is None else [name_sent(each) for each in listed(values, of)]
