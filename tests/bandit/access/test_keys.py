"""Keys: what is random, what is kept, what is refused, and that a change reaches whoever remembers."""

import json
import re
import threading
from base64 import b64decode
from pathlib import Path

import pytest
from live import until

from bandit.access.audit import ACTOR, Actor, entry_of, read_entry
from bandit.access.keys import ID, KEYS_MAX, SECRET, Row, digest, id_in, is_same, limit_of, new_text
from bandit.access.manage import Keyring, Wanted, begin
from bandit.access.ring import Looking, Ring, keys_in
from bandit.errors import Problem, StoreUnavailable
from bandit.store.access import AccessStore
from bandit.store.memory_store import MemoryStore
from bandit.store.protocol import Store

READ, WRITER = Wanted("a reader", ("read",)), Wanted("a writer", ("write",))


@pytest.fixture
def keyring(store: Store) -> Keyring:
    """The keys of an empty table, in each kind of store."""
    with_none(store)
    return Keyring(store)


def with_none(store: AccessStore) -> None:
    """Take away the keys that other tests left."""
    fields = store.key_rows()
    if fields:
        empty = {field.decode(): b"" for field in fields if field != b"version"}
        store.change_keys(fields[b"version"], new_text().encode(), empty, b"{}", 100)


def test_a_text_has_256_bits_that_nobody_can_guess() -> None:
    """The secret has at least as many values, each letter is used, and no two texts are alike."""
    assert 62**SECRET >= 2**256
    texts = {new_text() for _ in range(2000)}
    assert len(texts) == 2000
    assert (ID, SECRET) == (10, 43)
    assert all(re.fullmatch(r"bs_[0-9A-Za-z]{10}_[0-9A-Za-z]{43}", text) for text in texts)
    assert len(set("".join(texts))) == 62 + 1  # letters, digits, _


def test_the_store_has_the_hash_alone(store: Store, keyring: Keyring) -> None:
    """Nothing that is kept has the secret in it, and the hash of another store's key is another."""
    made = keyring.create(READ)
    secret = made.text.split("_")[2].encode()
    assert all(secret not in value for value in store.key_rows().values())
    assert all(secret not in entry for _, entry in store.audited("", 10))
    assert digest(made.text.encode(), b"a") != digest(made.text.encode(), b"b")
    keys = keys_in(store)
    assert len(keys.pepper) == 32
    assert is_same(keys.rows[made.row.id], made.text.encode(), keys.pepper)
    assert not is_same(keys.rows[made.row.id], made.text.encode()[:-1] + b"!", keys.pepper)


def test_every_comparison_is_made_and_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A known id with a wrong secret, an unknown id, and no id at all: each one hash and one comparison."""
    store, calls = MemoryStore(), []
    made = Keyring(store).create(READ)
    ring = Ring(store)
    ring.look()
    import hmac

    import bandit.access.keys as keys

    monkeypatch.setattr(
        keys, "compare_digest", lambda a, b: calls.append((len(a), len(b))) or hmac.compare_digest(a, b)
    )
    for text in (f"bs_{made.row.id}_{'0' * SECRET}", new_text(), "", "nonsense", made.text):
        ring.find(text.encode())
    assert calls == [(32, 32)] * 5


def test_a_ring_knows_what_is_in_force(store: Store, keyring: Keyring) -> None:
    """A key is found once the store was looked at, and not any more once it is revoked, though it was remembered."""
    ring = Ring(store)
    assert not ring.loaded.is_set()
    made = keyring.create(READ)
    ring.look()
    grant = ring.find(made.text.encode())
    assert grant is not None
    assert (grant.id, grant.role, grant.reads, grant.writes) == (made.row.id, "read", True, False)
    assert ring.find(made.text.encode()) is grant
    keyring.revoke(made.row.id)
    assert ring.find(made.text.encode()) is grant  # as nobody has looked
    ring.look()
    assert ring.find(made.text.encode()) is None
    assert made.text.encode() not in ring.found


def test_a_change_between_a_look_and_a_find_is_never_remembered_beyond_it(store: Store, keyring: Keyring) -> None:
    """However a look falls in a find: the table of the new keys has nothing that the old ones said."""
    ring, made = Ring(store), keyring.create(READ)
    ring.look()
    ring.find(made.text.encode())
    over = threading.Event()

    def asking() -> None:
        while not over.is_set():
            ring.find(made.text.encode())

    thread = threading.Thread(target=asking)
    thread.start()
    try:
        for _ in range(30):
            keyring.create(READ)
            ring.look()
        keyring.revoke(made.row.id)
        ring.look()
        assert ring.find(made.text.encode()) is None
    finally:
        over.set()
        thread.join()
    assert made.text.encode() not in ring.found


def test_a_key_expires_by_itself() -> None:
    """Whether it is remembered or not, and without a change in the store."""
    now = [1000.0]
    store = MemoryStore()
    made = Keyring(store, clock=lambda: now[0]).create(READ._replace(expires=1_010_000))
    ring = Ring(store, clock=lambda: now[0])
    ring.look()
    assert ring.find(made.text.encode()) is not None
    now[0] = 1010.0
    ring.look()
    assert ring.find(made.text.encode()) is None


def test_a_key_expires_while_the_store_hangs() -> None:
    """Though nobody has looked since, and though it was remembered; one without an end goes the shortest way."""
    now = [1000.0]
    store = MemoryStore()
    keyring, ring = Keyring(store, clock=lambda: now[0]), Ring(store, clock=lambda: now[0])
    made, other = keyring.create(WRITER._replace(expires=1_010_000)), keyring.create(WRITER)
    ring.look()
    first, second = ring.find(made.text.encode()), ring.find(other.text.encode())
    assert first is not None
    assert second is not None
    assert (first.plain, second.plain) == (False, True)
    now[0] = 1010.0
    assert ring.find(made.text.encode()) is None
    assert ring.find(other.text.encode()) == second


def test_rotation_overlaps() -> None:
    """Both keys are in force until the overlap is over, and may do the same; then only the new one is."""
    now = [1000.0]
    store = MemoryStore()
    keyring = Keyring(store, clock=lambda: now[0])
    old = keyring.create(Wanted("shop", ("write",), ("home",), limit=limit_of("9/s")))
    new = keyring.rotate(old.row.id, 60_000)
    ring = Ring(store, clock=lambda: now[0])
    ring.look()
    first, second = ring.find(old.text.encode()), ring.find(new.text.encode())
    assert first is not None
    assert second is not None
    assert first[1:8] == second[1:8]
    assert first.place != second.place
    assert new.row.replaces == old.row.id
    now[0] += 60
    ring.look()
    assert ring.find(old.text.encode()) is None
    assert ring.find(new.text.encode()) is not None
    with pytest.raises(Problem, match="expired"):
        keyring.rotate(old.row.id, 0)


def test_a_new_key_has_a_term_of_its_own() -> None:
    """As long as the old one had, or as is said; and a key whose place another has is not rotated again."""
    now = [1000.0]
    keyring = Keyring(MemoryStore(), clock=lambda: now[0])
    old = keyring.create(READ._replace(expires=1_000_000 + 200_000)).row
    now[0] += 150
    second = keyring.rotate(old.id, 60_000).row
    assert second.expires == 1_150_000 + 200_000
    with pytest.raises(Problem, match=f"{second.id} has this key's place"):
        keyring.rotate(old.id, 60_000)
    third = keyring.rotate(second.id, 60_000, 500_000).row
    assert third.expires == 1_150_000 + 500_000
    endless = keyring.create(READ).row
    assert keyring.rotate(endless.id, 60_000).row.expires == 0
    assert {row.id: row.expires for row in keyring.rows()}[endless.id] == 1_210_000


def test_the_next_end_is_that_of_a_key_that_nothing_replaces() -> None:
    """A rotated key expires as it should; once what replaces it is revoked, its end is one to be told of."""
    now = [1000.0]
    store = MemoryStore()
    keyring, ring = Keyring(store, clock=lambda: now[0]), Ring(store, clock=lambda: now[0])
    old = keyring.create(READ)
    new = keyring.rotate(old.row.id, 60_000).row
    ring.look()
    assert ring.next_end == 0
    keyring.create(READ._replace(expires=9_000_000))
    ring.look()
    assert ring.next_end == 9_000_000
    keyring.revoke(new.id)
    ring.look()
    assert ring.next_end == 1_060_000
    now[0] = 1061.0
    ring.look()
    assert ring.find(old.text.encode()) is None
    assert ring.next_end == 9_000_000


def test_the_last_known_keys_stay_in_force_while_the_store_is_away() -> None:
    """A look that fails changes nothing; a copy serves a start without a store, until the store's own come over it."""
    store = MemoryStore()
    made = Keyring(store).create(READ)
    ring = Ring(store)
    ring.look()
    store.key_version = lambda: (_ for _ in ()).throw(StoreUnavailable("away"))  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        ring.look()
    assert ring.find(made.text.encode()) is not None
    started, other = Ring(MemoryStore()), ring.dump()
    assert made.text.encode() not in other
    started.load(other)
    assert started.find(made.text.encode()) is not None
    started.look()
    assert started.find(made.text.encode()) is None  # that store has none


def test_a_server_that_starts_while_the_store_is_away_knows_its_copy(tmp_path: Path) -> None:
    """Hashed, for its owner alone, written as the keys change, and taken only where the store does not answer."""
    store, copy = MemoryStore(), tmp_path / "snapshots" / "api-keys.json"
    made = Keyring(store).create(READ)
    before = Looking(Ring(store), lambda: None, copy)
    before.start()
    until(copy.exists)
    before.stop()
    assert copy.stat().st_mode & 0o777 == 0o600
    assert copy.parent.stat().st_mode & 0o777 == 0o700
    rows = [b64decode(value) for _, value in json.loads(copy.read_text())]
    assert all(made.text.split("_")[2].encode() not in row for row in rows)
    assert [each.name for each in copy.parent.iterdir()] == [copy.name]
    away = MemoryStore()
    away.key_rows = lambda: (_ for _ in ()).throw(StoreUnavailable("away"))  # type: ignore[method-assign]
    ring = Ring(away)
    after = Looking(ring, lambda: None, copy)
    after.start()
    until(ring.loaded.is_set)
    after.stop()
    assert ring.find(made.text.encode()) is not None
    assert ring.find(new_text().encode()) is None


def test_a_change_made_from_an_old_table_is_made_anew(store: Store, keyring: Keyring) -> None:
    """Two who change at once: nothing is lost."""
    threads = [threading.Thread(target=keyring.create, args=(READ,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keyring.rows()) == 5


def test_places_to_count_in_are_never_shared(keyring: Keyring) -> None:
    """Of keys with a limit; those without need none."""
    rows = [keyring.create(READ._replace(limit=limit_of("1/s"))).row for _ in range(3)]
    assert len({row.place for row in rows}) == 3


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (READ._replace(name=""), "name"),
        (READ._replace(name="a\nb"), "printable"),
        (READ._replace(roles=()), "roles"),
        (READ._replace(roles=("root",)), "roles"),
        (READ._replace(experiments=()), "experiments"),
        (READ._replace(experiments=("A B",)), "experiment"),
    ],
)
def test_what_no_key_can_be_is_refused(wanted: Wanted, message: str) -> None:
    """With what was expected, and nothing is made."""
    store = MemoryStore()
    with pytest.raises(Problem, match=message):
        Keyring(store).create(wanted)
    assert store.key_rows() == {}


@pytest.mark.parametrize("text", ["", "0/s", "5", "5/d", "x/s", "5/s ", "-1/s"])
def test_a_limit_is_a_number_and_a_window(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(Problem, match="100/s"):
        limit_of(text)


def test_there_is_a_bound_on_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker holds them all, and each with a limit has a place."""
    assert KEYS_MAX == 1000
    monkeypatch.setattr("bandit.access.manage.KEYS_MAX", 2)
    keyring = Keyring(MemoryStore())
    keyring.create(READ)
    keyring.create(READ)
    with pytest.raises(Problem, match="no more"):
        keyring.create(READ)


def test_many_servers_make_one_first_key(store: Store, keyring: Keyring, tmp_path: Path) -> None:
    """Whoever is first: one admin key in the store, one file that has it, and nothing else lies about."""
    starts = [threading.Thread(target=begin, args=(store, [], tmp_path / "keys" / "first", 100)) for _ in range(6)]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    (row,) = keyring.rows()
    (file,) = (tmp_path / "keys").iterdir()
    assert (file.name, file.stat().st_mode & 0o777) == ("first", 0o600)
    keys = keys_in(store)
    assert is_same(row, file.read_bytes().strip(), keys.pepper)
    keyring.revoke(row.id)
    begin(store, [], tmp_path / "again", 100)
    assert not (tmp_path / "again").exists()  # who revoked the last admin key meant it


def test_where_the_first_key_cannot_be_told_there_is_none(
    store: Store, keyring: Keyring, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A read-only root: nobody has a key that nobody was told, and one line says what to do."""
    (tmp_path / "file").write_text("")
    begin(store, [], tmp_path / "file" / "first", 100)
    assert keyring.rows() == []
    assert "keys create" in caplog.text


def test_a_given_key_is_made_once_and_can_be_revoked(store: Store, keyring: Keyring, tmp_path: Path) -> None:
    """It is the store that says what is in force: the next start does not bring a revoked key back."""
    text = new_text()
    begin(store, [text], tmp_path / "first", 100)
    begin(store, [text], tmp_path / "first", 100)
    (row,) = keyring.rows()
    assert (row.id, row.role) == (id_in(text.encode()), "admin")
    keyring.revoke(row.id)
    begin(store, [text], tmp_path / "first", 100)
    assert [row.lives(0) for row in keyring.rows()] == [False]
    assert not (tmp_path / "first").exists()


def test_an_entry_of_the_audit_log_is_bounded() -> None:
    """Whatever is changed, an entry has some kilobytes."""
    large = {f"/{i}": "x" * 10_000 for i in range(1000)}
    entry = entry_of(Actor("a", "admin"), "experiment.change", "e", large, large)
    assert len(entry.encoded()) < 8192
    assert entry.after["/0"] == "(10002 bytes)"
    assert "more" in entry.after[""]
    assert read_entry(entry.encoded()) == entry
    assert ACTOR.get().actor == "the server"


def test_a_row_that_cannot_be_read_is_no_key(store: Store, keyring: Keyring) -> None:
    """A later version's row does not stop the others from being known."""
    made = keyring.create(READ)
    store.change_keys(store.key_version(), b"later", {"key:odd": b'{"id": 5}'}, b"{}", 100)
    ring = Ring(store)
    ring.look()
    assert ring.find(made.text.encode()) is not None


def test_a_change_that_is_under_way_when_all_ends_is_told_of(store: Store) -> None:
    """Noted before, and never told of again: it is logged with an unknown outcome; withdrawn, nothing stays."""
    if isinstance(store, MemoryStore):
        pytest.skip("a store in memory ends with its process")
    import bandit.store.access as access

    entry = entry_of(Actor("a", "admin"), "experiment.change", f"t-{new_text()}", {}, {})
    gone = entry_of(Actor("a", "admin"), "experiment.change", f"t-{new_text()}", {}, {})
    store.audit_begin("one", entry.encoded(), 100)
    store.audit_begin("other", gone.encoded(), 100)
    store.audit_end("other", b"", 100)

    def targets() -> list[str]:
        return [read_entry(data).target for _, data in store.audited("", 50) if data != b"{}"]

    assert entry.target not in targets()  # as it may still end
    before, access.UNDER_WAY_MS = access.UNDER_WAY_MS, -1
    try:
        assert targets()[0] == entry.target
    finally:
        access.UNDER_WAY_MS = before
    assert gone.target not in targets()
    outcomes = {read_entry(data).outcome for _, data in store.audited("", 50) if entry.target.encode() in data}
    assert outcomes == {"unknown"}


def test_a_row_says_its_role_in_a_word() -> None:
    """An admin may do everything, whatever else it has."""
    roles = {("admin", "read"): "admin", ("read", "write"): "read+write", ("write",): "write"}
    assert {Row("i", "n", given, b"", 0).role for given in roles} == set(roles.values())
