"""Backups: one cut through a store that is written to, whole or not there, and restored as it was."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dying
import pytest
import redis
from conftest import opened, served
from copying import checkpointed, knows, knows_nothing_of, written_to
from trial import CLICK, SALE, Trial, past, until, user

from bandit.archive.backup import back_up, check_backup
from bandit.archive.manifest import read_manifest
from bandit.archive.restore import restore
from bandit.errors import CorruptLog, Problem, StoreUnsuitable
from bandit.log.records import START
from bandit.replica.verify import verify
from bandit.store.keys import META, Keys
from bandit.store.protocol import Logged, Ref
from bandit.store.redis_copying import Key
from bandit.store.redis_store import RedisStore

OTHER = {"valkey": "redis", "redis": "valkey"}


@pytest.fixture
def empty() -> Iterator[str]:
    """The address of an empty Valkey."""
    with served() as found:
        yield found


@pytest.fixture
def source() -> Iterator[RedisStore]:
    """A store of its own for a test, empty."""
    with served() as url, opened(url, 30) as store:
        yield store


def filled(store: RedisStore, name: str, rounds: int = 5) -> Trial:
    """A small experiment with a checkpoint."""
    trial = Trial(store, name)
    for i in range(rounds):
        ref = trial.decide(i % 4, caller=f"c{i}", user="u")
        trial.feed(ref, 1 + i, SALE, f"e{i}")
    checkpointed(store, name)
    return trial


@pytest.mark.parametrize("kind", ["valkey", "redis"])
def test_a_backup_under_load_is_one_cut_and_is_restored_into_the_other_kind(kind: str, tmp_path: Path) -> None:
    """Two writers, checkpoints and trims go on meanwhile. What was acknowledged before it began is all there: events
    are repeats, decisions are found by id, by name and by user, refunds work. What came after the cut is new.
    """
    with served(kind) as url, served(OTHER[kind]) as other, opened(url, 30) as store:
        early = Trial(store, "home", refunds="2h")
        gone = [early.decision(caller=f"old{i}", window_ms=300) for i in range(40)]
        early.send(*gone)
        with written_to(url, "home") as writers:
            past(store, store.end("home").ms + 300)  # the window of the first
            until(lambda: all(len(writer.rounds) > 20 for writer in writers), "twenty rounds", 60)
            before = [told for writer in writers for told in writer.rounds]
            manifest = back_up(store, tmp_path / "b")
            ended = [len(writer.rounds) for writer in writers]
            until(lambda: all(len(w.rounds) > n + 5 for w, n in zip(writers, ended, strict=True)), "more rounds", 60)
        (saved,) = manifest.experiments
        rounds = [told for writer in writers for told in writer.rounds]
        after = [told for told in rounds if told.own_at > saved.cut]
        within = [told for told in rounds if told.last <= saved.cut]
        assert {told.number for told in before} <= {told.number for told in within}
        assert after
        with opened(other, 30) as target:
            (result,) = restore(target, tmp_path / "b")
            assert (result["equal"], result["folded"]) == (True, saved.entries)
            assert target.end("home") == saved.cut
            trial = Trial(target, "home")
            for told in within:
                knows(trial, told)
            for told in after:
                knows_nothing_of(trial, told)
            assert trial.feed(trial.ref(gone[0], Logged(START)), 1, SALE, "late").status in ("late", "unknown")
            checkpointed(target, "home")
            assert verify(target, "home")["equal"]


def test_a_backup_has_all_of_the_store_and_restores_its_times(source: RedisStore, empty: str, tmp_path: Path) -> None:
    """Every key of ours but leases, producers and sizes of models comes back with its value and its end, to the byte;
    users are hashed with the same secret, keys of other rooms come along, whatever type they have.
    """
    source.check()
    secret = source.secret()
    filled(source, "home")
    filled(source, "away")
    raw = source._sync
    raw.hset("bandit:keys", mapping={"k": b"\x00\xff"})
    raw.xadd("bandit:audit", {"who": "me", "what": "x"})
    raw.xadd("bandit:audit", {"who": "you"})
    raw.zadd("bandit:scores", {"a": 1.5, "b": -2})
    raw.rpush("bandit:list", "x", "y", "x")
    raw.sadd("bandit:set", "m", "n")
    back_up(source, tmp_path / "b")
    with opened(empty, 30) as target:
        restore(target, tmp_path / "b")
        target.check()
        assert target.secret() == secret
        there, here = every_key(source), every_key(target)
        left_out = {key for key in there if b":lease" in key or b":p:" in key or key == b"bandit:models"}
        assert here == {key: found for key, found in there.items() if key not in left_out}
        assert {b"bandit:keys", b"bandit:audit", b"bandit:scores", b"bandit:list", b"bandit:set"} <= here.keys()


@pytest.mark.parametrize("attribution", ["last", "first", "all"])
def test_entries_name_every_key_that_was_written_with_them(
    url: str, name: str, attribution: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys of the entries from the first on are all keys of single decisions and users, as they are: named and not,
    lists, deferred ones, events by id and by user, refunds by each way, several generations. So a backup misses none.
    """
    monkeypatch.setattr("bandit.store.redis_copying.CHANGES", 3)
    with opened(url, 30) as store:
        trial = Trial(store, name, attribution=attribution, refunds="2h")
        for _ in range(2):
            refs = [
                trial.decide(i, 3 - i, caller=f"c{i}" * (i % 2), user="u" * (i < 2)) for i in range(4) if i != 3 - i
            ]
            trial.activate(trial.decide(deferred=True, caller="d", user="v"))
            trial.activate(shown := trial.decide(deferred=True))
            for i, ref in enumerate(refs):
                trial.feed(ref, 1 + i, SALE, f"e{i}", arm=i)
                trial.feed(ref, 0, CLICK, arm=3 - i)
                trial.refund(ref, f"r{i}", f"e{i}", arm=i)
            trial.feed(shown, 2, SALE, "s")
            trial.feed(Ref(caller=b"d"), 3, SALE, "s")
            trial.send(
                trial.reward(user("v"), 3, SALE, "by-user"), trial.reward(user("v"), 1, SALE, "back", of="by-user")
            )
            trial.change(reset=True)
        position, found, steps = START, dict[bytes, tuple[str, int, object]](), 0
        while True:
            changes = store.changes(name, position)
            found |= {key.key: _plain(key) for key in changes.keys}
            position, steps = changes.upto, steps + 1
            if changes.is_end:
                break
        prefix = Keys.of(name).prefix.encode()
        kinds = tuple(prefix + b":%c:" % letter for letter in b"dirue")
        there = {key: value for key, value in every_key(store).items() if key.startswith(kinds)}
        assert found == there
        assert {key[len(prefix) + 1 : len(prefix) + 2] for key in there} == {b"d", b"i", b"r", b"u", b"e"}
        assert (position, steps) == (store.end(name), -(-len(trial.log()) // 3))


def every_key(store: RedisStore) -> dict[bytes, tuple[str, int, object]]:
    """Every key with its type, end and value."""
    names = sorted({name for names in store.every_key() for name in names})
    return {key.key: _plain(key) for key in store.keys(names)}


def _plain(key: Key) -> tuple[str, int, object]:
    """Its type, end and value, in an order of its own where it has none."""
    pairs = list(zip(key.value[::2], key.value[1::2], strict=False))
    value = sorted(pairs) if key.type == "hash" else sorted(key.value) if key.type == "set" else key.value
    return key.type, key.expires_ms, value


def test_what_has_ended_meanwhile_is_not_restored(source: RedisStore, empty: str, tmp_path: Path) -> None:
    """A key whose time passed between backup and restore would live for ever, or revive; it stays away."""
    trial = Trial(source, "home", grace_ms=0)
    logged = trial.send(trial.decision(caller="short", window_ms=1500), trial.decision(caller="long"))
    back_up(source, tmp_path / "b")
    assert isinstance(logged[0], Logged)
    with opened(empty, 30) as target:
        past(target, logged[0].position.ms + 1600)
        restore(target, tmp_path / "b")
        assert target.decision("home", b"short") is None
        assert target.decision("home", b"long") is not None


def test_a_deleted_experiment_comes_along_until_its_time(source: RedisStore, empty: str, tmp_path: Path) -> None:
    """Its generation must not begin again, and its log can be exported for as long as it would have been."""
    filled(source, "gone").delete()
    back_up(source, tmp_path / "b")
    with opened(empty, 30) as target:
        (result,) = restore(target, tmp_path / "b")
        assert result == {"experiment": "gone", "equal": True, "deleted": True}
        log = Keys.of("gone").log
        assert target.expires_ms(log) == source.expires_ms(log) > 0
        stored = target.config("gone")
        assert stored is not None
        assert stored.config.deleted


@pytest.mark.parametrize("damage", ["flip", "cut", "lost", "manifest"])
def test_a_damaged_backup_is_refused_before_anything_is_written(
    damage: str, source: RedisStore, empty: str, tmp_path: Path
) -> None:
    """One bit in any file, a file cut short or lost, a manifest changed by hand: refused, and the store stays empty."""
    filled(source, "home")
    back_up(source, tmp_path / "b")
    for path in sorted((tmp_path / "b").iterdir()):
        if (damage == "manifest") != (path.name == "manifest.json"):
            continue
        shutil.copytree(tmp_path / "b", tmp_path / "c")
        copy, data = tmp_path / "c" / path.name, bytearray(path.read_bytes())
        if damage == "lost":
            copy.unlink()
        elif damage == "manifest":
            copy.write_bytes(data.replace(b'"entries": ', b'"entries": 1'))
        else:
            data[len(data) // 2] ^= 1
            copy.write_bytes(data if damage == "flip" else data[:-1])
        with opened(empty) as target:
            with pytest.raises(CorruptLog, match=r"damaged|lost"):
                restore(target, tmp_path / "c")
            assert list(every_key(target)) == []
        shutil.rmtree(tmp_path / "c")


def test_a_restore_goes_into_an_empty_store_only(source: RedisStore, empty: str, tmp_path: Path) -> None:
    """Not over an experiment, nor beside one, nor where a server has hashed users with a secret of its own."""
    filled(source, "home")
    back_up(source, tmp_path / "b")
    with pytest.raises(StoreUnsuitable, match="home"):
        restore(source, tmp_path / "b")
    with opened(empty) as target:
        Trial(target, "other")
        before = every_key(target)
        with pytest.raises(StoreUnsuitable, match="other"):
            restore(target, tmp_path / "b")
        assert every_key(target) == before
    with served() as url, opened(url) as target:
        target.check()
        target.secret()
        with pytest.raises(StoreUnsuitable, match="a server has used it"):
            restore(target, tmp_path / "b")


def test_one_experiment_is_restored_beside_others(source: RedisStore, empty: str, tmp_path: Path) -> None:
    """Into a store that lacks it, with nothing else of the backup; never over one of that name."""
    filled(source, "home")
    filled(source, "away")
    source.secret()
    back_up(source, tmp_path / "b")
    with opened(empty, 30) as target:
        target.check()
        Trial(target, "own")
        (result,) = restore(target, tmp_path / "b", "home")
        assert (result["equal"], result["users"], target.names()) == (True, True, ["home", "own"])
        assert (
            Trial(target, "home")
            .feed(Trial.ref(Trial(target, "home").decision(caller="c1"), Logged(START)), 2, SALE, "e1")
            .status
            == "duplicate"
        )
        with pytest.raises(Problem, match="nothing was written"):
            restore(target, tmp_path / "b", "home")
        with pytest.raises(Problem, match="did you mean 'away'"):
            restore(target, tmp_path / "b", "awya")
    with served() as url, opened(url, 30) as target:
        target.secret()
        assert restore(target, tmp_path / "b", "home")[0]["users"] is False
        target.check()


def test_a_backup_takes_the_place_of_nothing(source: RedisStore, tmp_path: Path) -> None:
    """A folder with anything in it is left alone; an empty one is used."""
    filled(source, "home")
    (tmp_path / "b").mkdir()
    back_up(source, tmp_path / "b")
    before = sorted((path.name, path.read_bytes()) for path in (tmp_path / "b").iterdir())
    with pytest.raises(FileExistsError, match="there already"):
        back_up(source, tmp_path / "b")
    assert sorted((path.name, path.read_bytes()) for path in (tmp_path / "b").iterdir()) == before
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "b").iterdir()} == {0o600}
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_trimming_waits_while_a_backup_reads_and_goes_on_after_it(source: RedisStore, tmp_path: Path) -> None:
    """An entry that left the log between two reads would be missing."""
    trial = Trial(source, "home", grace_ms=0)
    sent = trial.send(*(trial.decision(window_ms=1) for _ in range(20)))
    assert isinstance(sent[-1], Logged)
    past(source, sent[-1].position.ms + 2)
    trimmed = {}

    def during(what: str, done: int, total: int) -> None:
        if what != "checked":  # all is read by then
            trimmed[what] = checkpointed(source, "home")

    back_up(source, tmp_path / "b", during)
    assert trimmed == dict.fromkeys(["checkpoints", "keys", "changes", "log of home"], 0)
    assert checkpointed(source, "home") == 20
    assert read_manifest(tmp_path / "b").experiments[0].entries == 21


def test_a_checkpoint_that_is_not_the_fold_of_its_log_fails_the_backup(source: RedisStore, tmp_path: Path) -> None:
    """A backup is verified before it gets its name."""
    filled(source, "home")
    table = Keys.of("home").table("sums")
    row = bytearray(source._sync.hget(table, "1"))
    row[-20] ^= 1
    source._sync.hset(table, "1", bytes(row))
    with pytest.raises(CorruptLog, match="not the fold of its log"):
        back_up(source, tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


# killed


KILLED = """
import sys
from pathlib import Path
from dying import dying_at
from bandit.archive import backup, frames, restore
from bandit.store.redis_store import RedisStore

what, url, folder, place, at = sys.argv[1:]
dying_at({"backup": backup, "restore": restore, "frames": frames, "store": RedisStore, "path": Path}, place, int(at))
store = RedisStore(url, 30)
if what == "backup":
    backup.back_up(store, Path(folder))
else:
    restore.restore(store, Path(folder))
"""


def killed(what: str, url: str, folder: Path, place: str, at: int = 0) -> None:
    """Run one in a process that kills itself at a call of a function."""
    dying.killed(KILLED, what, url, str(folder), place, str(at))


@pytest.mark.parametrize(
    ("place", "at"),
    [("store.keys", 0), ("store.changes", 0), ("store.read", 0), ("backup.write_manifest", 0),
     ("backup.check_backup", 0), ("path.rename", 0)],
)  # fmt: skip
def test_a_killed_backup_leaves_no_backup_and_the_next_one_none_of_it(
    place: str, at: int, source: RedisStore, tmp_path: Path
) -> None:
    """At each stage: the folder is not there; run again it is, and whole, and nothing is left beside it."""
    filled(source, "home")
    url = f"unix://{source._sync.connection_pool.connection_kwargs['path']}"
    killed("backup", url, tmp_path / "b", place, at)
    assert not (tmp_path / "b").exists()
    back_up(source, tmp_path / "b")
    check_backup(tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize(
    ("place", "at"),
    [("store.write_entries", 0), ("store.write_entries", 1), ("store.write_table", 1), ("store.write_keys", 0),
     ("store.write_config", 0), ("store.write_config", 1), ("restore.verify", 0), ("store.unnote", 0)],
)  # fmt: skip
def test_a_killed_restore_says_so_and_is_run_again(
    place: str, at: int, source: RedisStore, empty: str, tmp_path: Path
) -> None:
    """At each stage: no server starts on the store; the second run ends in the same store as an undisturbed one."""
    filled(source, "home")
    filled(source, "away")
    source.secret()
    back_up(source, tmp_path / "b")
    killed("restore", empty, tmp_path / "b", place, at)
    with opened(empty, 30) as target:
        with pytest.raises(StoreUnsuitable, match="half restored"):
            target.check()
        assert all(result["equal"] for result in restore(target, tmp_path / "b"))
        target.check()
        with served() as url, opened(url, 30) as straight:
            restore(straight, tmp_path / "b")
            straight.check()
            assert every_key(target) == every_key(straight)


def test_the_commands_back_up_and_restore(tmp_path: Path) -> None:
    """As an operator runs them, with data directories of our own; a half restored one is not served."""
    with served() as url, opened(url) as store:
        filled(store, "home")
        done = command("backup", str(tmp_path / "b"), "--redis-url", url)
        assert (done.returncode, done.stdout.splitlines()[0][:17]) == (0, "home: 11 entries "), done.stderr
    done = command("restore", str(tmp_path / "b"), "--data-dir", str(tmp_path / "new"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["equal"] is True
    done = command("verify", "home", "--data-dir", str(tmp_path / "new"))
    assert json.loads(done.stdout)["equal"] is True
    again = command("restore", str(tmp_path / "b"), "--data-dir", str(tmp_path / "new"))
    assert (again.returncode, "nothing was written" in again.stderr) == (1, True)
    none = command("restore", str(tmp_path / "none"), "--data-dir", str(tmp_path / "other"))
    assert (none.returncode, (tmp_path / "other").exists()) == (1, False)
    assert "is no backup" in none.stderr


def test_serve_refuses_a_store_that_is_half_restored(tmp_path: Path) -> None:
    """In one line that says what to do."""
    with served() as url:
        with redis.Redis.from_url(url) as raw:
            raw.hset(META, mapping={"restoring": "everything", "format": "1"})
        done = command("serve", "--redis-url", url, "--port", "0")
        assert done.returncode != 0
        assert "half restored from a backup: run `bandit-server restore`" in done.stderr


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m bandit` with these arguments."""
    line = [sys.executable, "-m", "bandit", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ))
