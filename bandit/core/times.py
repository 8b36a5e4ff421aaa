"""Times and durations as people and other programs write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

DURATION = re.compile(r"[0-9]+(\.[0-9]+)?[smhd]")
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def time_of(ms: int) -> str:
    """Milliseconds since 1970, as the store counts them, as RFC 3339 in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def instant(text: str) -> int | None:
    """Milliseconds since 1970 of a time with its zone (RFC 3339); None where it is none."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if time.tzinfo is None else round(time.timestamp() * 1000)


def seconds(duration: float | str) -> float:
    """A duration in seconds."""
    return float(duration[:-1]) * SECONDS[duration[-1]] if isinstance(duration, str) else float(duration)
