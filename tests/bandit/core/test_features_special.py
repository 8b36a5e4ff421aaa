"""Contexts as they come: by hand, and back again for whatever comes."""

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bandit.core.features import (
    Boolean,
    Category,
    Encoder,
    Feature,
    Hashed,
    Interaction,
    Number,
    Vector,
    compile_encoder,
    numbered,
    relaid,
)
from bandit.core.features.special import bucket
from bandit.core.sums import ONE, X_MAX
from bandit.errors import Code, Problem

AGE, NEW, LAND = Number("age", mean=40, scale=12), Boolean("new"), Category("land", ("de", "fr"))


def read(encoder: Encoder, context: dict[str, Any]) -> msgspec.Struct:
    """A context as a request brings it."""
    return msgspec.json.decode(json.dumps(context), type=encoder.context_type)


def one(feature: Feature, *values: Any) -> list[list[float]]:
    """The columns of each value of one feature, the intercept left out; `...`: absent."""
    encoder = compile_encoder([feature])
    contexts = [{} if value is ... else {feature.name: value} for value in values]
    x: list[list[float]] = (encoder.encode([read(encoder, each) for each in contexts])[:, 1:] / ONE).tolist()
    return x


@pytest.mark.parametrize(
    ("feature", "values", "columns"),
    [
        (Number("v", mean=40, scale=12, missing=52), [46, None, ...], [[0.5], [1], [1]]),
        (Number("v", mean=40, scale=12, missing="indicator"), [46, None, ..., 40], [[0.5, 0], [0, 1], [0, 1], [0, 0]]),
        (Boolean("v", missing=True), [False, None], [[0], [1]]),
        (Boolean("v", missing="indicator"), [True, None, False], [[1, 0], [0, 1], [0, 0]]),
        (Category("v", ("a", "b"), missing="b"), ["a", ..., "z"], [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        (Category("v", ("a",), missing="unknown"), ["a", None], [[1, 0], [0, 1]]),
        (Category("v", ("a",), other=False, missing="indicator"), ["a", None], [[1, 0], [0, 1]]),
        (Vector("v", 2), [[0.5, -0.25], [9, -1e300]], [[0.5, -0.25], [X_MAX / ONE, -8]]),
        (Vector("v", 2, missing="indicator"), [[1, 2], None], [[1, 2, 0], [0, 0, 1]]),
        (Vector("v", 2, missing=(1.0, 0.0)), [None], [[1, 0]]),
        (Number("v", cycle=24), [0, 6, 12, 18, 30, -6], [[0, 1], [1, 0], [0, -1], [-1, 0], [1, 0], [-1, 0]]),
        (Number("v", cycle=24, missing="indicator"), [6, None], [[1, 0, 0], [0, 0, 1]]),
        (Number("v", mean=0, scale=1, log=True), [0, math.e - 1, 1 - math.e, 1e308], [[0], [1], [-1], [X_MAX / ONE]]),
        (Number("v", min=0, max=99, log=True), [0, 9, 99, 999], [[-1], [0], [1], [2]]),
    ],
)
def test_by_hand(feature: Feature, values: list[Any], columns: list[list[float]]) -> None:
    """Each way of a value to its columns."""
    assert one(feature, *values) == columns


def test_a_hashed_string_has_one_column_of_its_own_for_good() -> None:
    """The first bits of blake2b, whatever the string; a server of another day has the same."""
    found = np.array(one(Hashed("v", 3), "a", "berlin", "a", "\u00e9" * 300))
    assert (found.sum(axis=1) == 1).all()
    assert found[0].tolist() == found[2].tolist()
    assert found.shape == (4, 8)
    assert [bucket("a", bits) for bits in (1, 3, 9)] == [bucket("a", 9) >> 8, bucket("a", 9) >> 6, bucket("a", 9)]
    many = [bucket(str(i), 4) for i in range(16_000)]
    assert np.bincount(many, minlength=16).min() > 850  # of 1000


def test_products_are_rounded_once_more() -> None:
    """(46 - 40) / 12 with each level; a third of a third, 1365 * 1365 / 4096 = 454.9; what says missing is none."""
    features = [AGE, LAND, Interaction("both", ("age", "land"))]
    encoder = compile_encoder(features)
    x = encoder.encode([read(encoder, {"age": 46, "land": "fr"})])
    assert x.tolist() == [[ONE, 2048, 0, ONE, 0, 0, 2048, 0]]
    third = [Number(name, mean=0, scale=3, missing="indicator") for name in "ab"]
    encoder = compile_encoder([Interaction("both", ("a", "b")), *third])
    assert encoder.encode([read(encoder, {"a": 1, "b": 1}), read(encoder, {"b": -99})]).tolist() == [
        [ONE, 455, 1365, 0, 1365, 0],
        [ONE, 0, 0, ONE, -32768, 0],
    ]
    assert encoder.decode(encoder.encode([read(encoder, {"b": 1})])) == [{"a": None, "b": 1}]


def test_products_stop_at_the_ends_of_the_grid() -> None:
    """8 times 8 does not wrap around."""
    features = [Number(name, mean=0, scale=1) for name in "ab"]
    encoder = compile_encoder([*features, Interaction("both", ("a", "b"))])
    contexts = [{"a": 99, "b": 99}, {"a": -99, "b": 99}, {"a": -99, "b": -99}]
    assert encoder.encode([read(encoder, each) for each in contexts])[:, 3].tolist() == [X_MAX, -32768, X_MAX]


missing = st.sampled_from(["refuse", "indicator"])
size = st.floats(1e-3, 1e4)
feature = st.one_of(
    st.builds(Number, st.just("v"), mean=st.floats(-1e4, 1e4), scale=size, log=st.booleans(),
              missing=missing | st.floats(-99, 99)),
    st.builds(Number, st.just("v"), min=st.floats(-1e3, 0), max=st.floats(1, 1e3), log=st.booleans(), missing=missing),
    st.builds(Number, st.just("v"), cycle=size, missing=missing),
    st.builds(Boolean, st.just("v"), missing=missing | st.booleans()),
    st.builds(Category, st.just("v"), st.sampled_from([("a",), ("a", "other"), ("other", "other'", "c")]),
              missing=st.sampled_from(["refuse", "indicator", "a", "z"])),
    st.builds(Category, st.just("v"), st.just(("a", "b")), other=st.just(False), missing=missing),
    st.builds(Hashed, st.just("v"), bits=st.integers(1, 9), missing=missing),
    st.builds(Vector, st.just("v"), length=st.just(3), missing=missing | st.just((0.5, 0.0, 1.0))),
)  # fmt: skip


def value(of: Feature) -> st.SearchStrategy[Any]:
    """Any value of a feature, also one that is missing where it may be."""
    number = st.floats(-1e5, 1e5) | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-30, 30)
    kinds: dict[type, st.SearchStrategy[Any]] = {
        Number: number, Boolean: st.booleans(), Hashed: st.text(), Vector: st.tuples(*[st.floats(-9, 9)] * 3),
    }  # fmt: skip
    text = st.sampled_from(of.levels) if isinstance(of, Category) else st.text()
    if isinstance(of, Category) and of.other:
        text |= st.sampled_from(["z", "other"])
    gone = st.none() if of.missing != "refuse" else st.nothing()  # type: ignore[union-attr]
    return kinds.get(type(of), text) | gone


@given(feature.flatmap(lambda of: st.tuples(st.just(of), st.lists(value(of), min_size=1, max_size=4))))
@settings(max_examples=600, deadline=None)
@example((Number("v", cycle=24), [0, 23.999, 12, 6, 1e17]))
@example((Number("v", mean=700, scale=5, log=True), [1e308, -1e308]))
def test_what_is_decoded_is_encoded_to_the_same(drawn: tuple[Feature, list[Any]]) -> None:
    """As JSON; and what was missing is shown so where a column says it, and nowhere else."""
    of, values = drawn
    encoder = compile_encoder([of])
    x = encoder.encode([read(encoder, {"v": value}) for value in values])
    again = encoder.decode(x)
    if isinstance(of, Category) and of.missing == "refuse":
        again = [{"v": "zz" if each["v"] is None else each["v"]} for each in again]
    assert encoder.encode([read(encoder, each) for each in again]).tolist() == x.tolist()
    indicated = of.missing == "indicator"  # type: ignore[union-attr]
    assert [each["v"] is None for each in again] == [indicated and value is None for value in values]


@pytest.mark.parametrize(
    ("of", "wrong", "place"),
    [
        (Number("v", mean=0, scale=1, missing=0), "x", "/context/v"),
        (Number("v", mean=0, scale=1), None, "/context/v"),
        (Boolean("v", missing=False), 1, "/context/v"),
        (Category("v", ("a",), other=False, missing="a"), "b", "/context/v"),
        (Hashed("v", 3), 3, "/context/v"),
        (Hashed("v", 3), None, "/context/v"),
        (Vector("v", 2), [1], "/context/v"),
        (Vector("v", 2), [1, None], "/context/v/1"),
        (Vector("v", 2), "ab", "/context/v"),
    ],
)
def test_a_wrong_value_is_told_by_its_place(of: Feature, wrong: Any, place: str) -> None:
    """Although another could be missing."""
    encoder = compile_encoder([of])
    with pytest.raises(msgspec.ValidationError):
        read(encoder, {"v": wrong})
    assert [fault.pointer for fault in encoder.faults({"v": wrong}, "/context")] == [place]
    absent = [fault.pointer for fault in encoder.faults({}, "/context")]
    assert absent == (["/context/v"] if of.missing == "refuse" else [])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("old", "new", "columns"),
    [
        ([AGE], [msgspec.structs.replace(AGE, missing="indicator")], {"age": (1, 2)}),
        ([AGE], [msgspec.structs.replace(AGE, missing=3.0)], {"age": (1,)}),
        ([LAND], [Category("land", ("fr", "de", "us"), missing="indicator")], {"land": (2, 1, 4, 3, 5)}),
        ([AGE], [AGE, LAND, Interaction("i", ("age", "land"))], {"age": (1,), "land": (2, 3, 4), "i": (5, 6, 7)}),
        (
            [LAND, AGE, Interaction("i", ("age", "land"))],
            [AGE, Category("land", ("de", "us", "fr")), Interaction("i", ("age", "land"))],
            {"age": (4,), "land": (1, 8, 2, 3), "i": (5, 9, 6, 7)},
        ),
        ([LAND, AGE, Interaction("i", ("age", "land"))], [AGE], {"age": (4,)}),
    ],
)
def test_what_may_change_live(old: list[Feature], new: list[Feature], columns: dict[str, tuple[int, ...]]) -> None:
    """What stands for the missing, more levels also in interactions, and interactions of what comes with them."""
    assert relaid(numbered(old), old, new, 2).columns == columns


INDICATED = msgspec.structs.replace(AGE, missing="indicator")


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ([AGE, LAND], [AGE, LAND, Interaction("i", ("age", "land"))], "/features/2/of"),
        (
            [AGE, LAND, Interaction("i", ("age", "land"))],
            [AGE, LAND, Interaction("i", ("land", "age"))],
            "/features/2/of",
        ),
        ([INDICATED], [AGE], "/features/0/missing"),
        ([Number("age", mean=40, scale=12)], [Number("age", mean=40, scale=12, log=True)], "/features/0"),
        ([Number("age", cycle=24)], [Number("age", cycle=12)], "/features/0"),
        ([Hashed("h", 3)], [Hashed("h", 4)], "/features/0"),
        ([Vector("h", 3)], [Vector("h", 4)], "/features/0"),
    ],
)
def test_what_may_not(old: list[Feature], new: list[Feature], place: str) -> None:
    """Interactions of features that are there, and whatever else would give what was learned another meaning."""
    with pytest.raises(Problem) as caught:
        relaid(numbered(old), old, new, 2)
    assert (caught.value.code, [fault.pointer for fault in caught.value.faults]) == (Code.FEATURES_CHANGED, [place])
