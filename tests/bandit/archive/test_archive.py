"""The archive: what leaves a log is in it first, once, and read with the log it is the whole history."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import opened, served
from copying import checkpointed
from dying import killed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trial import HOUR, SALE, Clock, Killed, Trial, Watched, past

from bandit.archive.archiver import Moved, archive, archive_folder
from bandit.archive.files import files_of
from bandit.archive.joined import Joined
from bandit.errors import CorruptLog, Problem
from bandit.log.records import START, Entry, Position
from bandit.replica.export import export
from bandit.replica.verify import verify
from bandit.store.keys import Keys
from bandit.store.memory_store import MemoryStore
from bandit.store.protocol import Store
from bandit.store.redis_store import RedisStore

NAME = "home"


@pytest.fixture
def clock() -> Clock:
    """The clock of `here`."""
    return Clock()


@pytest.fixture
def here(clock: Clock) -> Trial:
    """An experiment in memory, on a clock of the test's own."""
    return Trial(MemoryStore(clock), NAME, grace_ms=0)


def archived(store: Store, folder: Path, name: str = NAME) -> Moved | None:
    """Archive once."""
    with archive_folder(folder) as own:
        return archive(store, name, folder, own, 0)


def in_files(folder: Path, name: str = NAME) -> list[Entry]:
    """Every entry of an archive's files, file by file."""
    return [entry for file in files_of(folder, name) for entries in file.entries() for entry in entries]


def history(store: Store, folder: Path, name: str = NAME, count: int = 7) -> list[Entry]:
    """All that archive and log have together."""
    found, joined, position = [], Joined(store, folder, name), START
    while entries := joined.read(name, position, count):
        found += entries
        position = entries[-1].position
    return found


def some(trial: Trial, rounds: int, window_ms: int = 1000) -> None:
    """Decisions of a short window, with feedback."""
    for i in range(rounds):
        trial.feed(trial.decide(i % 4, x=(4096, i), window_ms=window_ms, user="u"), 1 + i % 5, SALE, f"e{trial.nonces}")


def test_the_archive_takes_what_trimming_may_cut_and_no_more(here: Trial, clock: Clock, tmp_path: Path) -> None:
    """Entries whose windows are open, and the last one, stay in the log alone."""
    some(here, 3)
    clock.ms += 2000
    some(here, 2)
    whole = here.log()
    checkpointed(here.store, NAME)  # before there is an archive: nothing waits for it, and it trims
    rest = here.log()
    assert len(rest) < len(whole)
    clock.ms += 2000
    some(here, 1, window_ms=10_000)
    checkpoint_only(here.store)
    moved = archived(here.store, tmp_path / "a")
    assert moved is not None
    assert in_files(tmp_path / "a") == here.log()[:-2]
    assert here.log()[: len(rest)] == rest
    assert history(here.store, tmp_path / "a") == here.log()


def test_nothing_is_trimmed_that_the_archive_does_not_have(here: Trial, clock: Clock, tmp_path: Path) -> None:
    """From the first run on; what it has then goes, and the log is as short as without an archive."""
    archived(here.store, tmp_path / "a")
    some(here, 5)
    clock.ms += 2000
    some(here, 1)
    log = here.log()
    assert checkpointed(here.store, NAME) == 0
    assert here.log() == log
    moved = archived(here.store, tmp_path / "a")
    assert moved is not None
    assert checkpointed(here.store, NAME) == moved.entries == len(log) - 2
    assert history(here.store, tmp_path / "a") == log
    assert here.store.forget_archive(NAME)
    clock.ms += 2000
    some(here, 1)
    assert checkpointed(here.store, NAME) > 0


def test_the_script_of_a_trim_asks_for_the_archive_itself(store: Store, name: str) -> None:
    """An archive that begins between a server's look and its trim is not overtaken, whichever store it is."""
    trial = Trial(store, name, grace_ms=0)
    entries = trial.log()
    some(trial, 2, window_ms=1)
    last = trial.log()[-1].position
    past(store, last.ms + 2)
    some(trial, 1)
    begun = False

    def begin(method: str, args: tuple[object, ...]) -> None:
        nonlocal begun
        if method == "trim" and not begun:
            begun = store.move_archive(name, b"other", None, entries[0].position.before())

    watched = Watched(store)
    watched.before = begin
    before = trial.log()
    assert checkpointed(watched, name) == 0  # type: ignore[arg-type] # it has what a store has
    assert begun
    assert trial.log() == before


def test_an_archives_cursor_moves_from_what_was_seen_only(store: Store, name: str) -> None:
    """Compare and set: not over another archive's, not from an older place; who was here last is noted."""
    one, two = Position(5, 1), Position(2**53 + 1, 7)
    assert store.archived(name) is None
    assert not store.move_archive(name, b"a", START, one)
    assert store.move_archive(name, b"a", None, one)
    assert not store.move_archive(name, b"a", None, two)
    assert not store.move_archive(name, b"b", one, two)
    assert not store.move_archive(name, b"a", two, two)
    assert store.move_archive(name, b"a", one, two)
    found = store.archived(name)
    assert found is not None
    assert (found.id, found.cursor, abs(found.seen_ms - store.now_ms()) < 60_000) == (b"a", two, True)
    assert store.forget_archive(name)
    assert store.archived(name) is None
    assert not store.forget_archive(name)


Act = tuple[str, int]
ACTS = st.lists(
    st.tuples(
        st.sampled_from(["short", "long", "wait", "archive", "trim", "change", "before", "after", "rename", "reset"]),
        st.integers(1, 4),
    ),
    max_size=25,
)


@given(ACTS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_archive_and_log_are_the_whole_history_whatever_happens(tmp_path: Path, acts: list[Act]) -> None:
    """Any order of traffic, changes, runs, trims and crashes of a run: each entry once, in order, none missing; and the
    sums from zero over all of it are the checkpoints.
    """
    shutil.rmtree(tmp_path / "a", ignore_errors=True)
    clock = Clock()
    trial = Trial(MemoryStore(clock), NAME, grace_ms=0)
    archived(trial.store, tmp_path / "a")
    written: dict[Position, Entry] = {}
    for what, n in [*acts, ("wait", 3), ("short", 1), ("trim", 1), ("archive", 1), ("trim", 1)]:
        _act(trial, clock, tmp_path / "a", what, n)
        written |= {entry.position: entry for entry in trial.log()}
    assert history(trial.store, tmp_path / "a") == list(written.values())
    files = in_files(tmp_path / "a")
    assert files == list(written.values())[: len(files)]
    checkpointed(trial.store, NAME)
    result = verify(Joined(trial.store, tmp_path / "a", NAME), NAME, 5)
    assert (result["equal"], result["folded"]) == (True, len(written))


def _act(trial: Trial, clock: Clock, folder: Path, what: str, n: int) -> None:
    if what in ("short", "long"):
        some(trial, n, 1000 if what == "short" else 5000)
    elif what == "wait":
        clock.ms += n * 1000
    elif what == "trim":
        checkpointed(trial.store, NAME)
    elif what in ("change", "reset"):
        trial.change(arms=["a", "b", "c", "d", f"n{trial.nonces}-{n}"], reset=what == "reset")
    elif what == "archive":
        archived(trial.store, folder)
    else:
        crashed(trial.store, folder, what)


def crashed(store: Store, folder: Path, where: str) -> None:
    """A run that dies: before or after it moves the cursor for the first time, or at the rename of its first file."""
    watched, rename = Watched(store), Path.rename

    def die(method: str, args: tuple[object, ...]) -> None:
        if method == "move_archive":
            raise Killed

    def no_rename(self: Path, target: Path) -> Path:
        raise Killed

    setattr(watched, "before" if where == "before" else "after", die if where != "rename" else lambda m, a: None)
    with pytest.MonkeyPatch.context() as patch:
        if where == "rename":
            patch.setattr(Path, "rename", no_rename)
        with suppress(Killed):
            archived(watched, folder)  # type: ignore[arg-type] # it has what a store has
    assert Path.rename is rename


def test_the_export_of_archive_and_log_is_that_of_a_log_that_was_never_trimmed(
    here: Trial, clock: Clock, tmp_path: Path
) -> None:
    """Row by row, across changes of the experiment; and each row stands in the file's column too."""
    twin = Trial(MemoryStore(clock), NAME, grace_ms=0)
    for trial in (here, twin):
        archived(trial.store, tmp_path / f"{id(trial)}")
    for i in range(4):
        for trial in (here, twin):
            some(trial, 3)
            trial.change(arms=["a", "b", "c", "d", f"n{i}"])
        clock.ms += 2000
        checkpointed(here.store, NAME)
        archived(here.store, tmp_path / f"{id(here)}")
        checkpointed(here.store, NAME)
    assert len(here.log()) < len(twin.log()) / 2
    folder = tmp_path / f"{id(here)}"
    rows = list(export(Joined(here.store, folder, NAME), NAME))
    assert rows == list(export(twin.store, NAME))
    columns = [row for file in files_of(folder, NAME) for row in pq.read_table(file.path).to_pylist()]
    assert [json.loads(row["row"]) for row in columns] == rows[: len(columns)]
    told = [(row["type"], row["decision_id"], row["arm"], row["value"]) for row in columns if row["type"] == "feedback"]
    said = [(row["type"], row["decision_id"], row["arm"], row["value"]) for row in rows if row["type"] == "feedback"]
    assert told == said[: len(told)]


def test_an_archive_that_began_late_says_so(here: Trial, clock: Clock, tmp_path: Path) -> None:
    """What was trimmed before is not in it: it is no whole history, but what it has goes on without a gap."""
    some(here, 3)
    clock.ms += 2000
    some(here, 1)
    assert checkpointed(here.store, NAME) == 7
    left = here.log()
    clock.ms += 2000
    some(here, 1)
    checkpoint_only(here.store)
    archived(here.store, tmp_path / "a")
    joined = Joined(here.store, tmp_path / "a", NAME)
    assert not joined.whole
    assert history(here.store, tmp_path / "a") == left + here.log()[-2:]
    first, *rows = export(joined, NAME)
    assert (first["type"], len(rows)) == ("experiment", len(left) + 2)


def test_what_was_trimmed_without_the_archive_is_a_gap_that_is_told(here: Trial, clock: Clock, tmp_path: Path) -> None:
    """As by a server of an older version, or after --forget: the next run says from where it goes on, and reading the
    two parts as one is refused.
    """
    some(here, 3)
    clock.ms += 2000
    some(here, 3)
    checkpointed_alone = archived(here.store, tmp_path / "a"), checkpointed(here.store, NAME)
    assert checkpointed_alone[0] is not None
    archived(here.store, tmp_path / "a")
    here.store.forget_archive(NAME)
    clock.ms += 2000
    some(here, 3)
    assert checkpointed(here.store, NAME) > 0
    begins = here.log()[0].position
    clock.ms += 2000
    some(here, 1)
    checkpointed(here.store, NAME) if here.store.archived(NAME) else None
    moved = archived(here.store, tmp_path / "a")
    assert moved is not None
    assert moved.lost_before == begins
    if moved.entries:
        with pytest.raises(CorruptLog, match="lacks what is between"):
            Joined(here.store, tmp_path / "a", NAME)


def test_an_archive_of_another_store_or_without_its_files_is_refused(here: Trial, clock: Clock, tmp_path: Path) -> None:
    """Nothing is written, and the cursor stays: another folder, one whose last file is missing, one that is ahead."""
    for _ in range(2):
        some(here, 3)
        clock.ms += 2000
        some(here, 1)
        checkpointed(here.store, NAME)
        archived(here.store, tmp_path / "a")
    known = here.store.archived(NAME)
    with pytest.raises(Problem, match="archived in another folder"):
        archived(here.store, tmp_path / "b")
    assert not (tmp_path / "b").exists()
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    files_of(tmp_path / "c", NAME)[-1].path.unlink()
    with pytest.raises(Problem, match="is this folder whole"):
        archived(here.store, tmp_path / "c")
    assert here.store.archived(NAME) == known
    older = Clock()
    older.ms -= 100_000
    other = Trial(MemoryStore(older), NAME)
    with pytest.raises(Problem, match="restored from an older backup"):
        archived(other.store, tmp_path / "a")
    assert other.store.archived(NAME) is None


def test_an_archive_that_took_nothing_leaves_nothing(here: Trial, tmp_path: Path) -> None:
    """Refused or with nothing to do, in a folder that somebody made; once an experiment is in it, its id stays."""
    archived(here.store, tmp_path / "a")
    own = (tmp_path / "a" / "archive.json").read_bytes()
    (tmp_path / "b").mkdir()
    with pytest.raises(Problem, match="archived in another folder"):
        archived(here.store, tmp_path / "b")
    assert list((tmp_path / "b").iterdir()) == []
    assert archived(here.store, tmp_path / "c", "nobody") is None
    assert not (tmp_path / "c").exists()
    with pytest.raises(Problem, match="another process"), archive_folder(tmp_path / "a"):
        archived(here.store, tmp_path / "a")
    assert (tmp_path / "a" / "archive.json").read_bytes() == own


def test_an_archive_without_a_file_yet_is_the_log(here: Trial, clock: Clock, tmp_path: Path) -> None:
    """For the first week of an experiment nothing is past its window: export and verify are those of the whole log, of
    this folder alone; and where the first file comes while it is read, it is read on.
    """
    some(here, 3)
    archived(here.store, tmp_path / "a")
    assert files_of(tmp_path / "a", NAME) == [], "its first run wrote a file: the test proves nothing"
    joined = Joined(here.store, tmp_path / "a", NAME)
    assert joined.whole
    assert list(export(joined, NAME)) == list(export(here.store, NAME))
    result = verify(joined, NAME)
    assert (result["equal"], result["folded"]) == (True, 7)
    first, log = joined.read(NAME, START, 3), here.log()
    clock.ms += 2000
    some(here, 1)
    checkpoint_only(here.store)
    assert archived(here.store, tmp_path / "a") is not None
    assert checkpointed(here.store, NAME) > 0
    found = [*first]
    while entries := joined.read(NAME, found[-1].position, 3):
        found += entries
    assert found[: len(log)] == log
    archived(here.store, tmp_path / "a")
    with archive_folder(tmp_path / "b"), pytest.raises(Problem, match="no archive of experiment"):
        Joined(here.store, tmp_path / "b", NAME)


def test_two_archives_cannot_work_on_one_folder(here: Trial, tmp_path: Path) -> None:
    """The second is refused while the first holds it."""
    with archive_folder(tmp_path / "a"), pytest.raises(Problem, match="another process"):
        archived(here.store, tmp_path / "a")


def test_a_folder_with_other_files_is_no_archive(here: Trial, tmp_path: Path) -> None:
    """Nothing is written beside what somebody else keeps there."""
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(CorruptLog, match="other files"):
        archived(here.store, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]


def test_a_flipped_bit_in_an_archive_is_found(here: Trial, clock: Clock, tmp_path: Path) -> None:
    """Pages carry checksums: a damaged file is refused rather than read as another history."""
    some(here, 30)
    clock.ms += 2000
    some(here, 1)
    checkpoint_only(here.store)
    archived(here.store, tmp_path / "a")
    (file,) = files_of(tmp_path / "a", NAME)
    data = file.path.read_bytes()
    for at in range(10, len(data) - 1, len(data) // 40):
        file.path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        try:
            found = in_files(tmp_path / "a")
        except CorruptLog:
            continue
        file.path.write_bytes(data)
        assert found == in_files(tmp_path / "a"), at  # it was in a column that is read from the records


def test_a_deleted_experiment_is_archived_to_its_end_and_a_new_one_begins_anew(
    here: Trial, clock: Clock, tmp_path: Path
) -> None:
    """Its log goes as a whole in a week; one of the same name that is created later is another history."""
    some(here, 2)
    checkpointed(here.store, NAME)
    archived(here.store, tmp_path / "a")
    here.delete()
    log = here.log()
    archived(here.store, tmp_path / "a")
    assert in_files(tmp_path / "a")[-len(log) :] == log
    rows = list(export(here.store, NAME))
    clock.ms += 8 * 86_400_000
    assert here.store.forget(NAME)
    assert list(export(Joined(here.store, tmp_path / "a", NAME), NAME)) == rows
    again = Trial(here.store, NAME, grace_ms=0)
    some(again, 2)
    clock.ms += 2000
    some(again, 1)
    checkpoint_only(again.store)
    archived(again.store, tmp_path / "a")
    assert Joined(again.store, tmp_path / "a", NAME).whole
    assert history(again.store, tmp_path / "a") == again.log()
    assert verify(Joined(again.store, tmp_path / "a", NAME), NAME)["equal"]


def test_a_run_that_is_long_gone_is_told_of(
    here: Trial, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Memory grows meanwhile: the server's log says so, once an hour, and what to do; within a day it does not."""
    archived(here.store, tmp_path / "a")
    some(here, 2)
    for hours, lines in ((1, 0), (30, 1), (31, 1)):
        clock.ms = 1_700_000_000_000 + hours * 3_600_000
        some(here, 1)
        checkpointed(here.store, NAME)
        assert len(caplog.messages) == lines
    assert "nobody has archived it for 30 hours; run `bandit-server archive`" in caplog.text


# real stores, processes that are killed, and the commands


@pytest.fixture
def source() -> Iterator[RedisStore]:
    """A store of its own for a test, empty."""
    with served() as url, opened(url, 30) as store:
        yield store


def url_of(store: RedisStore) -> str:
    """Its address."""
    return f"unix://{store._sync.connection_pool.connection_kwargs['path']}"


def expired(store: RedisStore, name: str = NAME) -> Trial:
    """An experiment of which most is past its window."""
    trial = Trial(store, name, grace_ms=0)
    some(trial, 10, window_ms=1)
    past(store, trial.log()[-1].position.ms + 2)
    some(trial, 1, window_ms=HOUR)
    checkpoint_only(store, name)
    return trial


def checkpoint_only(store: Store, name: str = NAME) -> None:
    """Checkpoints at the log's end; nothing is trimmed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("copying.trim", lambda *args: 0)
        checkpointed(store, name)


KILLED = """
import sys
from pathlib import Path
from dying import dying_at
from bandit.archive import archiver
from bandit.archive.columns import Writer
from bandit.store.redis_store import RedisStore

url, folder, place, at = sys.argv[1:]
dying_at({"archiver": archiver, "writer": Writer, "store": RedisStore, "path": Path}, place, int(at))
archiver.FILE = 5
store = RedisStore(url, 30)
archiver.STEP = 4
with archiver.archive_folder(Path(folder)) as own:
    archiver.archive(store, "home", Path(folder), own, 0)
"""


@pytest.mark.parametrize(
    ("place", "at"),
    [("store.move_archive", 0), ("store.move_archive", 1), ("store.move_archive", 2), ("store.move_archive", 3),
     ("writer.write", 0), ("writer.write", 1), ("writer.close", 0), ("path.rename", 1), ("path.rename", 2)],
)  # fmt: skip
def test_a_killed_run_loses_nothing_and_the_next_one_writes_nothing_twice(
    place: str, at: int, source: RedisStore, tmp_path: Path
) -> None:
    """kill -9 at each stage, then a trim, then the next run: the history is whole, each entry once."""
    trial = expired(source)
    whole, folder = trial.log(), tmp_path / "a"
    killed(KILLED, url_of(source), str(folder), place, str(at))
    if source.archived(NAME) is not None:
        checkpointed(source, NAME)
    archived(source, folder)
    checkpointed(source, NAME)
    assert len(trial.log()) == 2
    assert history(source, folder) == whole
    assert [path.name for path in (folder / NAME).iterdir() if path.suffix != ".parquet"] == []
    result = verify(Joined(source, folder, NAME), NAME)
    assert (result["equal"], result["folded"]) == (True, len(whole))


def test_reading_goes_on_while_the_log_is_archived_and_trimmed(source: RedisStore, tmp_path: Path) -> None:
    """Entries that leave the log between two reads are read from the file that they are in by then."""
    trial = expired(source)
    whole, folder = trial.log(), tmp_path / "a"
    with archive_folder(folder) as own:
        first = archive(source, NAME, folder, own, 3_600_000)  # nothing is past its window by this
    assert first is not None
    assert first.entries == 1  # its creation
    joined, position, found = Joined(source, folder, NAME), START, list[Entry]()
    while entries := joined.read(NAME, position, 3):
        found, position = found + entries, entries[-1].position
        if len(found) == 4:
            archived(source, folder)
            assert checkpointed(source, NAME) > 10
    assert found == whole
    assert len(trial.log()) == 2


def test_the_archive_goes_with_its_experiment(source: RedisStore) -> None:
    """Where the archive stands outlives the deletion as the log does, and not longer."""
    trial = Trial(source, NAME)
    assert source.move_archive(NAME, b"a", None, START)
    trial.delete()
    key = Keys.of(NAME).archive
    assert 0 < source.expires_ms(key) <= source.now_ms() + 8 * 86_400_000


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m bandit` with these arguments."""
    line = [sys.executable, "-m", *arguments]
    env = os.environ | {"BANDIT_LATE_GRACE": "0"}
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False, env=env)


def test_the_commands_archive_and_read_it(source: RedisStore, tmp_path: Path) -> None:
    """`archive`, then `export`, `verify` and the simulator over both; `--forget` ends it."""
    trial = expired(source)
    whole, store, a = trial.log(), ["--redis-url", url_of(source)], str(tmp_path / "a")
    straight = command("bandit", "export", NAME, *store)
    done = command("bandit", "archive", a, *store)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["entries"] == len(whole) - 2
    assert checkpointed(source, NAME) == len(whole) - 2
    assert len(command("bandit", "export", NAME, *store).stdout.splitlines()) == 3
    assert command("bandit", "export", NAME, "--archive", a, *store).stdout == straight.stdout
    done = command("bandit", "verify", NAME, "--archive", a, *store)
    told = json.loads(done.stdout)
    assert (done.returncode, told["equal"], told["whole"], told["folded"]) == (0, True, True, len(whole))
    rows = ["convert", "--experiment", NAME, "--min-age", "0s", *store, "-o"]
    few, all_ = (
        command("simulator", *rows, str(tmp_path / "1.parquet")),
        command("simulator", *rows, str(tmp_path / "2.parquet"), "--archive", a),
    )
    assert (few.returncode, all_.returncode) == (0, 0), few.stderr + all_.stderr
    read = [pq.read_metadata(tmp_path / name).num_rows for name in ("1.parquet", "2.parquet")]
    assert read[1] - read[0] == 10
    alone = command("bandit", "export", NAME, "--archive", a, "--data-dir", str(tmp_path / "none"))
    assert "the archive alone" in alone.stderr
    assert straight.stdout.startswith(alone.stdout)
    assert len(alone.stdout.splitlines()) == len(whole) - 2
    source._sync.hset(Keys.of(NAME).archive, "seen", 5)
    assert "nobody has archived it for" in command("bandit", "doctor", *store).stdout
    done = command("bandit", "archive", "--forget", NAME, *store)
    assert "no archive any more" in done.stdout
    assert source.archived(NAME) is None


def test_the_commands_read_an_archive_that_has_no_file_yet(source: RedisStore, tmp_path: Path) -> None:
    """As in an installation's first week: `export` and `verify` are those of the log."""
    some(trial := Trial(source, NAME), 3, window_ms=HOUR)
    store, a = ["--redis-url", url_of(source)], str(tmp_path / "a")
    assert json.loads(command("bandit", "archive", a, *store).stdout)["entries"] == 0
    straight = command("bandit", "export", NAME, *store).stdout
    assert command("bandit", "export", NAME, "--archive", a, *store).stdout == straight
    told = json.loads(command("bandit", "verify", NAME, "--archive", a, *store).stdout)
    assert (told["equal"], told["whole"], told["folded"]) == (True, True, len(trial.log()))
    assert (told["archived_from"], told["archived_to"]) == (None, None)


def test_one_experiment_that_cannot_be_archived_does_not_keep_the_others_from_it(
    source: RedisStore, tmp_path: Path
) -> None:
    """It is told, the exit code is 1, and the rest is archived."""
    expired(source, "bad")
    expired(source, "good")
    assert source.move_archive("bad", b"elsewhere", None, START)
    done = command("bandit", "archive", str(tmp_path / "a"), "--redis-url", url_of(source))
    assert (done.returncode, "bad: its log is archived in another folder" in done.stderr) == (1, True)
    assert json.loads(done.stdout)["experiment"] == "good"
