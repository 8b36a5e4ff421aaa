"""What came, feature by feature, against what was sent."""

from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import UNSET
from trial import Trial

from bandit.log.records import Entry
from bandit.replica import survey as module
from bandit.replica.survey import FeatureSeen, survey
from bandit.store.memory_store import MemoryStore

FEATURES: list[dict[str, Any]] = [
    {"name": "basket", "type": "number", "mean": 50, "scale": 10, "missing": "indicator"},
    {"name": "price", "type": "number", "min": 0, "max": 10, "missing": 0},
    {"name": "hour", "type": "number", "cycle": 24},
    {"name": "device", "type": "category", "levels": ["phone", "desktop"]},
    {"name": "member", "type": "boolean"},
    {"name": "taste", "type": "vector", "length": 2},
    {"name": "visits", "type": "number", "transform": {"type": "bins", "edges": [1, 5]}, "missing": "indicator"},
    {"name": "stay", "type": "number", "transform": {"type": "rank", "edges": [0, 10, 60]}},
    {"name": "curve", "type": "fourier", "of": ["basket", "stay"], "size": 3, "scale": 1},
]
PLAIN = {
    "basket": 60,
    "price": 5,
    "hour": 3,
    "device": "phone",
    "member": True,
    "taste": [0.6, 0.8],
    "visits": 3,
    "stay": 20,
}


@pytest.fixture
def trial() -> Trial:
    """An experiment with these features."""
    return Trial(MemoryStore(), "survey", features=FEATURES)


def decided(trial: Trial, *contexts: dict[str, Any]) -> None:
    """A decision for each context."""
    encoder = trial.experiment.encoder
    for x in encoder.encode([msgspec.convert(context, encoder.context_type) for context in contexts]).tolist():
        trial.decide(x=tuple(x))


def seen(trial: Trial, **how: int) -> dict[str, FeatureSeen]:
    """What came of each feature."""
    found = survey(trial.store, trial.experiment, trial.store.end(trial.name), **how)
    return {each.name: each for each in found.features}


def test_by_hand(trial: Trial) -> None:
    """Three decisions: two baskets of 60 and 80 and none, one price that is far out, one device that is not listed."""
    without = {name: value for name, value in PLAIN.items() if name not in ("basket", "price")}
    decided(
        trial,
        PLAIN,
        {**PLAIN, "basket": 80, "price": 99, "device": "watch"},
        {**without, "taste": [8, 0], "visits": None, "stay": 99},
    )
    found = seen(trial)
    basket, price, device, member = (found[name] for name in ("basket", "price", "device", "member"))
    assert (basket.decisions, basket.missing, basket.mean, basket.clipped) == (3, 1, 70, 0)
    assert (basket.declared_mean, basket.declared_scale) == (50, 10)
    assert basket.spread == pytest.approx(10, abs=1e-3)
    assert (price.missing, price.clipped, price.declared_mean, price.declared_scale) == (1, 1, 5, 5)
    assert (device.missing, device.other, device.mean) == (0, 1, UNSET)
    assert (member.mean, member.other, found["hour"].mean) == (1, UNSET, UNSET)
    assert [each.name for each in found.values()] == [*PLAIN]  # what is made of others has no value of its own
    assert (found["visits"].missing, found["visits"].clipped, found["visits"].mean) == (1, UNSET, UNSET)
    assert (found["stay"].missing, found["stay"].clipped, found["stay"].mean) == (0, 1, UNSET)
    assert (found["taste"].clipped, found["taste"].spread) == (1, pytest.approx((1 + 1 + 8) / 3, abs=1e-3))


def test_a_feature_is_counted_from_when_it_came(trial: Trial) -> None:
    """Earlier decisions say nothing of it; those of a generation before count for nothing."""
    decided(trial, PLAIN, PLAIN)
    device = {**FEATURES[3], "levels": ["watch", "phone", "desktop"]}
    trial.change(features=[*FEATURES[:3], device, *FEATURES[4:], {"name": "shop", "type": "category", "levels": ["a"]}])
    decided(trial, {**PLAIN, "shop": "b"})
    found = seen(trial)
    assert [(found[name].decisions, found[name].other) for name in ("device", "shop")] == [(3, 0), (1, 1)]
    trial.change(reset=True)
    assert seen(trial)["device"].decisions == 0


def test_the_newest_so_many_are_looked_at(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """And of a log in which there are few, so many entries."""
    decided(trial, *[PLAIN] * 5, *[{**PLAIN, "device": "watch"}] * 3)
    assert [(seen(trial, rows=n)["device"].decisions, seen(trial, rows=n)["device"].other) for n in (2, 5, 99)] == [
        (2, 2), (5, 3), (8, 3),
    ]  # fmt: skip
    monkeypatch.setattr(module, "READ", 2)
    assert seen(trial, rows=99)["device"].decisions == 8
    monkeypatch.setattr(module, "ENTRIES", 3)
    assert seen(trial, rows=99)["device"].decisions == 4
    assert isinstance(trial.log()[0], Entry)


@pytest.mark.parametrize(
    ("name", "values", "text"),
    [
        ("basket", [60, 40], None),
        ("basket", [500, 520], "many are clipped"),
        ("basket", [70, 75], "mean 72.5 and scale 2.5 would fit"),
        ("basket", [90, 10], "mean 50 and scale 40 would fit"),
        ("basket", [None, None, 50], "mostly missing"),
        ("device", ["phone", "watch"], "none of the levels"),
        ("taste", [[7, 0]], "its norm should be about 1"),
        ("hour", [3], None),
        ("visits", [0, 3, None], None),
        ("visits", [3, None], "nearly all are in one bin"),
        ("visits", [None, None, 3], "mostly missing"),
        ("stay", [5, 12], None),
        ("stay", [5, 12, 5, 12, 80], "many are beyond the edges"),
    ],
)
def test_a_suggestion_says_what_would_fit(trial: Trial, name: str, values: list[Any], text: str | None) -> None:
    """After a hundred decisions; before, nothing is said."""
    contexts = [{**PLAIN, name: values[i % len(values)]} for i in range(102)]
    decided(trial, *contexts[:99])
    assert seen(trial)[name].suggestion is UNSET
    decided(trial, *contexts[99:])
    told = seen(trial)[name].suggestion
    assert (told is UNSET) if text is None else text in str(told)
    assert np.isfinite(seen(trial)["basket"].mean)  # type: ignore[arg-type]
