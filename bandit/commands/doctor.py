"""`bandit-server doctor`: whether this machine and this store can be relied on, and what a rate of decisions needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bandit.commands.checkup.finding import Finding
from bandit.commands.checkup.installed import installed
from bandit.commands.checkup.machine import machine
from bandit.commands.checkup.stored import stored
from bandit.commands.log_commands import opened_store
from bandit.commands.sizing import Need, need
from bandit.core.experiment import compile_config
from bandit.core.times import seconds
from bandit.errors import StoreUnavailable, StoreUnsuitable
from bandit.process import embedded
from bandit.replica.trim import BEHIND_MS
from bandit.settings import Settings
from bandit.store.open import open_store
from bandit.store.redis_store import RedisStore
from bandit.telling import reason


def findings(settings: Settings) -> Iterator[Finding]:
    """Check the installation, the machine and the store."""
    yield from installed()
    yield from machine(settings)
    if settings.redis_url is None:
        yield _binary(settings)
        if not settings.data_dir.is_dir():
            return
    try:
        with _unchecked(settings) as store:
            yield from stored(store)
            yield from _experiments(store)
    except (StoreUnavailable, StoreUnsuitable, embedded.EmbeddedError, OSError) as error:
        yield Finding("FAIL", "store", reason(error))


def _binary(settings: Settings) -> Finding:
    try:
        return Finding("ok", "binary", f"store binary: {embedded.find_binary(settings.store_binary)}")
    except embedded.EmbeddedError as error:
        return Finding("FAIL", "binary", str(error))


@contextmanager
def _unchecked(settings: Settings) -> Iterator[RedisStore]:
    """The settings' store, also where a server would not use it: why not is to be told together with all else."""
    if settings.redis_url is None:
        with opened_store(settings) as store:
            yield store
        return
    store = open_store(settings.redis_url, timeout=30)
    try:
        yield store
    finally:
        store.close()


def _experiments(store: RedisStore) -> Iterator[Finding]:
    for name in store.names():
        config = store.config(name)
        if config is not None and not config.config.deleted:
            text = f"experiment {name}: {store.log_size(name)} in its log, version {config.config.version}"
            yield Finding("ok", "experiment", text)
            if (archive := store.archived(name)) and (late := store.now_ms() - archive.seen_ms) > BEHIND_MS:
                text = f"experiment {name}: nobody has archived it for {late // 3_600_000} hours, so its log grows"
                yield Finding("note", "archive", f"{text}; run `bandit-server archive`, or end it with --forget")


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
