"""Environments as policies with features of their own see them: the same rounds, contexts encoded from their values."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bandit.core.features import Bins, Boolean, Category, Feature, Fourier, Number, Rank, compile_encoder
from bandit.core.sums import ONE
from bandit.errors import Problem
from simulator.environments.episode import shown
from simulator.environments.full import FullEnvironment
from simulator.environments.named import named
from simulator.environments.seen import declared, seen_by
from simulator.environments.tables import read
from simulator.policies.specs import Spec
from simulator.studies.parallel import serial
from simulator.studies.power import decisions_until
from simulator.studies.run import run

ROWS = [(20 + i, 1e9 if i == 7 else i / 8, i % 3 == 0, "xyz"[i % 3], "ab"[i % 2]) for i in range(40)]
EDGES = (1.0, 2.5, 4.0)


@pytest.fixture
def table(tmp_path: Path) -> FullEnvironment:
    """Numbers, one of which is huge once and missing once, a boolean and a text."""
    lines = [f"{age},{'' if i == 3 else size},{str(new).lower()},{text},{label}" for i, (age, size, new, text, label)
             in enumerate(ROWS)]  # fmt: skip
    path = tmp_path / "table.csv"
    path.write_text("age,size,new,text,label\n" + "\n".join(lines) + "\n")
    return read(path, label="label")


def test_contexts_are_encoded_from_their_values(table: FullEnvironment) -> None:
    """What one huge value leaves no room for in the table's own columns is told apart by bins; the rest is the same."""
    features: list[Feature] = [
        Number("size", transform=Bins(EDGES), missing="indicator"),
        Number("age", transform=Rank((20, 30, 60))),
        Category("text", ("z", "x")),
        Boolean("new"),
    ]
    found = seen_by(table, features)
    encoder = compile_encoder(features)
    told: list[dict[str, Any]] = [
        {"age": age, "size": size, "new": new, "text": text} for age, size, new, text, _ in ROWS
    ]
    told[3]["size"] = None
    expected = encoder.encode([msgspec.convert(each, encoder.context_type) for each in told])
    assert isinstance(found, FullEnvironment)
    assert found.x.tolist() == expected.tolist()
    assert declared(found) == tuple(features)
    one, other = table.episode(5, 30), found.episode(5, 30)
    assert one.reward.tolist() == other.reward.tolist()
    order = [table.x.tolist().index(row) for row in one.x.tolist()]
    assert other.x.tolist() == expected[order].tolist()


def test_a_missing_number_is_the_tables_mean_unless_the_policy_says_what_it_is(table: FullEnvironment) -> None:
    """As the table's own columns have it."""
    mean = table.document["features"][1]["mean"]
    x = seen_by(table, [Number("size", mean=mean, scale=1e9)]).x  # type: ignore[attr-defined]
    assert x[3].tolist() == [ONE, 0]
    x = seen_by(table, [Number("size", transform=Bins(EDGES), missing=3.0)]).x  # type: ignore[attr-defined]
    assert x[3].tolist() == [ONE, 0, 0, ONE, 0]


def test_features_that_are_there_change_nothing(table: FullEnvironment) -> None:
    """Some of them, in another order: a policy takes these columns."""
    own = declared(table)
    assert seen_by(table, [own[2], own[0]]) is table


def test_features_that_are_not_there_are_named(table: FullEnvironment) -> None:
    """By their name, or by their type."""
    with pytest.raises(ValueError, match="'sise'; it has age, size, new, text"):
        seen_by(table, [Number("sise", mean=0, scale=1)])
    with pytest.raises(ValueError, match="'new' is a number of the policy, and a boolean there"):
        seen_by(table, [Number("new", mean=0, scale=1)])
    with pytest.raises(Problem, match="columns"):
        seen_by(table, [Number("age", mean=0, scale=1), Fourier("f", ("age",), 1023, 1)])


def test_an_environment_without_values_is_seen_by_its_columns() -> None:
    """Made-up numbers lie on the grid already, so nothing is lost."""
    logistic = named("logistic", arms=3, features=2)
    features: list[Feature] = [Number("x1", transform=Bins((-0.5, 0.5)))]
    one, other = logistic.episode(3, 200), seen_by(logistic, features).episode(3, 200)
    column = np.digitize(one.x[:, 2] / ONE, (-0.5, 0.5))
    assert other.x[:, 1:].argmax(axis=1).tolist() == column.tolist()
    assert (one.reward == other.reward).all()
    assert seen_by(logistic, features).name == "logistic"


def test_a_policy_with_transforms_plays_what_the_engine_would_play(table: FullEnvironment) -> None:
    """In a run each policy sees its own columns; the rounds and the draws are those of all others."""
    features = msgspec.to_builtins([Number("size", transform=Bins(EDGES)), Boolean("new")])
    policy = {"type": "linucb", "alpha": 0.5, "explore": 0.1}
    spec = Spec("own", "document", {"policy": policy, "features": features})
    own = run(table, ["linucb:alpha=0.5,explore=0.1", spec], seeds=3, spread=serial)
    again = seen_by(table, msgspec.convert(features, tuple[Feature, ...]))
    alone = run(again, ["linucb:alpha=0.5,explore=0.1"], seeds=3, spread=serial)
    assert [row.mean_reward for row in own.rows[3:]] == [row.mean_reward for row in alone.rows]
    plain = run(table, ["linucb:alpha=0.5,explore=0.1"], seeds=3, spread=serial)
    assert [row.mean_reward for row in own.rows[:3]] == [row.mean_reward for row in plain.rows]


def test_an_ab_test_of_transforms_can_be_powered(table: FullEnvironment) -> None:
    """Each policy learns from its own visitors, in its own columns."""
    spec = Spec("own", "document", {"policy": {"type": "linucb"}, "features": msgspec.to_builtins(
        [Number("size", transform=Bins(EDGES))])})  # fmt: skip
    found = decisions_until(table, spec, "linucb", rounds=200, looks=2, tests=2, spread=serial)
    assert found.looks == [100, 200]


def test_features_are_told_in_words(table: FullEnvironment) -> None:
    """Whatever was done to them."""
    features = [
        Number("size", transform=Bins(EDGES)), Number("age", mean=30, scale=10), Fourier("f", ("age",), 9, 1.5),
    ]  # fmt: skip
    lines = "\n".join(shown(seen_by(table, features)))
    assert "size: number, bins of 3 edges" in lines
    assert "f: 9 random features of age, scale 1.5" in lines
