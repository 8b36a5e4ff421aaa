"""Columns that keep their numbers: by hand, and what may not change."""

from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.core.features import (
    Boolean,
    Category,
    Feature,
    Layout,
    Number,
    compile_encoder,
    earlier,
    layout,
    numbered,
    relaid,
)
from bandit.core.features.layout import SINCE
from bandit.core.sums import ONE, Events, Sums, increments, row_columns
from bandit.errors import Code, CorruptLog, Problem

AGE, NEW = Number("age", mean=40, scale=12), Boolean("new")
LAND = Category("land", ("de", "fr"))
START = (AGE, LAND)


def after(*lists: tuple[Feature, ...]) -> Layout:
    """The layout of the last of these, each in the place of the one before."""
    found = numbered(lists[0])
    for version, (old, new) in enumerate(pairwise(lists), 2):
        found = relaid(found, old, new, version)
    return found


def test_a_generation_begins_in_the_order_of_its_features() -> None:
    """The intercept is 0; a category has its levels and others."""
    found = numbered(START)
    assert (found.total, found.columns, found.known) == (5, {"age": (1,), "land": (2, 3, 4)}, {})
    assert found.is_plain


def test_what_comes_is_appended_with_a_constant_for_numbers_and_booleans() -> None:
    """Two that come together share it; a category needs none."""
    price, shop = Number("price", mean=0, scale=1), Category("shop", ("a",), other=False)
    found = after(START, (price, AGE, LAND, shop, NEW))
    assert found.columns == {"age": (1,), "land": (2, 3, 4), "price": (5,), "shop": (6,), "new": (7,)}
    assert (found.known, found.total, found.is_plain) == ({"price": 8, "new": 8}, 9, True)
    assert after(START, (*START, shop)).known == {}


def test_what_goes_leaves_its_numbers_unused() -> None:
    """Back again it is another feature; the constant goes with the last that came with it."""
    price = Number("price", mean=0, scale=1)
    found = after(START, (*START, NEW, price), (AGE, NEW), (AGE,), START)
    assert found.columns == {"age": (1,), "land": (8, 9, 10)}
    assert (found.known, found.total, found.own.tolist()) == ({}, 11, [0, 1, 8, 9, 10])
    assert [tuple(change) for change in found.changes] == [(2, 5), (3, 8), (4, 8), (5, 8)]
    assert after(START, (*START, NEW, price), (AGE, NEW)).own.tolist() == [0, 1, 5, 7]


def test_a_level_comes_and_the_others_stay() -> None:
    """Wherever it is written; `other` may come too, and a feature is known by its name in whatever order."""
    found = after(START, (Category("land", ("us", "fr", "de")), AGE))
    assert (found.columns, found.total) == ({"land": (5, 3, 2, 4), "age": (1,)}, 6)
    shut = Category("land", ("de",), other=False)
    assert after((shut,), (Category("land", ("de",)),)).columns == {"land": (1, 2)}


def test_another_order_changes_no_column() -> None:
    """So no server is refused, and the same context is the same x."""
    found = after(START, (LAND, AGE))
    assert (found.own.tolist(), found.changes) == ([0, 1, 2, 3, 4], ())
    encoders = compile_encoder(START), compile_encoder((LAND, AGE), found)
    context = {"age": 46, "land": "fr"}
    assert [e.encode([msgspec.convert(context, e.context_type)]).tolist() for e in encoders] == [
        [[ONE, ONE // 2, 0, ONE, 0]]
    ] * 2


def test_x_has_each_column_in_its_place_and_the_constants() -> None:
    """By hand: age was there, land went, new and its constant came; and decoded again."""
    features = (NEW, AGE)
    found = after(START, (*START, NEW), features)
    encoder = compile_encoder(features, found)
    contexts = [{"new": True, "age": 46.0}, {"new": False, "age": 40.0}]
    x = encoder.encode([msgspec.convert(context, encoder.context_type) for context in contexts])
    assert found.own.tolist() == [0, 1, 5, 6]
    assert x.tolist() == [[ONE, ONE // 2, ONE, SINCE], [ONE, 0, 0, SINCE]]
    assert encoder.decode(x) == contexts


@pytest.mark.parametrize(
    ("new", "place"),
    [
        ((Number("age", mean=41, scale=12), LAND), "/features/0"),
        ((Number("age", min=0, max=1), LAND), "/features/0"),
        ((Boolean("age"), LAND), "/features/0/type"),
        ((AGE, Category("land", ("de",))), "/features/1/levels"),
        ((Category("land", ("de", "us", "fr"), other=False),), "/features/0/other"),
    ],
)
def test_what_was_learned_on_keeps_its_meaning(new: tuple[Feature, ...], place: str) -> None:
    """Scaling, type, and no fewer levels; the feature is named."""
    with pytest.raises(Problem) as caught:
        relaid(numbered(START), START, new, 2)
    assert (caught.value.code, caught.value.faults[0].pointer) == (Code.FEATURES_CHANGED, place)
    assert repr(new[0 if place.startswith("/features/0") else 1].name) in caught.value.detail
    assert "reset" in caught.value.detail


def test_a_generation_has_so_many_columns_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that went count, as a record has 16 bits for a number."""
    assert layout.G_MAX == 2**16
    monkeypatch.setattr(layout, "G_MAX", 8)
    lists = [START, (AGE,), START]
    assert after(*lists).total == 8
    with pytest.raises(Problem) as caught:
        after(*lists, (AGE,), START)
    assert caught.value.code == Code.INVALID_EXPERIMENT


def test_a_layout_comes_back_from_json_as_it_was() -> None:
    """As a config keeps it."""
    found = after(START, (*START, NEW), (NEW,))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Layout) == found


def test_a_feature_as_it_was_has_the_levels_of_then() -> None:
    """And none of its columns where it came later."""
    more = Category("land", ("us", "de", "fr"))
    found = after(START, (AGE, more, NEW))
    was = earlier(more, found, found.total_at(1))
    assert was is not None
    assert (was.feature, was.columns.tolist()) == (LAND, [2, 3, 4])
    assert earlier(NEW, found, found.total_at(1)) is None
    assert (found.total_at(1), found.total_at(2)) == (5, 8)
    assert (found.changed_since(1), found.changed_since(2)) == (True, False)


columns = st.sets(st.integers(1, 9)).map(lambda chosen: np.array([0, *sorted(chosen)]))


@given(columns, columns, st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_sums_in_other_columns_are_those_of_the_same_events(before: np.ndarray, now: np.ndarray, seed: int) -> None:
    """Columns that went were never there, and new ones were 0; a row comes back the same way."""
    rng = np.random.default_rng(seed)
    wide = rng.integers(-9, 9, (20, 10)).astype(np.int16)
    wide[:, np.setdiff1d(np.arange(10), before)] = 0
    rest = rng.integers(0, 2, 20), np.ones(20, np.int64), np.zeros((20, 1), np.int64), rng.integers(0, 5, (20, 1))

    def learned(own: np.ndarray) -> Sums:
        sums = Sums.zeros(2, 1, len(own))
        sums.add(*increments(Events(rest[0], wide[:, own], *rest[1:])))
        return sums

    sums, local = learned(before), np.full(10, -1)
    assert sums.laid(before, now).digest() == learned(now).digest()
    local[now] = np.arange(len(now))
    again = Sums.zeros(2, 1, len(now))
    for arm in range(2):
        row = sums.pack(arm, 1, before)
        assert row_columns(row).tolist() == before.tolist()
        again.unpack(arm, row, local)
    assert again.digest() == learned(now).digest()


def test_a_row_of_columns_that_are_not_known_is_refused() -> None:
    """It is of a later version; and one whose list of columns is cut."""
    row = Sums.zeros(1, 1, 2).pack(0, 1, np.array([0, 7]))
    Sums.zeros(1, 1, 1).unpack(0, row, np.array([0, *[-1] * 7]))
    with pytest.raises(CorruptLog):
        Sums.zeros(1, 1, 1).unpack(0, row, np.array([0, *[-1] * 6]))
    for size in (24, 26, len(row) - 1):
        with pytest.raises(CorruptLog):
            Sums.zeros(1, 1, 1).unpack(0, row[:size], np.array([0, *[-1] * 7]))
