"""Times as people and other programs read them."""

from __future__ import annotations

from datetime import UTC, datetime


def time_of(ms: int) -> str:
    """Milliseconds since 1970, as the store counts them, as RFC 3339 in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
