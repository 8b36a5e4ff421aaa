"""The data sets against facts measured on their sources."""

import numpy as np
import pytest

from simulator.environments.datasets import FullInformation, msweb, parse_dst


@pytest.fixture(scope="module")
def data() -> FullInformation:
    """The data set, parsed once."""
    return msweb()


def test_msweb_has_the_visitors_arms_and_features_of_the_source(data: FullInformation) -> None:
    """32,711 visitors, 20 arms, 60 booleans and a number; the intercept makes d = 62."""
    assert (len(data), len(data.arms), len(data.features)) == (32711, 20, 61)
    assert data.matrix().shape == (32711, 62)
    assert (data.matrix()[:, 0] == 1.0).all()
    assert len(set(data.arms) | {f["name"] for f in data.features}) == 81


def test_msweb_arms_are_the_most_visited_areas_in_order(data: FullInformation) -> None:
    """The first and last arm and their visitors, counted by hand in the source (zcat | grep ^V | sort | uniq -c)."""
    assert data.arms[:3] == ("/msdownload", "/ie", "/search")
    assert data.arms[-1] == "/ie_intl"
    assert data.reward.sum(axis=0)[[0, 1, 2, 19]].tolist() == [10836, 9383, 8463, 865]
    assert data.features[0]["name"] == "/word"


def test_msweb_baselines_are_the_measured_ones(data: FullInformation) -> None:
    """Uniform .1055 and best fixed area .3313, measured on the source before this loader was written."""
    assert data.uniform().mean() == pytest.approx(0.1055, abs=5e-5)
    assert data.reward[:, data.best_fixed()].mean() == pytest.approx(0.3313, abs=5e-5)


def test_msweb_linear_optimum_is_the_measured_one(data: FullInformation) -> None:
    """Ridge least squares of each arm, fitted and judged on all visitors, earns .4026: features and rewards match."""
    X = data.matrix()
    theta = np.linalg.solve(X.T @ X + np.eye(X.shape[1]), X.T @ data.reward)
    chosen = (X @ theta).argmax(axis=1)
    assert data.reward[np.arange(len(X)), chosen].mean() == pytest.approx(0.4026, abs=5e-5)


def test_the_first_visitor_is_encoded_as_in_the_file(data: FullInformation) -> None:
    """The file begins with C 10001 who saw areas 1000, 1001 and 1002: two arms and one feature."""
    assert {a for a, r in zip(data.arms, data.reward[0], strict=True) if r} == {"/regwiz", "/support"}
    context = data.contexts(0)
    assert {name for name, value in context.items() if value is True} == {"/athome"}
    assert context["visits"] == 1 / 5


def test_context_and_matrix_say_the_same(data: FullInformation) -> None:
    """What a caller sends, turned into numbers by hand, is the row of the matrix; its types are the document's."""
    types = {f["name"]: f["type"] for f in data.document()["features"]}
    for i in (0, 17, 32710):
        context = data.contexts(i)
        assert {k: "boolean" if isinstance(v, bool) else "number" for k, v in context.items()} == types
        assert [1.0, *map(float, context.values())] == data.matrix()[i].tolist()


def test_visits_are_capped_at_five(data: FullInformation) -> None:
    """The number is min(visits, 5) / 5; the data hold visitors beyond the cap."""
    visits = data.matrix()[:, 1:61].sum(axis=1)
    assert visits.max() > 5
    assert (data.matrix()[:, 61] == np.minimum(visits, 5) / 5).all()


def test_document_leaves_everything_else_at_its_default(data: FullInformation) -> None:
    """Only features, arms and the reward kind are named, so that a demonstration shows the defaults."""
    document = data.document()
    assert document.keys() == {"features", "arms", "rewards"}
    assert document["rewards"] == {"click": {}}
    assert document["features"][-1] == {"name": "visits", "type": "number", "mean": 0, "scale": 1}


def test_an_order_is_a_permutation_fixed_by_its_seed(data: FullInformation) -> None:
    """The same seed, the same order; another seed, another one; each visitor once."""
    assert (data.order(1) == data.order(1)).all()
    assert (data.order(1) != data.order(2)).any()
    assert (np.sort(data.order(1)) == np.arange(len(data))).all()


def test_areas_that_share_a_path_are_named_with_their_ids() -> None:
    """Arms must be told apart; a comma in a title moves nothing."""
    names, visitors = parse_dst(['A,7,1,"One, two","/x"', 'A,8,1,"Three","/x"', 'C,"1",1', "V,8,1"])
    assert names == {7: "/x#7", 8: "/x#8"}
    assert visitors == [[8]]
