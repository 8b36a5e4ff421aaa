"""A backup written back into a store: into an empty one whole, or one experiment into a store that lacks it.

The store says that it is half restored (a field of `bandit:meta`) from before the first write until everything has been
verified; meanwhile no server starts on it, and the restore can be run again, which begins by taking away what the first
one wrote. An experiment's config and name are written last, so one that is half restored is no experiment yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from bandit.archive.backup import Progress, quiet
from bandit.archive.copied import Copy
from bandit.archive.frames import read_frames
from bandit.archive.manifest import KEYS, Manifest, Saved, check_files, read_manifest
from bandit.errors import Code, CorruptLog, Problem, StoreUnsuitable, nearest
from bandit.log.records import START
from bandit.replica.verify import verify
from bandit.store.keys import META, RESTORING, Keys
from bandit.store.redis_connection import STORE_FORMAT
from bandit.store.redis_copying import READS, Key
from bandit.store.redis_store import RedisStore
from bandit.store.redis_wire import POSITION

TOGETHER = 500  # keys written in one message
WHOLE = b"everything"


def restore(
    store: RedisStore, folder: Path, experiment: str | None = None, progress: Progress = quiet
) -> list[dict[str, object]]:
    """Write a backup into a store, and verify what is there then.

    Args:
        store: an empty one that no server uses yet; with `experiment` one that does not have it.
        folder: the backup.
        experiment: the only one to be restored.
        progress: told now and then how far it has come.

    Returns:
        What `verify` says of each experiment, with its name; of a single one also `users`: whether this store names
        users as the other did, for feedback by user to find decisions from before.

    Raises:
        CorruptLog: the backup is damaged, or of a later format; nothing was written.
        StoreUnsuitable: the store is not empty; nothing was written.
        Problem: there is no such experiment in the backup, or there is one of that name in the store.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    chosen = _chosen(manifest, experiment)
    noted = store.noted()
    form = noted.get(b"format", STORE_FORMAT)
    if form != STORE_FORMAT:
        raise StoreUnsuitable(f"the store has data of format {form!r}; this version writes {STORE_FORMAT!r}")
    mark = f"{RESTORING}:{experiment}" if experiment else RESTORING
    if experiment and RESTORING.encode() in noted:
        raise StoreUnsuitable("the store is half restored: run `bandit-server restore` without --experiment to its end")
    if mark.encode() not in noted:
        _check_empty(store, noted, experiment)
        store.note({mark: experiment.encode() if experiment else WHOLE})
    elif experiment is None or not store.config_fields(experiment):
        _take_away(store, experiment)
    if not (experiment and store.config_fields(experiment)):
        _write(store, folder, chosen, experiment, progress)
    results = [_verified(store, saved) for saved in chosen]
    if experiment:
        results[0] |= {"users": store.secret() == _noted_in(folder).get(b"secret")}
    if all(result["equal"] for result in results):
        store.unnote(mark)
    return results


def _chosen(manifest: Manifest, experiment: str | None) -> list[Saved]:
    """The experiments to restore."""
    names = [saved.name for saved in manifest.experiments]
    if experiment is not None and experiment not in names:
        there = nearest(experiment, names) or (f"; it has {', '.join(names[:10])}" if names else "")
        raise Problem(Code.EXPERIMENT_NOT_FOUND, f"the backup has no experiment {experiment!r}{there}")
    return [saved for saved in manifest.experiments if experiment in (None, saved.name)]


def _check_empty(store: RedisStore, noted: dict[bytes, bytes], experiment: str | None) -> None:
    """Refuse a store that has data which would be mixed with the backup's."""
    if experiment is not None:
        if store.config_fields(experiment) or any(_of(experiment, names) for names in store.every_key()):
            raise Problem(Code.PRECONDITION_FAILED, f"the store has an experiment {experiment!r}: nothing was written")
        return
    others = [key for names in store.every_key() for key in names if key != META.encode()]
    if others or set(noted) - {b"format"}:
        found = f"it has experiments: {', '.join(store.names()[:10])}" if store.names() else "a server has used it"
        raise StoreUnsuitable(f"expected an empty store, got one that is not ({found}); nothing was written")


def _of(experiment: str, names: list[bytes]) -> list[bytes]:
    """Those keys that are an experiment's own."""
    return [name for name in names if name.startswith(Keys.of(experiment).prefix.encode() + b":")]


def _take_away(store: RedisStore, experiment: str | None) -> None:
    """Delete what an interrupted restore has written."""
    for names in store.every_key():
        store.unlink(_of(experiment, names) if experiment else [name for name in names if name != META.encode()])


def _write(store: RedisStore, folder: Path, chosen: list[Saved], experiment: str | None, progress: Progress) -> None:
    """Write everything; configs and names last."""
    for saved in chosen:
        copy, done = Copy(folder, saved), 0
        for entries in copy.entries():
            store.write_entries(saved.name, entries)
            done += len(entries)
            progress(f"log of {saved.name}", done, saved.entries)
        for table, fields in copy.fields():
            store.write_table(saved.name, table, fields)
        _write_heads(store, copy)
    if (shared := _noted_in(folder)) and (experiment is None or b"secret" not in store.noted()):
        store.note({field.decode(): value for field, value in shared.items()})
    done = 0
    for keys in _keys(folder, _wanted({saved.name for saved in chosen}, whole=experiment is None)):
        store.write_keys(keys)
        done += len(keys)
        progress("keys", done, 0)
    for saved in chosen:
        copy = Copy(folder, saved)
        if saved.deleted:
            own = Keys.of(saved.name)
            store.expire([own.log, own.table("sums"), own.table("base")], saved.expires_ms)
        if not store.write_config(saved.name, copy.head.config):
            raise Problem(Code.PRECONDITION_FAILED, f"{saved.name} was created while it was restored")


def _write_heads(store: RedisStore, copy: Copy) -> None:
    """The tables' cursors, where there are some, and the config in force where the log begins."""
    head, name = copy.head, copy.saved.name
    if head.sums != START:
        store.write_table(name, "sums", [b"cursor", POSITION.pack(*head.sums)])
    if head.base != START:
        store.write_table(name, "base", [b"cursor", POSITION.pack(*head.base)])
    if head.base_config:
        store.write_table(name, "base", [b"config", head.base_config])


def _noted_in(folder: Path) -> dict[bytes, bytes]:
    """What all servers of the other store shared."""
    found: list[bytes] = next((key.value for keys in _keys(folder, META.encode().__eq__) for key in keys), [])
    return dict(zip(found[::2], found[1::2], strict=True))


def _keys(folder: Path, wanted: Callable[[bytes], bool]) -> Iterator[list[Key]]:
    """The keys of a backup, some at a time; of those that come more than once the last counts, and comes last."""
    together: list[Key] = []
    for found in read_frames(folder / KEYS):
        key = msgspec.convert(found, Key)
        if key.type not in READS:
            raise CorruptLog(f"{folder / KEYS}: a key of type {key.type!r}; this version knows {sorted(READS)}")
        if wanted(key.key):
            together.append(key)
        if len(together) >= TOGETHER:
            yield together
            together = []
    yield together


def _wanted(names: set[str], *, whole: bool) -> Callable[[bytes], bool]:
    """Which keys are restored: of these experiments, and where `whole` those of the store."""
    prefixes = {Keys.of(name).prefix.encode() for name in names}

    def is_wanted(key: bytes) -> bool:
        prefix, brace, _ = key.partition(b"}")
        if not key.startswith(b"bandit:{"):
            return whole and key != META.encode()
        return prefix + brace in prefixes

    return is_wanted


def _verified(store: RedisStore, saved: Saved) -> dict[str, Any]:
    """What `verify` says of an experiment; of a deleted one its end is compared."""
    if saved.deleted:
        return {"experiment": saved.name, "equal": store.end(saved.name) == saved.cut, "deleted": True}
    result = verify(store, saved.name)
    return {"experiment": saved.name, **result}
