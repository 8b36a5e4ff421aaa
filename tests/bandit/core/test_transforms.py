"""Transforms that a document fixes, by plain NumPy, by hand, and back again."""

import json
import math
from bisect import bisect_right
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.core.features import (
    D_MAX,
    Bins,
    Boolean,
    Category,
    Encoder,
    Feature,
    Fourier,
    Interaction,
    Number,
    Rank,
    compile_encoder,
    numbered,
    relaid,
)
from bandit.core.features.layout import by_name, parts
from bandit.core.features.transforms import constants
from bandit.core.sums import ONE
from bandit.errors import Code, Problem

EDGES = (-1.5, 0.0, 2.0, 10.0)
BINS, RANK = Number("v", transform=Bins(EDGES)), Number("v", transform=Rank(EDGES))
A, B = Number("a", mean=10, scale=4), Number("b", min=0, max=1)


def encoded(features: list[Feature], *contexts: dict[str, Any]) -> Any:
    """The columns of contexts as requests bring them, without the intercept, on the grid."""
    encoder = compile_encoder(features)
    decoded = [msgspec.json.decode(json.dumps(context), type=encoder.context_type) for context in contexts]
    return encoder.encode(decoded)[:, 1:]


def read(encoder: Encoder, contexts: list[dict[str, Any]]) -> list[Any]:
    """Contexts as the encoder takes them."""
    return [msgspec.convert(context, encoder.context_type) for context in contexts]


def one(feature: Feature, *values: Any) -> Any:
    """The columns of values of one feature."""
    return encoded([feature], *[{} if value is ... else {feature.name: value} for value in values])


def faults(*features: Feature) -> dict[str, str]:
    """What these features are refused for: pointer to what was expected."""
    with pytest.raises(Problem) as caught:
        compile_encoder(features)
    assert caught.value.code == Code.INVALID_EXPERIMENT
    return {fault.pointer: fault.expected for fault in caught.value.faults}


@pytest.mark.parametrize(
    ("value", "column", "rank"),
    [
        (-1e308, 0, -1), (-1.6, 0, -1), (math.nextafter(-1.5, -2), 0, -1),
        (-1.5, 1, -1), (-0.75, 1, -2 / 3), (0, 2, -1 / 3), (-0.0, 2, -1 / 3), (1, 2, 0), (2, 3, 1 / 3), (6, 3, 2 / 3),
        (math.nextafter(10, 0), 3, 1), (10, 4, 1), (10.1, 4, 1), (1e308, 4, 1), (10**300, 4, 1),
    ],
)  # fmt: skip
def test_bins_and_ranks_by_hand(value: float, column: int, rank: float) -> None:
    """An edge belongs to the interval above it; below the first edge a rank is -1, from the last on it is 1."""
    assert one(BINS, value).tolist() == [[ONE * (i == column) for i in range(5)]]
    assert one(RANK, value).tolist() == [[round(rank * ONE)]]


@pytest.mark.parametrize(
    ("how", "missing", "columns"),
    [
        (Bins((0, 1)), "indicator", [[0, 0, 0, 1], [0, 0, 0, 1], [0, 1, 0, 0]]),
        (Bins((0, 1)), 7.0, [[0, 0, 1], [0, 0, 1], [0, 1, 0]]),
        (Rank((0, 1)), "indicator", [[0, 1], [0, 1], [0.5, 0]]),
        (Rank((0, 1)), 0.25, [[-0.5], [-0.5], [0.5]]),
    ],
)
def test_what_stands_for_a_missing_value(how: Any, missing: Any, columns: list[list[float]]) -> None:
    """A value is put where it belongs; with an indicator there is no bin and the middle rank, and a column says so."""
    values = (None, ..., 0.75 if isinstance(how, Rank) else 0.5)
    assert (one(Number("v", transform=how, missing=missing), *values) / ONE).tolist() == columns


@pytest.mark.parametrize("feature", [BINS, RANK])
@pytest.mark.parametrize("text", ["{}", '{"v": null}', '{"v": NaN}', '{"v": true}', '{"v": "1"}', '{"v": [1]}'])
def test_what_is_no_number_is_refused(feature: Feature, text: str) -> None:
    """As of every number: nothing, null, NaN, and other types."""
    with pytest.raises(msgspec.MsgspecError):
        msgspec.json.decode(text, type=compile_encoder([feature]).context_type)


edges = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12, unique=True).map(lambda found: tuple(sorted(found)))
values = st.lists(st.floats(-2e6, 2e6), min_size=1, max_size=20)


@given(edges, values)
@settings(deadline=None)
def test_bins_are_what_numpy_digitizes(edges: tuple[float, ...], values: list[float]) -> None:
    """One 1 in each row, in the column that `digitize` says; on an edge too."""
    x = one(Number("v", transform=Bins(edges)), *values, *edges)
    assert (x.sum(axis=1) == ONE).all()
    assert x.argmax(axis=1).tolist() == np.digitize([*values, *edges], edges).tolist()


@given(edges, values)
@settings(deadline=None)
def test_ranks_are_the_interpolated_distribution_function(edges: tuple[float, ...], values: list[float]) -> None:
    """Within half a step of the grid of the exact fraction; never falling; -1 and 1 at the ends."""
    values = sorted([*values, *edges])
    x = one(Number("v", transform=Rank(edges)), *values)[:, 0].tolist()
    for value, found in zip(values, x, strict=True):
        k = min(max(bisect_right(edges, value) - 1, 0), len(edges) - 2)
        share = (Fraction(value) - Fraction(edges[k])) / (Fraction(edges[k + 1]) - Fraction(edges[k]))
        exact = 2 * (k + min(max(share, Fraction(0)), Fraction(1))) / (len(edges) - 1) - 1
        assert abs(found - exact * ONE) <= Fraction(1, 2) + Fraction(1, 10**6)
    assert x == sorted(x)
    assert np.abs(np.array(x) / ONE - np.interp(values, edges, np.linspace(-1, 1, len(edges)))).max() <= 0.51 / ONE
    assert one(Number("v", transform=Rank(edges)), edges[0], edges[-1]).tolist() == [[-ONE], [ONE]]


missing = st.sampled_from(["refuse", "indicator"]) | st.floats(-10, 10)


@given(st.sampled_from([Bins, Rank]), edges, missing, st.lists(st.floats(allow_nan=False, allow_infinity=False)))
@settings(deadline=None)
def test_a_decoded_value_is_encoded_to_the_same_columns(how: Any, edges: Any, missing: Any, values: Any) -> None:
    """So a log can be exported, and read again."""
    encoder = compile_encoder([Number("v", transform=how(edges), missing=missing)])
    told = [{"v": value} for value in (*values, *edges)] + [{}] * (missing == "indicator")
    x = encoder.encode(read(encoder, told))
    back = encoder.decode(x)
    again = encoder.encode(read(encoder, back))
    assert again.tolist() == x.tolist()
    assert (back[-1]["v"] is None) == (missing == "indicator")


def test_a_decoded_value_is_a_typical_one() -> None:
    """The middle of an interval, in few digits; of a rank the number itself."""
    encoder = compile_encoder([BINS])
    contexts = [{"v": value} for value in (-99, -0.1, 1.9, 9, 99)]
    x = encoder.encode(read(encoder, contexts))
    assert [each["v"] for each in encoder.decode(x)] == [-3, -0.8, 1, 6, 10]
    encoder = compile_encoder([RANK])
    x = encoder.encode(read(encoder, [{"v": 1.25}, {"v": 7}]))
    assert [each["v"] for each in encoder.decode(x)] == [1.25, 7]


def by_numpy(fourier: Fourier, z: Any) -> Any:
    """The columns of whole numbers of the grid, shape (n, p), straight from the definition."""
    draws = np.random.PCG64(fourier.seed).random_raw(fourier.size * (z.shape[1] + 1))
    u = ((draws >> np.uint64(12)).astype(float) + 0.5) / 2**52
    u = u.reshape(fourier.size, z.shape[1] + 1)
    from scipy.special import ndtri

    w, b = ndtri(u[:, :-1]), 2 * np.pi * u[:, -1]
    return fourier.height * math.sqrt(2 / fourier.size) * np.cos(z / ONE @ w.T / fourier.scale + b)


@pytest.mark.parametrize(
    ("size", "scale", "seed", "height"),
    [(1, 1.0, 0, 1.0), (7, 0.5, 3, 1.0), (100, 2.5, 2**53, 3.2), (300, 40.0, 1, 0.5), (4, 1.0, 1, 10.0)],
)
def test_random_features_are_those_of_the_definition(size: int, scale: float, seed: int, height: float) -> None:
    """height sqrt(2 / size) cos(w'z / scale + b) of the numbers' own columns, to half a step of the grid."""
    rank = Number("r", transform=Rank(EDGES))
    fourier = Fourier("f", ("r", "a", "b"), size, scale, seed, height)
    rng = np.random.default_rng(0)
    told = [{"a": v[0] * 4 + 10, "b": v[1], "r": v[2]} for v in rng.normal(size=(50, 3)).tolist()]
    x = encoded([A, B, fourier, rank], *told)
    exact = by_numpy(fourier, x[:, [-1, 0, 1]].astype(float))
    assert np.abs(x[:, 2:-1] / ONE - exact).max() <= 0.5 / ONE + 1e-5 * height / scale
    assert x[:, [0, 1, -1]].tolist() == encoded([A, B, rank], *told).tolist()


def test_random_features_never_change() -> None:
    """The first constants of two seeds, and columns of one context: recorded when they were first made."""
    w, b = constants(2, 3, 0)
    assert w.T.tolist() == W0
    assert b.tolist() == pytest.approx(B0, rel=1e-15)
    assert constants(1, 2, 7)[0].tolist() == W7
    fourier = Fourier("f", ("a", "b"), 8, 1.5, 11)
    assert encoded([A, B, fourier], {"a": 13, "b": 0.25})[0].tolist() == GOLDEN


W0 = [[367368, -643258], [-2234947, 933245], [283704, 640985]]
B0 = [0.25744424357926954, 5.735012432197602, 3.415696558991173]
W7 = [[334382, 794510]]
GOLDEN = [3072, -2048, -2043, 1014, 1586, -1932, 595, -1937, 1962, -1734]


def test_constants_are_distributed_as_they_should_be() -> None:
    """w standard normal, b uniform on a circle; more columns of one seed begin like fewer."""
    w, b = constants(5, 2000, 42)
    w = w / 2**20
    assert abs(w.mean()) < 0.03
    assert w.std() == pytest.approx(1, abs=0.02)
    assert np.abs(np.corrcoef(w) - np.eye(5)).max() < 0.08
    assert np.histogram(b, 4, (0, 2 * np.pi))[0].min() > 440  # of 500
    fewer = constants(5, 10, 42)
    assert (fewer[0] / 2**20 == w[:, :10]).all()
    assert (fewer[1] == b[:10]).all()


def test_random_features_approach_the_gaussian_kernel() -> None:
    """The inner product of two contexts is exp(-|z - z'|^2 / (2 scale^2)), to about sqrt(1 / size)."""
    numbers = [Number(name, mean=0, scale=1) for name in "abc"]
    z = np.random.default_rng(1).normal(size=(30, 3))
    told = [dict(zip("abc", row, strict=True)) for row in z.tolist()]
    x = encoded([*numbers, Fourier("f", ("a", "b", "c"), 1000, 2.0, 5)], *told)[:, 3:] / ONE
    kernel = np.exp(-((z[:, None] - z[None]) ** 2).sum(axis=2) / 8)
    assert np.abs(x @ x.T - kernel).max() < 0.15
    assert np.abs(x @ x.T - kernel).mean() < 0.03


@given(st.integers(1, 64), st.integers(0, 2**31), st.data())
@settings(deadline=None, max_examples=30)
def test_many_at_once_are_what_each_is_alone(size: int, seed: int, data: Any) -> None:
    """To the bit, however the product is summed: w'z is a sum of whole numbers."""
    p = data.draw(st.integers(1, 40))
    numbers = [Number(f"n{i}", mean=0, scale=1, missing="indicator") for i in range(p)]
    encoder = compile_encoder([*numbers, Fourier("f", tuple(each.name for each in numbers), size, 1.0, seed)])
    z = np.random.default_rng(seed).normal(size=(9, p)) * 3
    told = [{f"n{i}": v for i, v in enumerate(row)} for row in z.tolist()] + [{"n0": None}, {}]
    contexts = read(encoder, told)
    x = encoder.encode(contexts)
    assert [encoder.encode([each])[0].tolist() for each in contexts] == x.tolist()
    assert encoder.encode(read(encoder, encoder.decode(x))).tolist() == x.tolist()
    # what is missing is at the mean, and what says so is no part of it
    zero = encoder.encode(read(encoder, [{f"n{i}": 0 for i in range(p)}]))
    assert x[-1, -size:].tolist() == zero[0, -size:].tolist()


@pytest.mark.parametrize(
    ("features", "at"),
    [
        ([Number("v", transform=Bins((1, 1)))], "/features/0/transform/edges/1"),
        ([A, Number("v", transform=Bins((1, 3, 2)))], "/features/1/transform/edges/2"),
        ([Number("v", transform=Rank((2, 1)))], "/features/0/transform/edges/1"),
        ([Number("v", transform=Rank((1, float("nan"))))], "/features/0/transform/edges/1"),
        ([Number("v", transform=Rank((1, 2)), mean=0, scale=1)], "/features/0"),
        ([Number("v", transform=Rank((1, 2)), scale=1)], "/features/0"),
        ([Number("v", transform=Rank((1, 2)), cycle=24)], "/features/0"),
        ([Number("v", transform=Rank((1, 2)), log=True)], "/features/0"),
        ([A, Fourier("f", ("a", "a"), 2, 1)], "/features/1"),
        ([A, Fourier("f", ("a", "c"), 2, 1)], "/features/1/of/1"),
        ([A, Boolean("b"), Fourier("f", ("a", "b"), 2, 1)], "/features/2/of/1"),
        ([A, Fourier("f", ("a",), 4, 1, height=10.1)], "/features/1"),
        ([BINS, Fourier("f", ("v",), 2, 1)], "/features/1/of/0"),
        ([Number("h", cycle=24), Fourier("f", ("h",), 2, 1)], "/features/1/of/0"),
        ([A, Fourier("f", ("a",), 2, 1), Fourier("g", ("f",), 2, 1)], "/features/2/of/0"),
        ([A, Fourier("f", ("a",), 2, 1), Interaction("i", ("a", "f"))], "/features/2/of/1"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_where_it_is(features: list[Feature], at: str) -> None:
    """Edges that are equal, or fall; parameters that contradict each other; numbers that are none."""
    assert list(faults(*features)) == [at]


def test_a_number_without_anything_is_told_where_to_get_it() -> None:
    """The error names the command that proposes scales and transforms from data; others do not."""
    assert faults(Number("v"))["/features/0"] == (
        "mean and scale, or min and max, or cycle, or transform; `bandit-simulator features` proposes them from data"
    )
    assert "bandit-simulator" not in faults(Number("v", mean=1))["/features/0"]


def test_too_many_columns_are_counted() -> None:
    """The error says how many there would be."""
    edges = tuple(map(float, range(D_MAX - 2)))
    assert compile_encoder([Number("v", transform=Bins(edges))]).d == D_MAX
    with pytest.raises(Problem, match=f"the features make {D_MAX + 1} columns; at most {D_MAX}"):
        compile_encoder([A, Number("v", transform=Bins(edges))])
    with pytest.raises(Problem, match=f"the features make {D_MAX + 1} columns; at most {D_MAX}"):
        compile_encoder([A, Fourier("f", ("a",), D_MAX - 1, 1)])


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "number", "name": "v", "transform": {"type": "bins", "edges": []}}',
        '{"type": "number", "name": "v", "transform": {"type": "rank", "edges": [1]}}',
        '{"type": "number", "name": "v", "transform": {"type": "rank", "edges": [1, 1e51]}}',
        '{"type": "number", "name": "v", "transform": {"type": "fourier", "size": 3}}',
        '{"type": "number", "name": "v", "transform": {"type": "bins", "edges": [1], "bins": 8}}',
        '{"type": "fourier", "name": "f", "of": ["a"], "size": 0, "scale": 1}',
        '{"type": "fourier", "name": "f", "of": ["a"], "size": 1024, "scale": 1}',
        '{"type": "fourier", "name": "f", "of": ["a"], "size": 10, "scale": 0}',
        '{"type": "fourier", "name": "f", "of": ["a"], "size": 10}',
        '{"type": "fourier", "name": "f", "of": ["a"], "size": 10, "scale": 1, "seed": -1}',
        '{"type": "fourier", "name": "f", "of": [], "size": 10, "scale": 1}',
    ],
)
def test_what_no_transform_is_is_refused(text: str) -> None:
    """Wrong types, sizes out of range, unknown fields."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Feature)


@pytest.mark.parametrize(
    ("feature", "names"),
    [
        (BINS, ["<-1.5", "-1.5 to 0", "0 to 2", "2 to 10", ">=10"]),
        (Number("v", transform=Bins((1e-7, 0.1, 1e20)), missing="indicator"),
         ["<1e-07", "1e-07 to 0.1", "0.1 to 1e+20", ">=1e+20", "missing"]),
        (Number("v", transform=Bins((0.1, math.nextafter(0.1, 1)))),
         ["<0.1", "0.1 to 0.10000000000000002", ">=0.10000000000000002"]),
        (RANK, [""]),
        (Fourier("f", ("a",), 3, 1), ["0", "1", "2"]),
        (Interaction("i", ("v", "m")), [f"{name} x " for name in ("<-1.5", "-1.5 to 0", "0 to 2", "2 to 10", ">=10")]),
    ],
)  # fmt: skip
def test_columns_have_names_of_their_own(feature: Feature, names: list[str]) -> None:
    """What the interval is; the number of a random feature. However near edges are, names differ."""
    others = by_name([BINS, Boolean("m"), A, feature])
    assert list(parts(feature, others)) == names
    assert len(set(names)) == len(names)


def test_interactions_multiply_bins() -> None:
    """Each bin with each level, and not the column that says what is missing."""
    bins = Number("v", transform=Bins((0,)), missing="indicator")
    both = [bins, Category("c", ("x",)), Interaction("i", ("v", "c"))]
    assert (encoded(both, {"v": 1, "c": "x"}, {"c": "x"}) / ONE).tolist() == [
        [0, 1, 0, 1, 0, 0, 0, 1, 0],
        [0, 0, 1, 1, 0, 0, 0, 0, 0],
    ]


def test_a_transform_is_a_scaling_and_does_not_change() -> None:
    """Other edges, another scale or seed: only from zero. Random features of what was there already come from zero too,
    as zeros would stand for their past.
    """
    fourier = Fourier("f", ("a",), 3, 1.0)
    changes: list[tuple[list[Feature], list[Feature], str]] = [
        ([BINS], [Number("v", transform=Bins((*EDGES, 11)))], "/features/0"),
        ([BINS], [RANK], "/features/0"),
        ([RANK], [Number("v", mean=0, scale=1)], "/features/0"),
        ([A, fourier], [A, Fourier("f", ("a",), 3, 1.5)], "/features/1/of"),
        ([A, fourier], [A, Fourier("f", ("a",), 3, 1.0, 1)], "/features/1/of"),
        ([A, fourier], [A, Fourier("f", ("a",), 4, 1.0)], "/features/1/of"),
        ([A, fourier], [A, Fourier("f", ("a",), 3, 1.0, 0, 1.5)], "/features/1/of"),
        ([A], [A, fourier], "/features/1/of"),
    ]
    for old, new, at in changes:
        with pytest.raises(Problem) as caught:
            relaid(numbered(old), old, new, 2)
        assert (caught.value.code, [fault.pointer for fault in caught.value.faults]) == (Code.FEATURES_CHANGED, [at])


def test_what_comes_later_keeps_what_is_there() -> None:
    """Bins need no constant, as they add up to 1; a rank brings one. Random features may come with a number of
    theirs.
    """
    bins, rank = Number("x", transform=Bins((0,))), Number("y", transform=Rank((0, 1)))
    found = relaid(numbered([A]), [A], [A, bins], 2)
    assert (found.columns, found.known) == ({"a": (1,), "x": (2, 3)}, {})
    found = relaid(numbered([A]), [A], [A, rank, Fourier("f", ("a", "y"), 2, 1.0)], 2)
    assert (found.columns, found.known) == ({"a": (1,), "y": (2,), "f": (3, 4)}, {"y": 5})
    encoder: Encoder = compile_encoder([A, rank, Fourier("f", ("a", "y"), 2, 1.0)], found)
    x = encoder.encode(read(encoder, [{"a": 14, "y": 0.75}]))
    assert x[0, [1, 2, 5]].tolist() == [ONE, ONE // 2, ONE // 2]
    same = encoded([A, rank, Fourier("f", ("a", "y"), 2, 1.0)], {"a": 14, "y": 0.75})
    assert x[0, 3:5].tolist() == same[0, 2:4].tolist()
