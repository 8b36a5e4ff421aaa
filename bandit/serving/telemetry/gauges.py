"""Gauges of one worker, set when somebody wants to see them, from what is known here: the store is not asked."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bandit import __version__
from bandit.core.engine import model_bytes

if TYPE_CHECKING:
    from bandit.serving.service import Service

GAPS = "bandit_gaps_total"  # of each experiment known from the start, so that the first one is an increase
BY_EXPERIMENT = (
    "bandit_replica_lag_seconds", "bandit_replica_lag_entries", "bandit_refresh_pending_arms", "bandit_replica_failed",
    "bandit_log_ahead_seconds", "bandit_last_archive_timestamp_seconds",
)  # fmt: skip
EXPIRY = "bandit_key_expiry_timestamp_seconds"
PAGE = os.sysconf("SC_PAGE_SIZE")
STARTED = time.time()  # near enough: this is imported at a worker's start


def set_gauges(service: Service) -> None:
    """Set all gauges: event loop only."""
    follower, set_, now = service.follower, service.counters.set, time.monotonic()
    ready = service.ready.is_set()
    set_("bandit_requests_waiting", service.waiting)
    set_("bandit_store_up", ready and not follower.store_down)
    set_("bandit_workers", service.settings.workers)
    set_("bandit_workers_ready", ready)
    set_("bandit_build_info", 1, __version__)
    set_("bandit_worker_start_timestamp_seconds", STARTED)
    set_("bandit_worker_memory_bytes", _resident())
    set_("bandit_store_memory_used_bytes", follower.store_memory.used)
    set_("bandit_store_memory_limit_bytes", follower.store_memory.limit)
    set_("bandit_store_clock_offset_seconds", follower.beats.offset_ms / 1000)
    if ready:  # then all experiments are known, those that were deleted within the last hour too
        service.counters.keep(follower.replicas)
    for name in (*BY_EXPERIMENT, EXPIRY):
        service.counters.clear(name)
    if service.gate.on and service.gate.ring.next_end:
        set_(EXPIRY, service.gate.ring.next_end / 1000)
    replicas = list(follower.replicas.values())
    served = [replica for replica in replicas if replica.model is not None]
    set_("bandit_experiments", len(served))
    set_("bandit_model_bytes", sum(model_bytes(*replica.shape) for replica in served))
    for replica in replicas:
        if not replica.deleted:
            service.counters.cell(GAPS, replica.name)
            set_("bandit_replica_failed", replica.failed is not None, replica.name)
    for replica in served:
        lag = now - replica.read_at if replica.read_at else 0.0
        set_("bandit_replica_lag_seconds", lag, replica.name)
        set_("bandit_replica_lag_entries", replica.freshness.behind, replica.name)
        set_("bandit_refresh_pending_arms", len(replica.model.waiting) if replica.model else 0, replica.name)
        if (archive := follower.checkpointers[replica.name].archive) is not None:
            set_("bandit_last_archive_timestamp_seconds", archive.seen_ms / 1000, replica.name)
        set_("bandit_log_ahead_seconds", max(0.0, replica.position.ms / 1000 - time.time()), replica.name)


def _resident() -> int:
    """Bytes of memory of this process; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError, ValueError):
        return 0
