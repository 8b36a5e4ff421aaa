"""What makes two requests the same: their meaning, not their bytes."""

import json
from typing import Any

import numpy as np
import pytest
from asking import CONTEXT, DOCUMENT, EXPERIMENT, QUIETLY, asked, digest, read
from hypothesis import given
from hypothesis import strategies as st

from bandit.core.experiment import compile_config
from bandit.core.revision import revise
from bandit.core.validation import parse_document

SAME = [
    ({"context": {"country": "us", "age": 31.0, "new": True}}, {}),
    ({"context": CONTEXT | {"age": 3.1e1}}, {}),
    ({"context": CONTEXT | {"age": 31 + 1e-9}}, {}),
    ({"candidates": ["b", "a"]}, {"candidates": ["a", "b"]}),
    ({"exclude": ["b", "a", "b"]}, {"exclude": ["a", "b"]}),
    ({"exclude": []}, {}),
    ({"candidates": ["a"], "exclude": []}, {"candidates": ["a"]}),
    ({"candidates": None, "user_id": None}, {}),
    ({"k": 1, "defer": False}, {}),
]
OTHER = [
    {},
    {"context": CONTEXT | {"age": 32}},
    {"context": CONTEXT | {"country": "cn"}},
    {"k": 2},
    {"defer": True},
    {"user_id": "u"},
    {"user_id": "v"},
    {"candidates": ["a"]},
    {"candidates": ["b"]},
    {"candidates": ["a", "b"]},
    {"candidates": ["a", "b", "d"]},
    {"exclude": ["a"]},
    {"exclude": ["c"]},
    {"candidates": ["a", "b"], "exclude": ["a"]},
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_meaning_is_the_same_request(one: dict[str, Any], other: dict[str, Any]) -> None:
    """The order of keys, 31 and 31.0, sets in another order, a default spelt out: the same fingerprint."""
    assert digest(asked(**one)) == digest(asked(**other))


def test_another_meaning_is_another_request() -> None:
    """Each of these differs from each other in something that counts."""
    assert len({digest(asked(**body)) for body in OTHER}) == len(OTHER)


@QUIETLY
@given(st.permutations(["a", "b", "d"]), st.permutations(["context", "candidates", "k"]), st.integers(0, 3))
def test_the_order_of_anything_does_not_matter(arms: list[str], keys: list[str], rotation: int) -> None:
    """Candidates in any order, keys in any order, the context's too."""
    names = list(CONTEXT)
    context = {name: CONTEXT[name] for name in names[rotation:] + names[:rotation]}
    body = {"context": context, "candidates": arms, "k": 2}
    assert digest(read({key: body[key] for key in keys})) == digest(asked(candidates=["a", "b", "d"], k=2))


def test_a_request_stays_the_same_when_the_experiment_gets_arms_or_another_activation() -> None:
    """A retry after the arms grew from 4 to 20 is still that request, with candidates and exclusions too."""
    arms = [*DOCUMENT["arms"], *(f"new-{i}" for i in range(16))]
    document = parse_document(json.dumps(DOCUMENT | {"arms": arms, "activation": "explicit"}).encode())
    grown = compile_config(revise(EXPERIMENT.config, document, learned=True, reset=False))
    for body in OTHER:
        assert digest(read({"context": CONTEXT} | body, grown)) == digest(asked(**body))
    assert read({"context": CONTEXT}, grown).deferred
    assert not asked().deferred


def test_candidates_and_exclusions_are_sets_of_arms_that_may_be_shown() -> None:
    """Candidates less exclusions; a paused arm may be excluded, but is no candidate."""
    eligible = {
        name: np.flatnonzero(asked(**body).eligible).tolist()
        for name, body in {
            "all": {},
            "some": {"candidates": ["d", "a"]},
            "but": {"exclude": ["a", "c"]},
            "both": {"candidates": ["d", "a"], "exclude": ["a"]},
        }.items()
    }
    assert eligible == {"all": [0, 1, 3], "some": [0, 3], "but": [1, 3], "both": [3]}
