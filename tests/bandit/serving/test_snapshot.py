"""Snapshots on the disk: read back they decide as before; what is damaged, or of a later version, is not used."""

import asyncio
import hashlib
import json
import logging
from pathlib import Path

import msgspec
import pytest
from bench import SECRET, Bench, played
from live import Experiment, ok, serving, until, valkey

from bandit.errors import CorruptLog
from bandit.serving.outage import snapshot
from bandit.store.memory_store import MemoryStore

ROOM = 1 << 30


def learned() -> Bench:
    """A replica that has learned something."""
    found: list[Bench] = []

    async def play() -> None:
        bench = Bench()
        await asyncio.gather(*(bench.ask(decision_id=f"x{i}") for i in range(40)))
        await asyncio.gather(*(bench.feedback(decision_id=f"x{i}") for i in range(20)))
        bench.replica.catch_up()
        found.append(bench)

    played(play)
    return found[0]


def written(directory: Path, bench: Bench) -> Path:
    """Its snapshot in a directory."""
    model, position = bench.replica.served, bench.replica.position
    snapshot.write(directory, "e", snapshot.packed(model.experiment.config, model.sums, position, SECRET))
    return directory / "e.snapshot"


def test_what_is_read_back_is_what_was_written(tmp_path: Path) -> None:
    """Bit for bit: sums, position, config and the key of user ids; nobody else may read the file."""
    bench = learned()
    file = written(tmp_path, bench)
    assert file.stat().st_mode & 0o077 == 0
    ((replica, secret),) = snapshot.restored(tmp_path, MemoryStore(), ROOM)
    assert secret == SECRET
    assert (replica.position, replica.config) == (bench.replica.position, bench.replica.config)
    assert replica.served.sums.digest() == bench.replica.served.sums.digest()
    assert int(replica.served.sums.n.sum()) == 40
    assert replica.is_fresh
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.snapshot"]


def test_a_damaged_file_is_not_used_and_the_others_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Cut anywhere, or with a byte that is another: it is said, and nothing of it decides."""
    bench = learned()
    whole = written(tmp_path, bench).read_bytes()
    (tmp_path / "e.snapshot").rename(tmp_path / "other.snapshot")  # of another experiment than its name says
    for at in (0, 10, len(snapshot.MAGIC) + 3, len(whole) // 2, len(whole) - 1):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
            with pytest.raises(CorruptLog):
                snapshot.unpacked(damaged)
            (tmp_path / "a.snapshot").write_bytes(damaged)
            written(tmp_path, bench)
            with caplog.at_level(logging.WARNING):
                assert [replica.name for replica, _ in snapshot.restored(tmp_path, MemoryStore(), ROOM)] == ["e"]
    assert "a: its snapshot is not used" in caplog.text
    assert "other: its snapshot is not used: it is of 'e'" in caplog.text


def test_a_later_format_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever else is in it: only its own version knows what it means."""
    body = msgspec.msgpack.encode({"format": snapshot.FORMAT + 1, "something": "else"})
    digest = hashlib.blake2b(body, digest_size=snapshot.DIGEST).digest()
    (tmp_path / "e.snapshot").write_bytes(snapshot.MAGIC + digest + body)
    assert list(snapshot.restored(tmp_path, MemoryStore(), ROOM)) == []
    assert "it is of another format" in caplog.text


def test_a_changed_document_is_written_at_once(tmp_path: Path) -> None:
    """Long before what was learned is: a file must not show what was retired, or answer where that is to be refused."""

    def version(one: Experiment) -> int:
        file = tmp_path / f"{one.name}.snapshot"
        data = file.read_bytes() if file.exists() else b""
        return int(json.loads(snapshot.unpacked(data).config)["version"]) if data else 0

    with valkey() as url, serving(url, snapshot_dir=tmp_path, checkpoint_seconds=3600) as live:
        kept, refusing, deleted = (live.experiment(degraded="answer") for _ in range(3))
        for one in (kept, refusing, deleted):
            until(lambda one=one: version(one) == 1)
        ok(kept.patch({"status": "paused", "fallback_arm": "a"}))
        until(lambda: version(kept) == 2)
        ok(refusing.patch({"degraded": "refuse"}))
        until(lambda: version(refusing) == 0)
        assert live.client.delete(deleted.at, params={"confirm": deleted.name}).status_code == 204
        until(lambda: version(deleted) == 0)


def test_what_does_not_fit_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Models within the memory that a worker may give them; no directory is no snapshot."""
    written(tmp_path, learned())
    assert list(snapshot.restored(tmp_path, MemoryStore(), 100)) == []
    assert "BANDIT_MODEL_MEMORY" in caplog.text
    assert list(snapshot.restored(tmp_path / "none", MemoryStore(), ROOM)) == []
    assert json.loads(snapshot.unpacked((tmp_path / "e.snapshot").read_bytes()).config)["name"] == "e"
