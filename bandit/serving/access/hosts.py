"""The `Host` header, where keys are not asked for: a name that somebody else's page can have is refused.

A page at `http://evil.example:8080` whose name comes to mean 127.0.0.1 (DNS rebinding) is of the same origin as the
server there: the browser would let it read and change everything. Its requests have that name as their `Host`.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

OURS = ".localhost", ".internal"  # the ends of names that nobody can register


@lru_cache(maxsize=256)
def is_ours(host: bytes) -> bool:
    """Whether no page of another site has this host: an address, a name without a dot, or one that ends as `OURS`."""
    text = host.decode("latin-1").strip().lower()
    name = text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]
    if "." not in name.rstrip("."):
        return True  # `localhost`, or of a local network; an IPv6 address, too
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name.endswith(OURS)
    return True
