"""Entries read column by column mean what they mean read one by one, or are left to the reader of single ones."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from test_events import activation, decision, feedback

from bandit.core.features import Layout
from bandit.core.features.layout import Change
from bandit.errors import CorruptLog
from bandit.log.batch import EventBatch
from bandit.log.columns import Odd, columns
from bandit.log.events import MANY, read_each, read_events
from bandit.log.records import DEFERRED, PENDING, SPARSE, USER, Entry, Feedback, Position, pack_feedback
from bandit.log.vectors import pack_x, unpack_x

M, D = 2, 5
DEFAULTS = (-3, 7)

X = st.lists(st.integers(-32767, 32767), min_size=D, max_size=D) | st.sampled_from(
    [[4096, 0, 0, 0, 0], [0] * D, [4096, 1, 2, 3, 4]]
)
GENERATION = st.sampled_from([1, 1, 1, 2])


@st.composite
def entry(draw: DrawFn, at: int, xs: st.SearchStrategy[list[int]] = X) -> Entry:
    """Any entry that a log may hold: of two generations, of records that knew fewer kinds, of lists and none."""
    kind, x, generation = draw(st.sampled_from("ddffax")), draw(xs), draw(GENERATION)
    known = draw(st.integers(0, M))
    credit = st.tuples(*[st.integers(-(2**24), 2**24)] * known)
    if kind == "d":
        flags = draw(st.sampled_from([0, USER, DEFERRED, DEFERRED | USER]))
        arms, caller = draw(st.lists(st.integers(0, 2**32 - 1), max_size=4)), draw(st.binary(max_size=9))
        return decision(at, *arms, m=known, x=x, flags=flags, generation=generation, caller=caller)
    if kind == "f":
        flags = draw(st.sampled_from([0, 0, PENDING]))
        old, new = draw(credit), draw(credit)
        return feedback(at, draw(st.integers(0, 9)), old, new, x=x, flags=flags, generation=generation)
    if kind == "a":
        credits_ = tuple(draw(st.lists(credit, min_size=1, max_size=3)))
        return activation(at, tuple(range(len(credits_))), credits_, x=x, generation=generation)
    return Entry(Position(at, 0), b"x", b"{}")


@st.composite
def log(draw: DrawFn) -> list[Entry]:
    """Entries in order."""
    return [draw(entry(i + 1)) for i in range(draw(st.integers(0, 12)))]


def same(found: EventBatch, expected: EventBatch) -> None:
    """Equal to the last bit, and of the same types."""
    assert (found.decisions, found.feedback, found.longest) == (expected[2:])
    for part in ("arm", "x", "shown", "old", "new"):
        one, other = getattr(found.events, part), getattr(expected.events, part)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(found.at, expected.at)
    assert found.at.dtype == expected.at.dtype


@given(log())
@settings(max_examples=300, deadline=None)
def test_columns_are_what_single_records_are(entries: Sequence[Entry]) -> None:
    """Of every well-formed log, in the log's order; nothing well-formed is left to the slow way."""
    same(columns(entries, 1, DEFAULTS, M, D), read_each(entries, 1, DEFAULTS, M, D))


@st.composite
def laid_log(draw: DrawFn) -> tuple[list[Entry], list[list[int]], Layout]:
    """(entries whose x has any of the columns there ever were, each x, which columns there are now)."""
    own = {0, *draw(st.sets(st.integers(1, 8)))}
    columns_ = {f"f{column}": (column,) for column in own - {0}}
    layout = Layout(draw(st.integers(9, 12)), columns_, {}, (Change(2, 1),))
    value, entries, xs = st.sampled_from([0, 0, 0, 5, -7]), [], []
    for i in range(draw(st.integers(0, 9))):
        xs.append(draw(st.lists(value, min_size=1, max_size=9)))
        entries.append(draw(entry(i + 1, st.just(xs[-1]))))
    return entries, xs, layout


@given(laid_log())
@settings(max_examples=200, deadline=None)
def test_x_is_read_by_the_numbers_of_its_columns(made: tuple[list[Entry], list[list[int]], Layout]) -> None:
    """What went is left out, what came later is 0, whatever was dense or pairs; by columns and one by one."""
    entries, xs, layout = made
    own = layout.own.tolist()
    found = read_each(entries, 1, DEFAULTS, M, len(own), layout)
    same(columns(entries, 1, DEFAULTS, M, len(own), layout), found)
    at = {entry.position.ms: [x[c] if c < len(x) else 0 for c in own] for entry, x in zip(entries, xs, strict=True)}
    assert found.events.x.tolist() == [at[ms] for ms in found.at[:, 0].tolist()]


@given(st.sets(st.integers(1, 9)), st.data())
@settings(max_examples=200, deadline=None)
def test_x_is_packed_by_the_numbers_of_its_columns(others: set[int], data: st.DataObject) -> None:
    """And in the shorter of both forms; what is packed is read again."""
    layout = Layout(10, {f"f{column}": (column,) for column in others}, {}, (Change(2, 1),))
    own = layout.own.tolist()
    x = data.draw(st.lists(st.lists(st.sampled_from([0, 0, 3, -4]), min_size=len(own), max_size=len(own)), max_size=4))
    grid = np.array(x, np.int16).reshape(len(x), len(own))
    packed = pack_x(grid, layout)
    assert unpack_x(packed, len(own), layout).tolist() == x
    for row, (found, flags) in zip(x, packed, strict=True):
        pairs = sum(value != 0 for value in row)
        assert (len(found), flags) == min((2 * own[-1] + 2, 0), (4 * pairs, SPARSE), key=lambda form: form[0])


@pytest.mark.parametrize("bad", [(b"", 0), (b"123", 0), (bytes(22), 0), (b"\x0a\0\1\0", SPARSE), (b"12", SPARSE)])
def test_x_that_is_of_no_columns_is_refused(bad: tuple[bytes, int]) -> None:
    """Of more than there ever were, or of half a number; where nothing has changed, also of fewer."""
    with pytest.raises(CorruptLog):
        unpack_x([bad], 2, Layout(10, {"f": (9,)}, {}, (Change(2, 1),)))
    with pytest.raises(CorruptLog):
        unpack_x([(bytes(2), 0)], 2, Layout(2, {"f": (1,)}))


@given(log().filter(bool), st.data())
@settings(max_examples=600, deadline=None)
def test_corrupted_bytes_never_give_another_result(entries: list[Entry], data: st.DataObject) -> None:
    """A byte changed, cut off or put in: what columns accept is what single records say; what those refuse is odd."""
    i = data.draw(st.integers(0, len(entries) - 1))
    record = bytearray(entries[i].record)
    at = data.draw(st.integers(0, max(0, len(record) - 1)))
    how = data.draw(st.sampled_from(["change", "change", "cut", "insert", "tag"]))
    if how == "cut":
        del record[at:]
    elif how == "insert":
        record[at:at] = data.draw(st.binary(min_size=1, max_size=5))
    elif record:
        record[at] = data.draw(st.integers(0, 255))
    tag = data.draw(st.sampled_from([b"z", b"", b"df", b"d", b"f", b"a"])) if how == "tag" else entries[i].tag
    entries[i] = Entry(entries[i].position, tag, bytes(record))
    try:
        found = columns(entries, 1, DEFAULTS, M, D)
    except Odd:
        return
    same(found, read_each(entries, 1, DEFAULTS, M, D))


@pytest.mark.parametrize("many", [0, 3 * MANY])
@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (decision(77, 0)._replace(tag=b"z"), "of no kind"),
        (decision(77, 0)._replace(record=b"\x02" + bytes(80)), "format 02"),
        (decision(77, 0)._replace(record=decision(77, 0).record[:80]), "cut short"),
        (decision(77, 0, m=3), "3 reward kinds; 2 are known"),
        (decision(77, 0, x=[1, 2, 3, 4]), "5 columns"),
        (decision(77, 0, x=[0, 0, 0, 0, 0, 0, 0, 0, 1]), "more than 5 columns"),
        (feedback(77, 0, (0, 0), (0, 1))._replace(record=feedback(77, 0, (0, 0), (0, 1)).record + b"!"), "length"),
        (activation(77, (0,), ((1, 2, 3),)), "3 reward kinds"),
    ],
)
def test_what_is_malformed_is_named_by_its_position(many: int, bad: Entry, why: str) -> None:
    """Alone, and among so many others that they are read column by column."""
    others = [decision(100 + i, 0) for i in range(many)]
    with pytest.raises(CorruptLog, match=f"log entry 77-0 cannot be read: .*{why}"):
        read_events([*others, bad], 1, DEFAULTS, M, D)


def test_text_that_is_not_ascii_is_read_one_by_one() -> None:
    """Callers' ids of other letters take the slow way, with its result; bytes that are no text are named."""
    record = Feedback(0, 1, 0, Position(1, 0), bytes(8), "é", 1, 1, "ü", (0, 0), (1, 2), bytes(2 * D))
    packed = pack_feedback(record, 1)
    entries = [Entry(Position(6 + i, 0), b"f", packed) for i in range(MANY)]
    with pytest.raises(Odd):
        columns(entries, 1, DEFAULTS, M, D)
    same(read_events(entries, 1, DEFAULTS, M, D), read_each(entries, 1, DEFAULTS, M, D))
    entries[3] = entries[3]._replace(record=packed.replace("é".encode(), b"\xff\xff"))
    with pytest.raises(CorruptLog, match="log entry 9-0 cannot be read"):
        read_events(entries, 1, DEFAULTS, M, D)
