"""The log's records: written and read again, in one spelling only, and refused where they are damaged."""

import base64
import dataclasses
import json
import struct
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.core.experiment import compile_config
from bandit.core.revision import first
from bandit.core.validation import parse_document
from bandit.errors import CorruptLog
from bandit.log.probabilities import (
    level_ends,
    pack_all_probabilities,
    pack_probabilities,
    pack_set,
    pack_slices,
    unpack_probabilities,
    unpack_set,
    unpack_slices,
)
from bandit.log.records import (
    DEFERRED,
    FORMAT,
    SPARSE,
    USER,
    Activation,
    Feedback,
    Head,
    Position,
    decision_head,
    decision_id,
    pack_activation,
    pack_decision,
    pack_feedback,
    read_config,
    read_decision_id,
    unpack_activation,
    unpack_decision,
    unpack_feedback,
)
from bandit.log.vectors import pack_x, unpack_x

U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
POSITIONS = st.builds(Position, st.integers(0, 2**48 - 1), U32)
NONCES = st.binary(min_size=8, max_size=8)
IDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=40)
CREDITS = st.integers(-(2**24), 2**24)
SEEDS = st.integers(0, 2**32 - 1)


# positions and ids


@given(st.builds(Position, U64, U64), st.builds(Position, U64, U64))
@settings(deadline=None)
def test_positions_are_written_as_the_store_writes_them(one: Position, other: Position) -> None:
    """ms-seq, read back as it was; and they compare as the store orders them, not as text."""
    assert one.text() == b"%d-%d" % (one.ms, one.seq)
    assert Position.parse(one.text()) == one
    assert (one < other) == ((one.ms, one.seq) < (other.ms, other.seq))


@given(st.integers(0, 2**16 - 1), POSITIONS, NONCES)
@settings(deadline=None)
def test_a_decision_id_is_read_as_it_was_made(shard: int, position: Position, nonce: bytes) -> None:
    """Shard, position and nonce come back; the id is 29 characters of the URL's alphabet."""
    text = decision_id(shard, position, nonce)
    assert read_decision_id(text) == (shard, position, nonce)
    assert len(text) == 29
    assert set(text[1:]) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


KNOWN = decision_id(0xFBF, Position(1_732_000_000_000, 7), b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8")
BYTES = base64.urlsafe_b64decode(KNOWN[1:])


SHORT = "~" + base64.urlsafe_b64encode(BYTES[:-1]).decode()


@pytest.mark.parametrize(
    "text",
    [
        KNOWN.replace("-", "+").replace("_", "/"), KNOWN + "=", KNOWN + "====", KNOWN + "A", KNOWN[:-1],
        KNOWN[:9] + "\n" + KNOWN[9:], KNOWN + "\n", " " + KNOWN, KNOWN[1:], "A" + KNOWN[1:], "~" + KNOWN, "", "~",
        KNOWN[:-1] + "é", "~" + base64.urlsafe_b64encode(b"\x02" + BYTES[1:]).decode(), SHORT, SHORT.rstrip("="),
        "~" + base64.urlsafe_b64encode(BYTES + b"\0\0\0").decode(), "visit-1",
    ],
)  # fmt: skip
def test_other_spellings_of_a_decision_id_are_no_decision_ids(text: str) -> None:
    """The other alphabet, padding, white space, another length, prefix or version: each would be an id used twice."""
    assert "-" in KNOWN
    assert "_" in KNOWN
    assert read_decision_id(KNOWN) is not None
    assert read_decision_id(text) is None


@given(st.text(max_size=40) | st.binary(min_size=21, max_size=21).map(lambda b: "~" + base64.b64encode(b).decode()))
@settings(max_examples=100, deadline=None)
def test_what_is_read_as_a_decision_id_is_written_so(text: str) -> None:
    """encode(decode(text)) == text for every text that is one at all."""
    found = read_decision_id(text)
    assert found is None or decision_id(*found) == text


# feature vectors


@given(SEEDS, st.integers(0, 6), st.integers(1, 40), st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_feature_vectors_come_back_as_they_were(seed: int, n: int, d: int, density: float) -> None:
    """Dense and sparse rows together, extremes included, each in the shorter of the two ways."""
    rng = np.random.default_rng(seed)
    x = rng.choice([-32768, -1, 1, 4096, 32767], (n, d)) * (rng.random((n, d)) < density)
    x = x.astype(np.int16)
    packed = pack_x(x)
    again = unpack_x([(data, flags | USER | DEFERRED) for data, flags in packed], d)  # a record's other flags
    assert again.dtype == np.int16
    assert np.array_equal(again, x)
    assert [len(data) for data, _ in packed] == [min(2 * d, 4 * k) for k in np.count_nonzero(x, axis=1)]


def test_feature_vectors_are_laid_out_as_documented() -> None:
    """Little-endian: dense the values themselves, sparse pairs of column and value."""
    assert pack_x(np.array([[4096, -2]], np.int16)) == [(b"\x00\x10\xfe\xff", 0)]
    assert pack_x(np.array([[0, 0, 0, 0, -2]], np.int16)) == [(b"\x04\x00\xfe\xff", SPARSE)]


@pytest.mark.parametrize(
    "part",
    [(bytes(4), 0), (bytes(8), 0), (bytes(3), SPARSE), (b"\x03\x00\x00\x10", SPARSE), (b"\xff\xff\x00\x10", SPARSE)],
)
def test_a_feature_vector_of_another_length_is_corrupt(part: tuple[bytes, int]) -> None:
    """Three columns are expected: fewer or more dense ones, half a pair, or a column beyond them."""
    with pytest.raises(CorruptLog):
        unpack_x([(bytes(6), 0), part], 3)


# sets and probabilities


@given(st.integers(1, 300), st.data())
@settings(max_examples=150, deadline=None)
def test_sets_come_back_as_they_were_in_the_shortest_way(K: int, data: st.DataObject) -> None:
    """All, a list or bits: the same members, ending where the next thing begins, never longer than bits."""
    members = np.array(sorted(data.draw(st.sets(st.integers(0, K - 1)) | st.just(set(range(K))))), np.int64)
    packed = pack_set(members, K)
    found, end = unpack_set(b"before" + packed + b"after", 6)
    assert found.tolist() == members.tolist()
    assert end == 6 + len(packed)
    bits, listed = (K + 7) // 8, 4 * len(members)
    assert len(packed) == 5 + (0 if len(members) == K else min(bits, listed))


@given(SEEDS, st.integers(1, 60), st.sampled_from([0.0, 0.02, 1.0]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_probabilities_come_back_bit_for_bit(seed: int, K: int, explore: float, linear: bool) -> None:
    """Those of LinUCB, as two numbers and a set, and any others: the same floats for the same eligible arms."""
    rng = np.random.default_rng(seed)
    eligible = rng.random(K) < 0.7
    eligible[rng.integers(K)] = True
    best = eligible & (rng.random(K) < 0.3)
    best[rng.choice(np.flatnonzero(eligible))] = True
    p = rng.random(K) if linear else best * (1 - explore) / best.sum() + eligible * explore / eligible.sum()
    packed = pack_probabilities(p, eligible)
    members, found, end = unpack_probabilities(b"?" + packed + b"?", 1)
    assert members.tolist() == np.flatnonzero(eligible).tolist()
    assert found.tolist() == p[eligible].tolist()
    assert end == 1 + len(packed)


def test_the_probabilities_of_10_000_arms_fit_in_a_few_bytes() -> None:
    """One best arm of 10,000: all of them, two numbers and a list of one, 31 bytes instead of 80,000; where 20 arms
    share what is not spread evenly, 12 more for each.
    """
    p = np.full(10_000, 0.02 / 10_000)
    p[1234] += 0.98
    assert len(pack_probabilities(p, np.ones(10_000, bool))) == 1 + 5 + 16 + 5 + 4
    p[1234] = p[0]
    p[500:520] += 0.98 * np.arange(1, 21) / 210
    assert len(pack_probabilities(p, np.ones(10_000, bool))) == 1 + 5 + 8 + 5 + 20 * (4 + 8)


@given(st.integers(0, 2**32 - 1), st.integers(3, 60), st.integers(1, 8), st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_few_numbers_above_the_rest_come_back_exactly(seed: int, K: int, above: int, sliced: bool) -> None:
    """Packed alone, together and by slices, with what is read of them without unpacking: the least and the largest."""
    rng = np.random.default_rng(seed)
    eligible = np.ones((1, K), bool)
    eligible[0, rng.permutation(K)[: K // 4]] = False
    p = np.where(eligible, 0.001, 0.0).repeat(2, axis=0)
    for row in p:
        row[rng.permutation(np.flatnonzero(eligible))[:above]] = 0.1 + rng.random(min(above, eligible.sum()))
    own = p[:, eligible[0]]
    if sliced:
        for row, tail in enumerate(pack_slices([(3, 1_000_000)], [p], eligible)):
            assert unpack_slices(tail, 0)[1][0].probabilities.tolist() == own[row].tolist()
            assert level_ends(tail, 0, 3) == (own[row].min(), own[row].max())
        return
    for row, tail in enumerate(pack_all_probabilities(p, eligible)):
        members, found, end = unpack_probabilities(b"?" + tail + b"?", 1)
        assert (members.tolist(), end) == (np.flatnonzero(eligible).tolist(), 1 + len(tail))
        assert found.tolist() == own[row].tolist()
        assert level_ends(tail, 0, -1) == (own[row].min(), own[row].max())
        assert tail == pack_probabilities(p[row], eligible[0])


# records


def decision(seed: int, caller: str, *, user: bool, k: int, K: int = 9, d: int = 5) -> tuple[Head, bytes]:
    """A decision's head and record, at random."""
    rng = np.random.default_rng(seed)
    (x, sparse), *_ = pack_x(rng.integers(-9, 9, (1, d)).astype(np.int16))
    name = caller.encode()
    head = Head(
        FORMAT, sparse | USER * user, 2, 3, k, len(x), len(name), *rng.integers(0, 2**32, 4).tolist(),
        rng.bytes(8), rng.bytes(8), float(rng.random()), 2**48, 7,
    )  # fmt: skip
    shown = [(int(arm), float(rng.random()), float(rng.random())) for arm in rng.permutation(K)[:k]]
    tail = pack_probabilities(rng.random(K), np.ones(K, bool))
    return head, pack_decision(head, x, name, rng.bytes(16) if user else b"", shown, tail)


@given(st.data())
@settings(deadline=None)
def test_the_slices_of_a_decision_come_back_exactly(data: st.DataObject) -> None:
    """Whichever form is shortest for each: one number for all, two of them, or all of them."""
    K, n = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 3))
    masks = np.array(
        [[data.draw(st.booleans()) for _ in range(K)] for _ in range(data.draw(st.sampled_from([1, n])))], bool
    )
    masks[:, data.draw(st.integers(0, K - 1))] = True
    numbers = st.sampled_from([0.25, 0.5, 0.75]) | st.floats(0, 1)
    parts = data.draw(st.lists(st.tuples(st.integers(0, 255), st.integers(1, 10**6)), min_size=2, max_size=4))
    each = [np.array([[data.draw(numbers) for _ in range(K)] for _ in range(n)]) for _ in parts]
    for row, packed in enumerate(pack_slices(parts, each, masks)):
        members, found, end = unpack_slices(b"?" + packed + b"?", 1)
        mask = masks[row % len(masks)]
        assert members.tolist() == np.flatnonzero(mask).tolist()
        assert end == 1 + len(packed)
        assert [(part.slice, part.share) for part in found] == [(index, share / 1e6) for index, share in parts]
        assert all((part.probabilities == p[row][mask]).all() for part, p in zip(found, each, strict=True))


def test_of_1000_arms_and_three_slices_a_decision_says_so_in_96_bytes() -> None:
    """Two numbers and the best arm for a policy that explores evenly, one number for one that is even."""
    K = 1000
    p, even = np.full((1, K), 0.02 / K), np.full((1, K), 1 / K)
    p[0, 7] += 0.98
    (packed,) = pack_slices([(0, 900_000), (1, 50_000), (2, 50_000)], [p, even, p], np.ones((1, K), bool))
    assert len(packed) == 5 + 1 + 3 * (5 + 1) + 2 * (16 + 5 + 4) + 8


@given(SEEDS, IDS, st.booleans(), st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_a_decision_comes_back_as_it_was(seed: int, caller: str, user: bool, k: int) -> None:
    """Read whole and packed again from what was read: the same bytes; the head alone reads the same."""
    head, record = decision(seed, caller, user=user, k=k)
    found = unpack_decision(record)
    assert found.head == decision_head(record) == head
    assert found.caller == caller
    assert (len(found.user), len(found.arms), len(found.eligible)) == (16 if user else 0, k, 9)
    shown = zip(found.arms, found.propensities, found.marginals, strict=True)
    tail = pack_probabilities(found.probabilities, np.ones(9, bool))
    assert pack_decision(found.head, found.x, found.caller.encode(), found.user, shown, tail) == record
    assert dataclasses.asdict(found).keys() >= {"eligible", "probabilities"}


@given(
    st.integers(0, 255), U32, st.integers(0, 15), POSITIONS, NONCES, IDS, U32, st.integers(-(2**26), 2**26), IDS,
    st.lists(st.tuples(CREDITS, CREDITS), min_size=1, max_size=16), st.binary(max_size=50), U32, IDS,
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_feedback_comes_back_as_it_was(
    flags: int, generation: int, kind: int, at: Position, nonce: bytes, caller: str, arm: int, value: int, event: str,
    credits_: list[tuple[int, int]], x: bytes, schema: int, refund_of: str,
) -> None:  # fmt: skip
    """Every field, ids of any characters, credits of up to 16 kinds before and after, a refund's event."""
    old, new = zip(*credits_, strict=True)
    feedback = Feedback(flags, generation, kind, at, nonce, caller, arm, value, event, old, new, x, refund_of)
    assert unpack_feedback(pack_feedback(feedback, schema)) == feedback


@given(
    st.integers(0, 255), U32, POSITIONS, NONCES, IDS, st.integers(1, 4), st.data(), st.binary(max_size=50), U32
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_an_activation_comes_back_as_it_was(
    flags: int, generation: int, at: Position, nonce: bytes, caller: str, m: int, data: st.DataObject, x: bytes,
    schema: int,
) -> None:  # fmt: skip
    """Every field, the credits of each arm of a list included."""
    rows = data.draw(st.lists(st.tuples(U32, *[CREDITS] * m), min_size=1, max_size=5))
    arms, credits_ = tuple(row[0] for row in rows), tuple(row[1:] for row in rows)
    activation = Activation(flags, generation, at, nonce, caller, arms, credits_, x)
    assert unpack_activation(pack_activation(activation, schema)) == activation


RECORDS: list[tuple[Callable[[bytes], object], bytes]] = [
    (unpack_decision, decision(1, "visit-1", user=True, k=3)[1]),
    (unpack_decision, decision(2, "", user=False, k=1)[1]),
    (
        unpack_feedback,
        pack_feedback(Feedback(0, 1, 0, Position(5, 6), bytes(8), "c", 3, 9, "e", (0, 0), (9, 0), bytes(10)), 1),
    ),
    (
        unpack_activation,
        pack_activation(Activation(0, 1, Position(5, 6), bytes(8), "c", (3, 1), ((9, 0), (0, 1)), bytes(10)), 1),
    ),
]


@pytest.mark.parametrize(("unpack", "record"), RECORDS, ids=["decision", "plain decision", "feedback", "activation"])
def test_a_record_that_is_not_whole_is_corrupt(unpack: Callable[[bytes], object], record: bytes) -> None:
    """Cut after any byte, or with one more at its end: never read as something else."""
    unpack(record)
    for size in range(len(record)):
        with pytest.raises(CorruptLog):
            unpack(record[:size])
    with pytest.raises(CorruptLog):
        unpack(record + b"\0")


@pytest.mark.parametrize(("unpack", "record"), RECORDS, ids=["decision", "plain decision", "feedback", "activation"])
@pytest.mark.parametrize("form", [0, 2, 255])
def test_a_record_of_another_format_is_corrupt(unpack: Callable[[bytes], object], record: bytes, form: int) -> None:
    """A later version's record is not guessed at."""
    with pytest.raises(CorruptLog):
        unpack(struct.pack("B", form) + record[1:])


def test_a_config_comes_back_as_it_was() -> None:
    """An `x` entry holds the whole config; what is none, or not UTF-8, is corrupt."""
    text = {"rewards": {"click": {}}, "arms": ["a", {"id": "ä", "payload": [1]}], "lambda": 2}
    config = first("e", parse_document(json.dumps(text).encode()))
    record = msgspec.json.encode(config)
    assert msgspec.json.encode(read_config(record)) == record
    assert compile_config(read_config(record)).shape == (2, 1, 1)
    for damaged in (record[:-1], b"{}", b"", record.replace(b"click", b"\xff\xfe\xfd\xfc\xfb")):
        with pytest.raises(CorruptLog):
            read_config(damaged)


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 70), st.booleans())
def test_probabilities_packed_together_are_those_packed_alone(seed: int, n: int, K: int, shared: bool) -> None:
    """Rows with one leader, with ties, even and all different, under a mask of their own or the same one."""
    rng = np.random.default_rng(seed)
    eligible = rng.random((1 if shared else n, K)) < rng.choice([0.5, 1.1])
    eligible[:, rng.integers(K)] = True
    p = rng.choice([rng.random((n, K)), rng.integers(0, 2, (n, K)) / K, np.full((n, K), 1 / K)])
    masks = np.broadcast_to(eligible, (n, K))
    assert pack_all_probabilities(p, eligible) == [pack_probabilities(*row) for row in zip(p, masks, strict=True)]
