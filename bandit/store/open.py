"""A store by its address: where a new kind of store is named."""

from __future__ import annotations

from bandit.store.redis_connection import TIMEOUT
from bandit.store.redis_store import RedisStore


def open_store(url: str, timeout: float = TIMEOUT) -> RedisStore:
    """The store at an address, not yet asked whether it suits (`check`).

    Args:
        url: `redis://`, `rediss://` or `unix://`.
        timeout: seconds for one command.

    Raises:
        StoreUnsuitable: this is no address of a store.
    """
    return RedisStore(url, timeout)
