"""The probe of an event loop: it succeeds where an append would, and nowhere else."""

import asyncio

import pytest
import redis
from killable import killable

from bandit.errors import StoreUnavailable
from bandit.store.memory_store import MemoryStore
from bandit.store.open import open_store

pytestmark = pytest.mark.system


def test_a_probe_succeeds_where_the_store_takes_writes() -> None:
    """In memory it always does; a real one that is full, read-only or gone does not, and does again when it is back."""

    async def probed() -> None:
        await MemoryStore().probe_async()
        with killable() as running:
            store = open_store(running.url)
            await store.probe_async()
            with redis.Redis.from_url(running.url) as client:
                client.config_set("maxmemory", 1)
                with pytest.raises(StoreUnavailable, match="cannot write"):
                    await store.probe_async()
                client.config_set("maxmemory", 0)
                await store.probe_async()
                client.replicaof("127.0.0.1", 9)
                with pytest.raises(StoreUnavailable):
                    await store.probe_async()
                client.replicaof("no", "one")
                await store.probe_async()
            running.kill()
            with pytest.raises(StoreUnavailable):
                await store.probe_async()
            running.start()
            await store.probe_async()
            await store.aclose()
            store.close()

    asyncio.run(probed())
