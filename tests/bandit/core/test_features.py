"""Contexts as numbers: by hand, by the grid's definition, and back."""

import json
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.core.features import D_MAX, Boolean, Category, Encoder, Feature, Number, compile_encoder
from bandit.errors import Code, Fault, Problem

AGE = Number("age", mean=40, scale=12)
TEMPERATURE = Number("temperature", min=-10, max=30)
MEMBER = Boolean("member")
COUNTRY = Category("country", ("cn", "us"))
SIZE = Category("size", ("s", "m", "l"), other=False)
ALL = compile_encoder([AGE, COUNTRY, MEMBER, SIZE, TEMPERATURE])
CONTEXT = {"age": 46, "country": "us", "member": True, "size": "l", "temperature": 20}


def encode(encoder: Encoder, *contexts: dict[str, Any]) -> list[list[int]]:
    """The feature vectors of contexts as a request brings them: JSON, read by the compiled type."""
    read = [msgspec.json.decode(json.dumps(context), type=encoder.context_type) for context in contexts]
    return encoder.encode(read).tolist()


def one(feature: Feature, value: object) -> list[int]:
    """The columns of one value, the intercept left out."""
    return encode(compile_encoder([feature]), {feature.name: value})[0][1:]


def test_a_context_by_hand() -> None:
    """The intercept, (46 - 40) / 12, cn us other, member, s m l, and 20 of [-10, 30] on [-1, 1], in units of 1/4096."""
    assert encode(ALL, CONTEXT) == [[4096, 2048, 0, 4096, 0, 4096, 0, 0, 4096, 2048]]


def test_contexts_are_encoded_one_by_one() -> None:
    """Many at once give what each gives alone; the order of a context's fields does not matter."""
    other = {"temperature": -10.0, "size": "s", "member": False, "country": "fr", "age": 40}
    assert encode(ALL, CONTEXT, other, CONTEXT) == encode(ALL, CONTEXT) + encode(ALL, other) + encode(ALL, CONTEXT)
    assert encode(ALL, other) == [[4096, 0, 0, 0, 4096, 0, 4096, 0, 0, -4096]]


def test_no_features_leave_the_intercept() -> None:
    """A context-free experiment has d = 1 and the empty object as its context."""
    encoder = compile_encoder([])
    assert (encoder.d, encode(encoder, {}), encoder.decode(np.array([[4096], [4096]], np.int16))) == (
        1,
        [[4096]],
        [{}, {}],
    )


@pytest.mark.parametrize(
    ("value", "grid"),
    [
        (7.9999, 32767),  # rounds to 32768, which would wrap to -32768
        (8, 32767), (1e6, 32767), (1e308, 32767), (10**300, 32767), (1.7976931348623157e308, 32767),
        (-8, -32768), (-8.0001, -32768), (-1e308, -32768),
        (7.9997, 32767), (7.9996, 32766),
        (0.5 / 4096, 0), (1.5 / 4096, 2), (-0.0, 0), (5e-324, 0),
    ],
)  # fmt: skip
def test_numbers_are_rounded_and_then_clipped(value: float, grid: int) -> None:
    """To the nearest 2^-12 (halves to even), then to [-8, 8 - 2^-12]; nothing wraps and nothing overflows."""
    assert one(Number("x", mean=0, scale=1), value) == [grid]


@pytest.mark.parametrize(
    ("feature", "value", "grid"),
    [
        (Number("x", min=2, max=6), 2, -4096), (Number("x", min=2, max=6), 6, 4096), (Number("x", min=2, max=6), 4, 0),
        (Number("x", min=2, max=6), 8, 8192), (Number("x", min=-6, max=-2), -6, -4096),
        (Number("x", mean=-5, scale=0.5), -4, 8192), (Number("x", mean=1e50, scale=1e-50), -1e50, -32768),
        (Number("x", min=-1e50, max=1e50), 1e50, 4096),
    ],
)  # fmt: skip
def test_a_line_maps_min_and_max_to_minus_and_plus_one(feature: Number, value: float, grid: int) -> None:
    """[min, max] onto [-1, 1], or (v - mean) / scale, beyond the ends too, up to the largest parameters."""
    assert one(feature, value) == [grid]


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.floats(-1e7, 1e7))
@settings(max_examples=200, deadline=None)
def test_a_column_is_the_nearest_point_of_the_grid(mean: float, scale: float, value: float) -> None:
    """In exact fractions: at most half a step from (v - mean) / scale, or the end of the grid where that is beyond."""
    column = one(Number("x", mean=mean, scale=scale), value)[0]
    exact = (Fraction(value) - Fraction(mean)) / Fraction(scale) * 4096
    nearest = min(max(exact, Fraction(-32768)), Fraction(32767))
    assert abs(column - nearest) <= Fraction(1, 2) + abs(nearest) * Fraction(1, 2**50)  # three roundings of float64


def test_levels_and_others_are_one_column_each() -> None:
    """Each level has its own column, any other string the last one; no value is ever two of them."""
    levels = ("a", "b", "", "a ", "other")
    for i, value in enumerate([*levels, "unheard of", "A"]):
        assert one(Category("x", levels), value) == [4096 * (j == min(i, 5)) for j in range(6)]


def test_categories_without_other_do_not_touch_their_neighbours() -> None:
    """Where `other` is false there is no column for it: the next feature begins there."""
    encoder = compile_encoder([SIZE, MEMBER])
    assert encode(encoder, {"size": "l", "member": False}) == [[4096, 0, 0, 4096, 0]]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"age": None}, Fault("/context/age", "a number", "null")),
        ({"age": "46"}, Fault("/context/age", "a number", "string")),
        ({"age": True}, Fault("/context/age", "a number", "boolean")),
        ({"age": [46]}, Fault("/context/age", "a number", "array")),
        ({"member": 1}, Fault("/context/member", "a boolean", "number")),
        ({"country": 7}, Fault("/context/country", "a string", "number")),
        ({"size": "xl"}, Fault("/context/size", "one of the levels; did you mean 'l'?", "another string")),
        ({"size": "SECRET"}, Fault("/context/size", "one of the levels", "another string")),
        ({"aeg": 4}, Fault("/context/aeg", "a feature of this experiment", "number")),
        ({"a/b~": {}}, Fault("/context/a~1b~0", "a feature of this experiment", "object")),
    ],
)  # fmt: skip
def test_a_wrong_context_is_refused_and_its_place_named(change: dict[str, Any], fault: Fault) -> None:
    """The compiled type refuses it; the fault has the pointer, what was expected and a type, never the value."""
    context = {**CONTEXT, **change}
    with pytest.raises(msgspec.DecodeError):
        encode(ALL, context)
    assert ALL.faults(context, "/context") == [fault]


def test_every_fault_of_a_context_is_named() -> None:
    """Two missing features, one wrong and one unknown, whose name is near one that is missing: four faults."""
    found = ALL.faults({"aeg": 3, "country": "us", "size": "m", "temperature": False}, "")
    assert found == [
        Fault("/age", "a number", "nothing"),
        Fault("/member", "a boolean", "nothing"),
        Fault("/temperature", "a number", "boolean"),
        Fault("/aeg", "a feature of this experiment; did you mean 'age'?", "number"),
    ]
    assert ALL.faults([], "/context") == [Fault("/context", "an object", "array")]
    assert ALL.faults(CONTEXT, "") == []


NAMES = st.text(st.characters(exclude_categories=("C", "Zl", "Zp"), exclude_characters='"\\'), min_size=1, max_size=8)
FEATURES = st.one_of(
    st.builds(Number, NAMES, mean=st.floats(-1e6, 1e6), scale=st.floats(1e-3, 1e6)),
    st.builds(
        lambda name, low, size: Number(name, min=low, max=low + size), NAMES, st.floats(-1e6, 1e6), st.floats(1e-3, 1e6)
    ),
    st.builds(Boolean, NAMES),
    st.builds(
        Category, NAMES, st.lists(st.text(max_size=5), min_size=1, max_size=4, unique=True).map(tuple), st.booleans()
    ),
)  # fmt: skip


def drawn_value(data: st.DataObject, feature: Feature) -> object:
    """A value that the feature takes."""
    if isinstance(feature, Boolean):
        return data.draw(st.booleans())
    if isinstance(feature, Category):
        return data.draw(st.sampled_from(feature.levels) | (st.text(max_size=5) if feature.other else st.nothing()))
    shift, scale = feature.line()
    return data.draw(st.floats(shift - 9 * scale, shift + 9 * scale))


@given(st.lists(FEATURES, max_size=6, unique_by=lambda feature: feature.name), st.data())
@settings(max_examples=150, deadline=None)
def test_a_decoded_context_encodes_to_the_same_vector(features: list[Feature], data: st.DataObject) -> None:
    """decode gives back booleans and levels as they were, None for another level, and numbers good for the same x."""
    encoder = compile_encoder(features)
    context = {feature.name: drawn_value(data, feature) for feature in features}
    x = encode(encoder, context)[0]
    (back,) = encoder.decode(np.array([x], np.int16))
    assert list(back) == [feature.name for feature in features]
    for feature in features:
        if isinstance(feature, Boolean):
            assert back[feature.name] is context[feature.name]
        elif isinstance(feature, Category):
            value = context[feature.name]
            assert back[feature.name] == (value if value in feature.levels else None)
    again = {name: "\0 another level" if value is None else value for name, value in back.items()}
    assert encode(encoder, again)[0] == x


def test_decoded_numbers_are_as_short_as_the_grid_allows() -> None:
    """31 years, a price of 9.99 and 0.3 come back as they were written, not as multiples of 2^-12."""
    encoder = compile_encoder([AGE, Number("price", min=0, max=20), Number("x", mean=0, scale=1)])
    context = {"age": 31, "price": 9.99, "x": 0.3}
    assert encoder.decode(np.array(encode(encoder, context), np.int16)) == [context]


def refused(*features: Feature) -> list[str]:
    """The pointers of the faults for which these features cannot be compiled."""
    with pytest.raises(Problem) as caught:
        compile_encoder(features)
    assert caught.value.code == Code.INVALID_EXPERIMENT
    return [fault.pointer for fault in caught.value.faults]


@pytest.mark.parametrize(
    "feature",
    [
        Number("x"), Number("x", mean=1.0), Number("x", scale=1.0), Number("x", min=1.0), Number("x", mean=0, max=1.0),
        Number("x", mean=0, scale=1, min=0, max=1), Number("x", mean=0, scale=1, min=0),
        Number("x", min=1, max=1), Number("x", min=2, max=1), Number("x", min=0, max=1e-60),
        Number("x", mean=0, scale=0.0), Category("x", ("a", "b", "a")),
    ],
)  # fmt: skip
def test_contradicting_parameters_are_refused(feature: Feature) -> None:
    """mean and scale, or min and max with min < max, or levels that differ; the feature's place is named."""
    assert refused(MEMBER, feature) == ["/features/1"]


def test_names_must_differ() -> None:
    """Each later feature of a name is a fault."""
    assert refused(Boolean("a"), Boolean("b"), Number("a", mean=0, scale=1), COUNTRY, Boolean("a")) == [
        "/features/2/name", "/features/4/name",
    ]  # fmt: skip


def test_there_are_at_most_1024_columns() -> None:
    """The intercept and 1,023 others are possible, one more is not."""
    most = Category("x", tuple(map(str, range(D_MAX - 2))))
    assert compile_encoder([most]).d == D_MAX == 1024
    assert refused(most, MEMBER) == ["/features"]
