"""The store: its version, whether it keeps what it acknowledges, its memory, its clock, and how far away it is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any

from bandit.commands.checkup.finding import Finding
from bandit.core.times import time_of
from bandit.errors import StoreUnavailable, StoreUnsuitable
from bandit.store.protocol import CLOCK_AHEAD_MS, FULL
from bandit.store.redis_store import RedisStore

Info = Mapping[str, Any]

FAR_MS = 2.0  # to the store and back: every decision waits for it
FRAGMENTED, LARGE = 1.5, 256 << 20  # of that many bytes it matters
OF_THE_MACHINE = 0.75  # of its memory: more than that is not left for the copy while the file is rewritten
CLIENTS = 200  # connections that should be left
NO_FILE = "the store keeps no append-only file: a restart loses writes that were acknowledged"


def stored(store: RedisStore) -> Iterator[Finding]:
    """Check the store.

    Raises:
        StoreUnavailable, StoreUnsuitable: it does not answer at all, or may not be asked.
    """
    info = store.info()
    yield _version(info)
    try:
        store.check()
    except (StoreUnavailable, StoreUnsuitable) as error:
        yield Finding("FAIL", "store", str(error))
    for check in (_role, _persistence, _memory, _clients):
        yield from check(info)
    yield from _fsync(store, info)
    yield from _writes(store)
    yield _distance(store)
    yield from _clock(store)


def _version(info: Info) -> Finding:
    kind = "valkey" if "valkey_version" in info else "redis"
    policy = info.get("maxmemory_policy", "maxmemory-policy not told")
    used = info.get("used_memory_human", "memory not told")
    return Finding("ok", "store", f"store: {kind} {info.get(kind + '_version', '?')}, {policy}, {used} in use")


def _role(info: Info) -> Iterator[Finding]:
    if info.get("role") == "slave":
        yield Finding("FAIL", "role", "the store is a replica, which takes no writes: give the primary's address")
    elif info.get("cluster_enabled"):
        yield Finding("note", "role", "the store is a node of a cluster: it must hold the slots of all experiments")
    if int(info.get("evicted_keys", 0)):
        text = (
            f"the store has evicted {info['evicted_keys']} keys since its start: data vanished; was its policy another?"
        )
        yield Finding("FAIL", "evictions", text)


def _persistence(info: Info) -> Iterator[Finding]:
    kept = info.get("aof_enabled")
    if kept is None:
        yield Finding(
            "note", "persistence", "the store does not tell whether it keeps an append-only file: ask its provider"
        )
    elif not kept:
        yield Finding("FAIL", "persistence", NO_FILE)
    elif info.get("aof_last_write_status", "ok") != "ok":
        yield Finding(
            "FAIL", "persistence", "the store could not write its append-only file: is its disk full? See its log"
        )
    else:
        yield Finding("ok", "persistence", "the store keeps an append-only file, and its last write went well")
    if info.get("aof_last_bgrewrite_status", "ok") != "ok":
        yield Finding(
            "note", "persistence", "the store could not rewrite its append-only file, which grows: see its log"
        )
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        text = "the store's last snapshot failed: by stop-writes-on-bgsave-error it may refuse writes; see its log"
        yield Finding("note" if kept else "FAIL", "persistence", text)


def _fsync(store: RedisStore, info: Info) -> Iterator[Finding]:
    how = store.setting("appendfsync") if info.get("aof_enabled") else None
    if how == "no":
        text = "appendfsync is no: a machine that loses its power loses half a minute; everysec or always is better"
        yield Finding("note", "fsync", text)
    elif how is not None:
        lost = "nothing" if how == "always" else "up to 2 s"
        yield Finding("ok", "fsync", f"appendfsync is {how}: a machine that loses its power loses {lost}")
    if int(info.get("aof_delayed_fsync", 0)):
        text = f"the store's disk was too slow for its syncs {info['aof_delayed_fsync']} times: writes waited"
        yield Finding("note", "fsync", text)


def _memory(info: Info) -> Iterator[Finding]:
    used, most, has = (int(info.get(name, 0)) for name in ("used_memory", "maxmemory", "total_system_memory"))
    if not most:
        yield Finding("note", "memory", "the store has no maxmemory: it grows until the machine runs out of memory")
    elif used > FULL * most:
        text = f"the store uses {used >> 20} of {most >> 20} MiB: give it more memory before it is full"
        yield Finding("note", "memory", text)
    if most > OF_THE_MACHINE * has > 0:
        text = f"the store may take {most >> 20} of the machine's {has >> 20} MiB, and more while it rewrites its file"
        yield Finding("note", "memory", text)
    ratio = float(info.get("mem_fragmentation_ratio", 0) or 0)
    if ratio > FRAGMENTED and used > LARGE:
        text = f"the store's memory is fragmented, {ratio:.1f} times what it uses: set activedefrag yes, or restart it"
        yield Finding("note", "memory", text)


def _clients(info: Info) -> Iterator[Finding]:
    most, now = int(info.get("maxclients", 0)), int(info.get("connected_clients", 0))
    if most and most - now < CLIENTS:
        yield Finding("note", "connections", f"the store has {now} of {most} connections in use: raise its maxclients")


def _writes(store: RedisStore) -> Iterator[Finding]:
    try:
        store.probe()
    except (StoreUnavailable, StoreUnsuitable) as error:
        yield Finding("FAIL", "writes", f"the store takes no writes: {error}")
    else:
        yield Finding("ok", "writes", "the store takes writes")


def _distance(store: RedisStore) -> Finding:
    times = []
    for _ in range(15):
        begun = time.perf_counter()
        store.now_ms()
        times.append((time.perf_counter() - begun) * 1000)
    middle = statistics.median(times)
    if middle > FAR_MS:
        text = f"the store answers after {middle:.1f} ms, for which every decision waits: is it in the same place?"
        return Finding("note", "distance", text)
    return Finding("ok", "distance", f"the store answers after {middle:.2f} ms")


def _clock(store: RedisStore) -> Iterator[Finding]:
    begun = time.time()
    theirs = store.now_ms()
    ours = round((begun + time.time()) * 500)
    apart = theirs - ours
    if abs(apart) > CLOCK_AHEAD_MS:
        text = f"the store's clock says {time_of(theirs)}, here it is {time_of(ours)}: set them right"
        yield Finding("FAIL", "clock", text)
    elif abs(apart) > 2000:
        yield Finding("note", "clock", f"the store's clock is {apart / 1000:+.0f} s from ours: run NTP on both")
    else:
        yield Finding("ok", "clock", f"the store's clock is within {max(1, -(-abs(apart) // 1000))} s of ours")
