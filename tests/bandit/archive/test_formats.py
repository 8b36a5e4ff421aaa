"""Formats of stored data: what the first version wrote is read for ever, and what a later one writes is refused whole.

tests/data/formats holds a backup and an archive of format 1, and the export of both. To write them anew, which only a
format that has never been released needs: python tests/bandit/archive/test_formats.py --write
"""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
from conftest import opened, served
from copying import Round, Writer, checkpointed, knows
from trial import SALE, Trial, past
from typer.testing import CliRunner

from bandit import __version__
from bandit.__main__ import app
from bandit.archive.archiver import archive, archive_folder
from bandit.archive.backup import back_up
from bandit.archive.files import ABOUT, files_of
from bandit.archive.joined import Joined
from bandit.archive.manifest import read_manifest, write_manifest
from bandit.archive.restore import restore
from bandit.errors import CorruptLog, StoreUnsuitable
from bandit.replica.export import export
from bandit.replica.replica import Replica
from bandit.replica.verify import verify
from bandit.store.keys import Keys
from bandit.store.redis_store import RedisStore

FORMATS = Path(__file__).parents[2] / "data" / "formats"
BACKUP, ARCHIVE, EXPORT = FORMATS / "backup-1", FORMATS / "archive-1", FORMATS / "export-1.jsonl"
FAR = 10**13  # ms: a window that is open for some hundred years
NAME = "home"


@pytest.fixture
def store() -> Iterator[RedisStore]:
    """An empty store."""
    with served() as url, opened(url, 30) as found:
        yield found


def test_what_the_first_version_wrote_is_read(store: RedisStore) -> None:
    """Its backup is restored, its archive goes on in the log without a gap, its rows are exported as they were, and
    every event of then is known.
    """
    (result,) = restore(store, BACKUP)
    assert result["equal"]
    rows = [json.loads(line) for line in EXPORT.read_text().splitlines()]
    assert list(export(store, NAME)) == rows
    joined = Joined(store, ARCHIVE, NAME)
    assert list(export(joined, NAME)) == rows
    assert joined.upto > files_of(ARCHIVE, NAME)[0].first
    assert verify(joined, NAME) == {key: result[key] for key in result if key != "experiment"}
    knows(Trial(store, NAME), msgspec.json.decode((FORMATS / "round-1.json").read_bytes(), type=Round))


def newer_manifest(folder: Path) -> None:
    """A backup of format 2."""
    write_manifest(folder, msgspec.structs.replace(read_manifest(folder), format=2, made_by="9.0"))


def test_a_newer_backup_is_refused_and_nothing_written(store: RedisStore, tmp_path: Path) -> None:
    """Before a byte goes to the store; the message has both formats, and who wrote it."""
    shutil.copytree(BACKUP, tmp_path / "b")
    newer_manifest(tmp_path / "b")
    with pytest.raises(CorruptLog, match=rf"format 2, written by 9\.0; this version \({__version__}\) reads up to 1"):
        restore(store, tmp_path / "b")
    assert [names for names in store.every_key() if names] == []
    told = CliRunner().invoke(app, ["restore", str(tmp_path / "b"), "--data-dir", str(tmp_path / "data")])
    assert (told.exit_code, (tmp_path / "data").exists()) == (1, False)


def test_a_newer_archive_is_refused_and_nothing_written(store: RedisStore, tmp_path: Path) -> None:
    """A folder of a later format, and a file of one among files of this."""
    restore(store, BACKUP)
    known = store.archived(NAME)
    for what in ("folder", "file"):
        shutil.copytree(ARCHIVE, folder := tmp_path / what)
        if what == "folder":
            told = json.loads((folder / "archive.json").read_text())
            (folder / "archive.json").write_text(json.dumps(told | {"format": 2}))
        else:
            newer_file(files_of(folder, NAME)[-1].path)
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        with pytest.raises(CorruptLog, match=r"format 2.*reads up to 1"):
            Joined(store, folder, NAME)
        with pytest.raises(CorruptLog, match=r"format 2.*reads up to 1"), archive_folder(folder) as own:
            archive(store, NAME, folder, own, 0)
        left = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
        assert left == before
    assert store.archived(NAME) == known


def newer_file(path: Path) -> None:
    """A file of format 2."""
    table = pq.read_table(path)
    about = json.loads(pq.read_metadata(path).metadata[ABOUT]) | {"format": 2}
    pq.write_table(table.replace_schema_metadata({ABOUT: json.dumps(about)}), path)


def test_a_newer_store_is_refused(store: RedisStore) -> None:
    """By everything that opens it, a restore too."""
    store.note({"format": b"2"})
    with pytest.raises(StoreUnsuitable, match=r"format b'2'; this version reads b'1'"):
        store.check()
    with pytest.raises(StoreUnsuitable, match=r"format b'2'; this version writes b'1'"):
        restore(store, BACKUP)
    assert store.noted() == {b"format": b"2"}


def test_a_newer_record_is_refused(store: RedisStore, tmp_path: Path) -> None:
    """By the fold, an export, a backup and an archive, and nothing is left of these; the log stays as it was."""
    trial = Trial(store, NAME, grace_ms=0)
    trial.decide(window_ms=1)
    log = Keys.of(NAME).log
    store._sync.xadd(log, {"d": b"\x02" + trial.log()[-1].record[1:]})
    past(store, trial.log()[-1].position.ms + 2)
    trial.decide(window_ms=1)
    before, end = trial.log(), store.end(NAME)
    replica = Replica(NAME, store)
    replica.load()
    with pytest.raises(CorruptLog, match="format 02; this version reads 1"):
        replica.catch_up()
    assert store.write_rows(NAME, "sums", trial.lease(), [], end)
    for read in (
        lambda: list(export(store, NAME)),
        lambda: back_up(store, tmp_path / "b"),
        lambda: _archive(store, tmp_path / "a"),
    ):
        with pytest.raises(CorruptLog, match=r"format 0?2; this version reads 1"):
            read()
    assert not (tmp_path / "b").exists()
    assert files_of(tmp_path / "a", NAME) == []
    assert trial.log() == before


def _archive(store: RedisStore, folder: Path) -> None:
    with archive_folder(folder) as own:
        archive(store, NAME, folder, own, 0)


def test_a_newer_checkpoint_row_is_refused(store: RedisStore, tmp_path: Path) -> None:
    """It is not taken for sums; a backup of it is not made."""
    restore(store, BACKUP)
    table = Keys.of(NAME).table("sums")
    row = store._sync.hget(table, "0")
    store._sync.hset(table, "0", row[:16] + b"\x07" + row[17:])
    for read in (lambda: verify(store, NAME), lambda: back_up(store, tmp_path / "b")):
        with pytest.raises(CorruptLog, match="checkpoint row of format 07; this version reads 1 and 2"):
            read()
    assert not (tmp_path / "b").exists()


def write() -> None:
    """Write the fixtures: a small experiment with everything that the log has."""
    shutil.rmtree(FORMATS, ignore_errors=True)
    FORMATS.mkdir(parents=True)
    with served() as url, opened(url, 30) as store:
        store.note({"secret": bytes(range(32)), "format": b"1"})
        trial = Trial(store, NAME, grace_ms=0, refunds="7d")
        for i in range(6):
            trial.feed(trial.decide(i % 4, x=(4096, 7 * i), window_ms=1, user=f"s{i}"), i, SALE, f"e{i}")
        past(store, trial.log()[-1].position.ms + 2)
        for i in range(4):
            trial.decide(i % 4, 3 - i % 4, x=(4096, 11 * i), window_ms=FAR, caller=f"l{i}")
        trial.activate(trial.decide(2, deferred=True, window_ms=FAR))
        trial.change(arms=["a", "b", "c", "d", "e"])
        (writer := Writer(trial, "a", FAR)).write()
        (FORMATS / "round-1.json").write_bytes(msgspec.json.encode(writer.rounds[0]) + b"\n")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("copying.trim", lambda *args: 0)
            checkpointed(store, NAME)
        EXPORT.write_text("".join(json.dumps(row) + "\n" for row in export(store, NAME)))
        back_up(store, BACKUP)
        _archive(store, ARCHIVE)
        (ARCHIVE / ".lock").unlink()


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    write()
