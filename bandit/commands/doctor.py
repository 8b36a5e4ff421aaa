"""`bandit-server doctor`: whether this machine and this store can be relied on, and what a rate of decisions needs."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from bandit import __version__
from bandit.commands.log_commands import opened_store
from bandit.commands.sizing import Need, need
from bandit.core.experiment import compile_config
from bandit.core.times import seconds, time_of
from bandit.errors import StoreUnavailable, StoreUnsuitable
from bandit.process.embedded import EmbeddedError, find_binary
from bandit.settings import Settings
from bandit.store.protocol import CLOCK_AHEAD_MS, FULL
from bandit.store.redis_store import RedisStore
from bandit.telling import reason

Verdict = Literal["ok", "note", "FAIL"]


class Finding(NamedTuple):
    """One thing that was checked."""

    verdict: Verdict
    text: str


def findings(settings: Settings) -> Iterator[Finding]:
    """Check the installation and the store."""
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("ok", f"bandit-server {__version__}, Python {python}, numpy {np.__version__}")
    yield _name_clash()
    if settings.redis_url is None:
        yield _binary(settings)
        if not settings.data_dir.is_dir():
            yield _directory(settings.data_dir)
            return
    try:
        with opened_store(settings) as store:
            yield from _of_store(store)
    except (StoreUnavailable, StoreUnsuitable, EmbeddedError, OSError) as error:
        yield Finding("FAIL", reason(error))


def _name_clash() -> Finding:
    """PyCQA's linter is called `bandit` too: installed beside us it overwrites our package."""
    try:
        importlib.metadata.distribution("bandit")
    except importlib.metadata.PackageNotFoundError:
        return Finding("ok", "PyCQA's linter `bandit`, which would overwrite this package, is not installed")
    return Finding("FAIL", "PyCQA's linter `bandit` is installed here and overwrites this package: use another venv")


def _binary(settings: Settings) -> Finding:
    try:
        return Finding("ok", f"store binary: {find_binary(settings.store_binary)}")
    except EmbeddedError as error:
        return Finding("FAIL", str(error))


def _directory(data_dir: Path) -> Finding:
    """Whether a data directory that does not exist can be made."""
    nearest = next((path for path in (data_dir, *data_dir.absolute().parents) if path.exists()), Path("/"))
    if not nearest.is_dir():
        return Finding(
            "FAIL", f"data directory {data_dir} cannot be made: {nearest} is a file; name another --data-dir"
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        return Finding("FAIL", f"data directory {data_dir} cannot be made: this user may not write to {nearest}")
    return Finding("note", f"data directory {data_dir} is not there yet; `serve` makes it")


def _of_store(store: RedisStore) -> Iterator[Finding]:
    info = store.info()
    kind = "valkey" if "valkey_version" in info else "redis"
    yield Finding("ok", f"store: {kind} {info[kind + '_version']}, noeviction, {info['used_memory_human']} in use")
    if not info.get("aof_enabled"):
        yield Finding("FAIL", "the store keeps no append-only file: a restart loses writes that were acknowledged")
    if (used := info["used_memory"]) > FULL * info["maxmemory"] > 0:
        yield Finding(
            "note",
            f"the store uses {used >> 20} of {info['maxmemory'] >> 20} MiB: give it more memory before it is full",
        )
    try:
        store.probe()
    except StoreUnavailable as error:
        yield Finding("FAIL", f"the store takes no writes: {error}")
    ours, theirs = round(time.time() * 1000), store.now_ms()
    if abs(theirs - ours) > CLOCK_AHEAD_MS:
        yield Finding("FAIL", f"the store's clock says {time_of(theirs)}, here it is {time_of(ours)}: set them right")
    if not info.get("maxmemory"):
        yield Finding("note", "the store has no maxmemory: it grows until the machine runs out of memory")
    for name in store.names():
        stored = store.config(name)
        if stored is not None and not stored.config.deleted:
            yield Finding(
                "ok", f"experiment {name}: {store.log_size(name)} in its log, version {stored.config.version}"
            )


def sizing(settings: Settings, rate: float) -> Iterator[str]:
    """What `rate` decisions a second need, for each experiment of the store, or for a usual one."""
    experiments = []
    if settings.redis_url is not None or settings.data_dir.is_dir():
        with opened_store(settings) as store:
            known = [store.config(name) for name in store.names()]
            experiments = [compile_config(stored.config) for stored in known if stored and not stored.config.deleted]
    for experiment in experiments:
        arms, kinds, d = experiment.shape
        window = seconds(experiment.document.reward_window)
        title = f"{experiment.name} ({arms} arms, {d} columns, window {window / 86400:g} days)"
        refunds = experiment.refunds_ms / 1000
        needed = need(
            rate, d=d, arms=arms, kinds=kinds, window=window, rewarded=0.1, named=True, users=True, refunds=refunds
        )
        yield from _estimate(title, rate, needed)
    if not experiments:
        usual = need(rate, d=32, arms=100, kinds=2, window=7 * 86400.0, rewarded=0.1, named=True, users=True)
        yield from _estimate("a typical experiment (100 arms, 32 columns, window 7 days)", rate, usual)


def _estimate(title: str, rate: float, n: Need) -> Iterator[str]:
    yield f"{title} at {rate:g} decisions/s, each by a different user, one in ten rewarded:"
    yield f"  {n.decision} bytes per decision, {n.feedback} per feedback, {n.arm} per arm"
    yield f"  {_human(n.log)} of memory for the log (reward window and one day more), {_human(n.sums)} for sums"
    yield f"  {_human(n.per_day)} per day in the append-only file, until the store rewrites it"


def _human(size: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
