"""Transformed features over HTTP, from the document to the views: each column is what its interval or number says."""

import msgspec
import numpy as np
import pytest
from live import Experiment, Live, ok, pointers

from bandit.core.features import Feature, compile_encoder
from bandit.core.features.types import COMMAND
from bandit.errors import Code
from bandit.replica.verify import verify

FEATURES = [
    {"name": "basket", "type": "number", "transform": {"type": "bins", "edges": [20, 50]}, "missing": "indicator"},
    {"name": "stay", "type": "number", "transform": {"type": "rank", "edges": [0, 10, 60]}, "missing": 10},
    {"name": "age", "type": "number", "mean": 40, "scale": 12},
    {"name": "curve", "type": "fourier", "of": ["age", "stay"], "size": 3, "scale": 1.5, "seed": 7},
    {"name": "both", "type": "interaction", "of": ["basket", "age"]},
]
BASKETS = (None, 5, 20, 49.5, 50, 900)
CONTEXTS = [{"basket": BASKETS[i % 6], "stay": 7 * i, "age": 20 + 3 * i} for i in range(18)]


def lived(server: Live) -> Experiment:
    """An experiment with decisions in each bin, every third of which was clicked on."""
    arms = ["a", {"id": "b", "when": {"basket": {"min": 30}}}, "c"]
    one = server.experiment(features=FEATURES, arms=arms, policy={"type": "linucb", "alpha": 1, "explore": 1})
    for i, context in enumerate(CONTEXTS):
        one.decided(context=context, decision_id=f"d{i}")
        if i % 3 == 0:
            ok(one.feedback(decision_id=f"d{i}", event="click"))
    one.until_seen(lambda rows: sum(row["impressions"] for row in rows.values()) == 18)
    one.until_seen(lambda rows: sum(row["rewards"]["click"]["sum"] for row in rows.values()) == 6)
    return one


def test_a_document_is_given_back_as_it_was_sent(server: Live) -> None:
    """Edges, scales and seeds to the last digit; what is the default is left out."""
    one = server.experiment(features=FEATURES)
    found = ok(server.client.get(one.at))["features"]
    assert found == FEATURES
    again = ok(server.client.put(one.at, json={**server_document(server, one), "features": found}))
    assert (again["features"], again["generation"]) == (FEATURES, 1)


def server_document(server: Live, one: Experiment) -> dict[str, object]:
    """The document of an experiment, as it could be sent."""
    told = {"name", "version", "generation", "created_at", "updated_at", "evaluable"}
    return {name: part for name, part in ok(server.client.get(one.at)).items() if name not in told}


def test_what_is_logged_is_what_the_encoder_makes(server: Live) -> None:
    """The sums of all arms are those of the contexts' feature vectors, and another replica folds them alike."""
    one = lived(server)
    encoder = compile_encoder(msgspec.convert(FEATURES, tuple[Feature, ...]))
    x = encoder.encode([msgspec.convert(context, encoder.context_type) for context in CONTEXTS]).astype(np.int64)
    model = server.service.follower.replicas[one.name].model
    assert encoder.d == 1 + 4 + 1 + 1 + 3 + 3
    assert model is not None
    assert (model.sums.A.sum(axis=0) == x.T @ x).all()
    assert verify(server.service.store, one.name)["equal"]


def test_weights_go_by_their_interval(server: Live) -> None:
    """Each column has a name of its own, in the order of the document."""
    told = ok(server.client.get(f"{lived(server).at}/weights", params={"arm": "a"}))["weights"]
    assert [(each["feature"], each["column"]) for each in told] == [
        ("(intercept)", ""),
        ("basket", "<20"), ("basket", "20 to 50"), ("basket", ">=50"), ("basket", "missing"),
        ("stay", ""), ("age", ""), ("curve", "0"), ("curve", "1"), ("curve", "2"),
        ("both", "<20 x "), ("both", "20 to 50 x "), ("both", ">=50 x "),
    ]  # fmt: skip


def test_segments_of_bins_are_the_bins(server: Live) -> None:
    """With their edges; those of a rank are ranges of its values."""
    address = f"{lived(server).at}/estimates"
    found = ok(server.client.get(address, params={"segment": "basket"}))["segments"]
    assert [(each["name"], each["low"], each["high"], each["contexts"]) for each in found] == [
        ("<20", None, 20, 3), ("20 to 50", 20, 50, 6), (">=50", 50, None, 6), ("(missing)", None, None, 3),
    ]  # fmt: skip
    ranges = ok(server.client.get(address, params={"segment": "stay"}))["segments"]
    assert sum(each["contexts"] for each in ranges) == 18
    assert (ranges[0]["low"], ranges[-1]["high"]) == (0, 60)
    assert pointers(server.client.get(address, params={"segment": "curve"}), Code.INVALID_REQUEST) == ["/query/segment"]


def test_an_explanation_names_every_feature_and_adds_up(server: Live) -> None:
    """What is made of others has parts of its own: they are not the intercept's."""
    one = lived(server)
    told = ok(one.client.get(f"{one.at}/decisions/d3", params={"explain": "true"}))
    assert told["context"]["basket"] == 40  # a round number in the bin of 49.5
    arms = told["explanation"]["arms"]
    for each in arms:
        assert set(each["mean_parts"]) == {"(intercept)", "basket", "stay", "age", "curve", "both"}
        assert each["mean"] == sum(each["mean_parts"].values())
        assert each["width"] == sum(each["width_parts"].values())
    assert any(each["mean_parts"]["curve"] != 0 for each in arms)
    scores = {each["arm"]: each["score"] for each in arms}
    for i in range(30):
        (arm,) = one.decided(context=CONTEXTS[3], decision_id=f"again{i}", defer=True)["arms"]
        assert arm["score"] == pytest.approx(scores[arm["arm"]], rel=1e-9)


def test_conditions_are_on_the_value_itself(server: Live) -> None:
    """30 lies inside of a bin: one basket of it is shown the arm, another is not."""
    one = lived(server)
    for basket, shown in ((29.5, False), (30, True), (31, True), (None, False)):
        answer = one.recommend(context={"basket": basket, "age": 30}, candidates=["b"])
        assert (answer.status_code == 200) == shown, basket


def test_a_context_is_checked_like_any_other(server: Live) -> None:
    """Of what is made of others no value is taken; of the rest a number, or what may be missing."""
    one = lived(server)
    assert pointers(one.recommend(context={"stay": "7", "age": 30, "curve": 1}), Code.INVALID_CONTEXT) == [
        "/context/stay", "/context/curve",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("place", "change"),
    [
        (0, {"transform": {"type": "bins", "edges": [20, 51]}}),
        (1, {"transform": {"type": "rank", "edges": [0, 10, 60, 70]}}),
        (3, {"scale": 1.6}),
        (3, {"seed": 8}),
        (3, {"height": 2}),
        (3, {"size": 4}),
    ],
)
def test_another_transform_is_another_generation(server: Live, place: int, change: dict[str, object]) -> None:
    """As another scaling is: 409, and `reset` starts from zero."""
    one = lived(server)
    features = [{**each, **(change if i == place else {})} for i, each in enumerate(FEATURES)]
    (at,) = pointers(one.patch({"features": features}), Code.FEATURES_CHANGED)
    assert at.startswith(f"/features/{place}")
    whole = {**server_document(server, one), "features": features}
    assert ok(server.client.put(one.at, json=whole, params={"reset": "true"}))["generation"] == 2


@pytest.mark.parametrize(
    ("feature", "place"),
    [
        ({"type": "number", "transform": {"type": "bins", "edges": [1, 1]}}, "/transform/edges/1"),
        ({"type": "number", "transform": {"type": "bins", "edges": [1, "2"]}}, "/transform/edges/1"),
        ({"type": "number", "transform": {"type": "bins"}}, "/transform/edges"),
        ({"type": "number", "transform": {"type": "binz", "edges": [1]}}, "/transform/type"),
        ({"type": "number", "transform": {"type": "bins", "edges": [1], "egdes": 1}}, "/transform/egdes"),
        ({"type": "number", "transform": 3}, "/transform"),
        ({"type": "fourier", "of": ["y"], "size": 3, "scale": 1}, "/of/0"),
        ({"type": "fourier", "of": ["y"], "size": 3, "scale": 0}, "/scale"),
        ({"type": "number"}, ""),
    ],
)
def test_a_faulty_transform_names_the_place(server: Live, feature: dict[str, object], place: str) -> None:
    """A pointer to what is wrong, down to the edge."""
    document = {"features": [{"name": "x", **feature}], "rewards": {"r": {}}, "arms": ["a"]}
    response = server.client.put("/v1/experiments/faulty", json=document)
    assert pointers(response, Code.INVALID_EXPERIMENT) == [f"/features/0{place}"]
    assert (COMMAND in response.text) == (not place)


def test_too_many_columns_are_told_by_their_number(server: Live) -> None:
    """1 + 1 + 1023."""
    features = [
        {"name": "x", "type": "number", "mean": 0, "scale": 1},
        {"name": "f", "type": "fourier", "of": ["x"], "size": 1023, "scale": 1},
    ]
    document = {"features": features, "rewards": {"r": {}}, "arms": ["a"]}
    response = server.client.put("/v1/experiments/wide", json=document)
    assert pointers(response, Code.INVALID_EXPERIMENT) == ["/features"]
    assert "1025 columns" in response.text
