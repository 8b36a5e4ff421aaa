"""The server's own log: decisions joined with their feedback, from an export and from the store itself."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from trial import CLICK, FULL, SALE, Trial

from bandit.commands.log_commands import opened_store
from bandit.core.sums import ONE
from bandit.core.times import time_of
from bandit.replica.export import export
from bandit.settings import Settings
from bandit.store.memory_store import MemoryStore
from bandit.store.protocol import Store
from bandit.store.redis_store import RedisStore
from simulator.logs.contexts import LogError
from simulator.logs.convert import convert
from simulator.logs.loaders import REORDERED, load, open_table
from simulator.logs.loaders.server import REPEATED, UNSURE, YOUNG
from simulator.logs.log import Log
from simulator.logs.table import rows_of
from simulator.ope.evaluate import evaluate
from simulator.policies.targets import target

REWARDS: dict[str, Any] = {"click": {"weight": 2}, "sale": {"range": [-50, 50], "unit": 1, "default": 3, "weight": 0.1}}


@pytest.fixture
def trial(name: str) -> Trial:
    """An experiment of two kinds of reward: 2 click + 0.1 sale, where a sale is 3 until another is reported."""
    return Trial(MemoryStore(), name, rewards=REWARDS)


@pytest.fixture
def exported(tmp_path: Path) -> Callable[[Trial], Path]:
    """The file that `bandit-server export` writes of a trial."""

    def write(trial: Trial) -> Path:
        path = tmp_path / "export.jsonl"
        path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in export(trial.store, trial.name)))
        return path

    return write


Exported = Callable[[Trial], Path]


def done(log: Log) -> dict[str, int]:
    """What was done to a log, but that it is too young to tell how long rewards take."""
    return {what: count for what, count in log.cleaning.items() if what != UNSURE}


def test_a_reward_is_the_weighted_sum_of_what_was_credited(trial: Trial, exported: Exported) -> None:
    """By hand: nothing 0.3; a click 2.3; two sales 0.1 x (10 + 5); a click and a sale of -20 make 0."""
    refs = [trial.decide(arm, x=(ONE, 100 * arm)) for arm in (0, 1, 2, 3)]
    trial.feed(refs[1], FULL, CLICK)
    trial.feed(refs[2], 10, SALE, "first")
    trial.feed(refs[2], 5, SALE, "second")
    trial.feed(refs[3], FULL, CLICK)
    trial.feed(refs[3], -20, SALE)
    log = load(exported(trial), "server")
    assert log.reward.tolist() == pytest.approx([0.3, 2.3, 1.5, 0.0])
    assert [log.arms[arm] for arm in log.arm] == ["a", "b", "c", "d"]
    assert log.learning
    assert done(log) == {}


def test_propensities_probabilities_and_contexts_are_those_of_the_log(trial: Trial, exported: Exported) -> None:
    """1 / 4 each, and x as the server had it, to the last bit."""
    for value in (100, -3, 32767):
        trial.decide(1, x=(ONE, value))
    log = load(exported(trial), "server")
    assert log.propensity.tolist() == [0.25] * 3
    assert log.probability is not None
    assert log.probability.tolist() == [[0.25] * 4] * 3
    assert log.context is not None
    assert (log.context * ONE).tolist() == [[ONE, 100], [ONE, -3], [ONE, 32767]]
    assert log.columns == ("1", "age")


def test_a_deferred_decision_counts_once_it_is_activated(name: str, exported: Exported) -> None:
    """With what was credited before; one that never was activated is no impression, whatever was reported of it."""
    trial = Trial(MemoryStore(), name, rewards=REWARDS, activation="explicit")
    trial.decide(0, caller="at-once")
    later, never = trial.decide(1, caller="later", deferred=True), trial.decide(2, caller="never", deferred=True)
    trial.feed(later, FULL, CLICK)
    trial.feed(never, FULL, CLICK)
    trial.activate(later)
    log = load(exported(trial), "server")
    assert log.decision_id is not None
    assert log.decision_id.tolist() == ["at-once", "later"]
    assert log.reward.tolist() == pytest.approx([0.3, 2.3])
    assert done(log) == {"deferred and never activated": 1}


def test_feedback_activates_a_deferred_decision(trial: Trial, exported: Exported) -> None:
    """Where the experiment does not ask for explicit activations."""
    ref = trial.decide(1, deferred=True)
    trial.decide(2, deferred=True)
    trial.feed(ref, FULL, CLICK)
    log = load(exported(trial), "server")
    assert (log.arm.tolist(), log.reward.tolist()) == ([1], pytest.approx([2.3]))
    assert done(log) == {"deferred and never activated": 1}


def test_a_list_is_a_row_a_place_with_the_reward_of_its_arm(trial: Trial, exported: Exported) -> None:
    """Feedback names the arm. Lower positions have only their marginal, so no matrix; the first alone have it."""
    ref = trial.decide(2, 0, 3)
    trial.feed(ref, FULL, CLICK, arm=0)
    path = exported(trial)
    log = load(path, "server")
    assert log.position is not None
    assert [(log.arms[arm], position) for arm, position in zip(log.arm, log.position, strict=True)] == [
        ("c", 0),
        ("a", 1),
        ("d", 2),
    ]
    assert log.reward.tolist() == pytest.approx([0.3, 2.3, 0.3])
    assert log.probability is None
    first = load(path, "server", places="first")
    assert first.reward.tolist() == pytest.approx([0.3])
    assert first.probability is not None
    assert done(first) == {"rows left out: lower positions of lists": 2}
    (batch,) = open_table(path, "server").batches
    assert [[each.arm for each in row.shown] for row in rows_of(batch)] == [["c"], ["c", "a"], ["c", "a", "d"]]


def test_weights_are_those_in_force_or_those_given(trial: Trial, exported: Exported) -> None:
    """A change of weights holds for the whole log; given ones replace all; an unknown kind is refused by name."""
    trial.feed(trial.decide(0), FULL, CLICK)
    trial.change(rewards=REWARDS | {"click": {"weight": 7}})
    path = exported(trial)
    assert load(path, "server").reward.tolist() == pytest.approx([7.3])
    assert load(path, "server", weights={"sale": 1.0}).reward.tolist() == [3.0]
    with pytest.raises(LogError, match=r"expected kinds of \['click', 'sale'\], got 'clik'; did you mean 'click'"):
        load(path, "server", weights={"clik": 1.0})


def test_a_kind_added_later_has_no_default_in_older_decisions(trial: Trial, exported: Exported) -> None:
    """A decision starts with the defaults of the document it was made by."""
    trial.decide(0)
    trial.change(rewards=REWARDS | {"visit": {"default": 1, "weight": 100}})
    trial.decide(0)
    assert load(exported(trial), "server").reward.tolist() == pytest.approx([0.3, 100.3])


def test_what_was_decided_before_a_reset_is_left_out(trial: Trial, exported: Exported) -> None:
    """Its features are others; it is counted."""
    trial.decide(0)
    trial.change(reset=True, features=[{"name": "height", "type": "number", "mean": 0, "scale": 2}])
    trial.decide(1)
    log = load(exported(trial), "server")
    assert (len(log), log.columns) == (1, ("1", "height"))
    assert done(log) == {"rows left out: decided before the experiment was reset": 1}


def test_feedback_without_its_decision_is_counted(trial: Trial, exported: Exported) -> None:
    """As after a trim: the decision's line is gone, its feedback is still there."""
    ref = trial.decide(0)
    trial.decide(1)
    trial.feed(ref, FULL, CLICK)
    path = exported(trial)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:1] + lines[2:]))
    log = load(path, "server")
    assert log.reward.tolist() == pytest.approx([0.3])
    assert done(log) == {"feedback left out: of decisions that are not in the log": 1}


def test_a_log_whose_document_was_trimmed_needs_weights(trial: Trial, exported: Exported) -> None:
    """Without the experiment's line, features are learned from the rows and nobody guesses what a reward is."""
    trial.feed(trial.decide(0, x=(ONE, 0)), FULL, CLICK)
    trial.decide(1, x=(ONE, 2 * ONE))
    path = exported(trial)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.raises(LogError, match="expected a row of type 'experiment' or weights=, got neither"):
        load(path, "server")
    log = load(path, "server", weights={"click": 1.0})
    assert log.reward.tolist() == [1.0, 0.0]
    assert log.context is not None
    assert log.context.tolist() == [[1, -1], [1, 1]]


def test_every_type_of_feature_is_the_x_that_the_server_had(name: str, exported: Exported) -> None:
    """x was written by hand: an age of 12 on [0, 16], a member, from neither country; then the opposite."""
    features = [
        {"name": "age", "type": "number", "min": 0, "max": 16},
        {"name": "member", "type": "boolean"},
        {"name": "country", "type": "category", "levels": ["cn", "us"], "other": True},
    ]
    trial = Trial(MemoryStore(), name, features=features)
    x = [(ONE, ONE // 2, ONE, 0, 0, ONE), (ONE, -ONE // 4, 0, 0, ONE, 0)]
    for each in x:
        trial.decide(0, x=each)
    log = load(exported(trial), "server")
    assert log.context is not None
    assert (log.context * ONE).tolist() == [list(each) for each in x]
    assert log.columns == ("1", "age", "member", "country=cn", "country=us", "country=*")


def test_users_slices_and_models_are_kept(trial: Trial, exported: Exported) -> None:
    """The user's hash, and of an anonymous decision its own id."""
    trial.decide(0, user="anna", caller="d1")
    trial.decide(0, caller="d2")
    path = exported(trial)
    log = load(path, "server")
    assert log.user is not None
    assert log.user.tolist() == ["anna".rjust(16, "-").encode().hex(), "d2"]
    (batch,) = open_table(path, "server").batches
    assert [row.model for row in rows_of(batch)] == ["1/0-0", "1/0-0"]


def test_a_line_that_is_no_export_is_refused(tmp_path: Path) -> None:
    """File, line, and what was there."""
    path = tmp_path / "log.jsonl"
    path.write_text(
        '{"type": "experiment", "document": null, "position": "1-0"}\n{"type": "vote", "position": "2-0"}\n'
    )
    with pytest.raises(LogError, match=r"log.jsonl, line 2: expected a type of .*, got 'vote'"):
        load(path, "server")


def stored(store: Store, name: str) -> None:
    """Two decisions and a click in a store."""
    trial = Trial(store, name)
    trial.feed(trial.decide(1), FULL, CLICK)
    trial.decide(2)


@pytest.fixture
def url(valkey: str, name: str) -> Iterator[str]:
    """A real store that has an experiment of the test's name."""
    store = RedisStore(valkey)
    stored(store, name)
    yield valkey
    store.close()


def test_a_log_is_read_from_a_running_store(url: str, name: str) -> None:
    """By its address, without a file between."""
    log = load(None, "server", redis_url=url, experiment=name)
    assert (log.reward.tolist(), log.arm.tolist()) == ([1.0, 0.0], [1, 2])
    with pytest.raises(LogError, match="or --experiment NAME"):
        load(None, "server", redis_url=url)


def test_a_log_is_read_from_a_stopped_servers_directory(tmp_path: Path) -> None:
    """A store is started for as long as it takes."""
    directory = tmp_path / "data"
    directory.mkdir()
    with opened_store(Settings(data_dir=directory)) as store:
        stored(store, "home")
    log = load(None, "server", data_dir=directory, experiment="home")
    assert (log.reward.tolist(), log.arm.tolist()) == ([1.0, 0.0], [1, 2])


DAY = 86_400_000


def late_rewards(days: int, seed: int, window: str = "4d") -> list[dict[str, Any]]:
    """Rows of an export: 200 decisions a day, clicked with .5 after an exponential delay of two days on average."""
    rng, begin = np.random.default_rng(seed), 1_790_000_000_000
    document = {"arms": ["a", "b"], "rewards": {"click": {}}, "features": [], "reward_window": window}
    rows: list[tuple[int, dict[str, Any]]] = [
        (begin, {"type": "experiment", "version": 1, "generation": 1, "document": document, "deleted": False})
    ]
    for i, ms in enumerate(np.sort(rng.integers(begin, begin + days * DAY, 200 * days)).tolist()):
        arm = "ab"[int(rng.integers(2))]
        half = [{"arm": name, "probability": 0.5} for name in "ab"]
        rows.append((ms, {
            "type": "decision", "decision_id": f"d{i}", "arms": [{"arm": arm, "propensity": 0.5, "marginal": 0.5}],
            "eligible": half, "user": None, "slice": None, "deferred": False, "experiment_version": 1, "context": {},
            "model_position": "0-0",
        }))  # fmt: skip
        came = ms + round(rng.exponential(2 * DAY))
        if rng.random() < 0.5 and came < min(begin + days * DAY, ms + 4 * DAY):
            row = {"type": "feedback", "decision_id": f"d{i}", "arm": arm, "event": "click", "credited": 1.0}
            rows.append((came, {**row, "decided": time_of(ms)}))
            for name, credited in (("r", -1.0), ("a", 1.0)) if i % 9 == 0 else ():  # taken back late, and made good
                back = {"credited": credited, "event_id": name, "refund_of": "e"}
                rows.append((begin + (days + 1) * DAY, {**row, "decided": time_of(ms), **back}))
    ordered = sorted(enumerate(rows), key=lambda each: (each[1][0], each[0]))
    return [{**row, "time": time_of(ms), "position": f"{ms}-{k}"} for k, (_, (ms, row)) in enumerate(ordered)]


def test_rewards_that_may_still_come_do_not_count_as_none(tmp_path: Path) -> None:
    """Of 14 days with delays of two days on average: the mean of what had four days to come, not a tenth less."""
    truth, found, all_ = 0.5 * (1 - math.exp(-2)), [], []
    path = tmp_path / "late.jsonl"
    for seed in range(5):
        path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in late_rewards(14, seed)))
        mature, whole = load(path, "server"), load(path, "server", min_age="0s")
        (young,) = [what for what in mature.cleaning if what.startswith(YOUNG)]
        assert mature.cleaning[young] == len(whole) - len(mature)
        assert 3.5 < float(young.split()[-2]) / 86_400 <= 4
        found.append(mature.reward.mean())
        all_.append(whole.reward.mean())
    error = math.sqrt(truth * (1 - truth) / (5 * 2000))
    assert np.mean(found) == pytest.approx(truth, abs=4 * error)
    assert np.mean(all_) < truth - 4 * error


def test_a_log_younger_than_its_reward_window_counts_all_and_says_so(tmp_path: Path) -> None:
    """Nothing tells how long rewards take."""
    path = tmp_path / "young.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in late_rewards(3, 0)))
    log = load(path, "server")
    assert len(log) == 600
    assert log.cleaning[UNSURE] == 600
    with pytest.raises(LogError, match='min_age: expected a duration such as "12h" or "2d", got \'soon\''):
        load(path, "server", min_age="soon")


def test_retired_arms_are_there_once(trial: Trial, exported: Exported) -> None:
    """Offers that change with each version of the document: every arm once, and values of a retired one."""
    for version in range(4):
        trial.change(arms=["always", f"offer-{version}"])
        for arm in ("always", f"offer-{version}"):
            index = trial.config.index.index(arm)
            trial.feed(trial.decide(index), FULL, CLICK)
    log = load(exported(trial), "server")
    assert log.arms[:2] == ("always", "offer-3")
    assert len(set(log.arms)) == len(log.arms) == log.probability.shape[1]
    assert {log.arms[arm] for arm in log.arm} == {"always", "offer-0", "offer-1", "offer-2", "offer-3"}
    (row,) = evaluate(log, target(log, "fixed:offer-1"), estimators=["ips"], looks="any")
    assert row.low <= row.value <= row.high


def test_a_list_among_single_decisions_leaves_the_others_their_probabilities(trial: Trial, exported: Exported) -> None:
    """Few lists count by their first position, which is counted; a log of lists has a row for each position."""
    for _ in range(4):
        trial.decide(0)
    trial.send(trial.decision(0, 1))
    log = load(exported(trial), "server")
    assert len(log) == 5
    assert log.probability is not None
    assert done(log)["rows left out: lower positions of lists"] == 1
    assert len(load(exported(trial), "server", places="each")) == 6


def two_days(tmp_path: Path) -> tuple[list[bytes], Log]:
    """The lines of an export, and what they are as they were exported."""
    path = tmp_path / "e.jsonl"
    lines = [msgspec.json.encode(row) + b"\n" for row in late_rewards(2, 0)]
    path.write_bytes(b"".join(lines))
    return lines, load(path, "server")


@pytest.mark.parametrize("way", ["twice", "whole twice", "overlapping", "later ones first", "each line"])
def test_an_entry_counts_once_however_often_it_is_in_the_file(tmp_path: Path, way: str) -> None:
    """Rewards were twice what they are, and left out were -686: exports of one log that overlap are one log."""
    lines, once = two_days(tmp_path)
    n = len(lines)
    joined, repeated = {
        "twice": (lines + lines[1:], n - 1),
        "whole twice": (lines * 2, n),
        "overlapping": (lines[: n // 2] + lines[n // 4 :], n // 2 - n // 4),
        "later ones first": (lines[:1] + lines[n // 2 :] + lines[: n // 2 + 9], 10),
        "each line": ([line for line in lines for _ in range(3)], 2 * n),
    }[way]
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"".join(joined))
    log = load(path, "server")
    told = dict(log.cleaning)
    assert (told.pop(REPEATED), bool(told.pop(REORDERED, 0))) == (repeated, way == "later ones first")
    assert (len(log), log.reward.sum(), told) == (len(once), once.reward.sum(), once.cleaning)
    assert all(count > 0 for count in told.values())
    done = convert(path, "server", "jsonl", tmp_path / "out.jsonl")
    assert (done.rows, done.cleaning[REPEATED]) == (len(once), repeated)
    assert load(tmp_path / "out.jsonl", "table").reward.sum() == once.reward.sum()


def test_a_log_without_its_document_counts_entries_once_too(tmp_path: Path) -> None:
    """Its features are learned from rows that are there once."""
    lines, _ = two_days(tmp_path)
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"".join(lines[1:] * 2))
    log = load(path, "server", weights={"click": 1.0})
    assert (len(log), log.cleaning[REPEATED]) == (400, len(lines) - 1)


def test_an_export_in_reverse_order_is_told(tmp_path: Path) -> None:
    """It was 'none of 0'."""
    lines, _ = two_days(tmp_path)
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"".join(reversed(lines)))
    with pytest.raises(LogError, match=rf"log.jsonl, line {len(lines)}: expected the experiment's row first"):
        load(path, "server")


def test_an_entry_without_its_place_in_the_log_is_refused(tmp_path: Path) -> None:
    """With its line; one of a far future is none the worse."""
    path = tmp_path / "log.jsonl"
    for position in ("null", '"soon"', '""', "5"):
        path.write_text(f'{{"type": "activation", "decision_id": "x", "position": {position}}}\n')
        with pytest.raises(LogError, match=r"log.jsonl, line 1: expected a position such as .*, got"):
            load(path, "server", weights={})
    lines, once = two_days(tmp_path)
    far = b'{"type": "activation", "decision_id": "x", "position": "99999999999999999999-7"}\n'
    path.write_bytes(b"".join([*lines, far, far]))
    log = load(path, "server", min_age="0s")
    assert (len(log), log.cleaning[REPEATED]) == (len(once), 1)


SPECIAL: list[dict[str, Any]] = [
    {"name": "age", "type": "number", "mean": 40, "scale": 12},
    {"name": "hour", "type": "number", "cycle": 24},
    {"name": "basket", "type": "number", "min": 0, "max": 500, "log": True, "missing": "indicator"},
    {"name": "land", "type": "category", "levels": ["de", "fr"]},
    {"name": "city", "type": "hashed", "bits": 2, "missing": "indicator"},
    {"name": "taste", "type": "vector", "length": 2, "missing": [0, 1]},
    {"name": "new", "type": "boolean"},
    {"name": "both", "type": "interaction", "of": ["age", "land"]},
    {"name": "visits", "type": "number", "transform": {"type": "bins", "edges": [1, 5.5]}, "missing": "indicator"},
    {"name": "price", "type": "number", "transform": {"type": "rank", "edges": [0, 10, 100]}, "missing": 10},
    {"name": "curve", "type": "fourier", "of": ["age", "price"], "size": 3, "scale": 2},
]


def test_special_features_are_the_columns_that_the_server_had(name: str, exported: Exported) -> None:
    """To the last bit, in the order of the document; what came later is 0 before."""
    trial = Trial(MemoryStore(), name, features=SPECIAL[:2], rewards=REWARDS)
    contexts: list[dict[str, Any]] = [
        {"age": 31, "hour": 5.5},
        {
            "age": 31,
            "hour": 5.5,
            "basket": 12,
            "land": "us",
            "city": "Lyon",
            "taste": [0.25, 0.5],
            "new": True,
            "visits": 3,
            "price": 7.25,
        },
        {"age": 52, "hour": 23, "basket": None, "land": "fr", "city": None, "taste": None, "new": False},
    ]

    def decided(context: dict[str, Any]) -> Any:
        encoder = trial.experiment.encoder
        (x,) = encoder.encode([msgspec.convert(context, encoder.context_type)])
        trial.decide(1, x=tuple(x.tolist()))
        return x

    before = decided(contexts[0])
    trial.change(features=SPECIAL)
    x = np.zeros((3, trial.experiment.shape[2]))
    x[0, :4], x[1:] = before, [decided(context) for context in contexts[1:]]
    layout = trial.experiment.layout
    order = [0, *(place for feature in trial.experiment.document.features for place in layout.at(feature))]
    x[0, layout.at(trial.experiment.document.features[3])[2]] = ONE  # as of any category that is missing
    log = load(exported(trial), "server")
    assert log.context is not None
    assert (log.context * ONE).tolist() == x[:, order].tolist()
    assert len(order) == x.shape[1] - 1  # but for the shift that came with what came later
    assert log.columns[1:4] == ("age", "hour sine", "hour cosine")
    assert log.columns[-8:] == (
        "visits <1", "visits 1 to 5.5", "visits >=5.5", "visits missing", "price", "curve 0", "curve 1", "curve 2",
    )  # fmt: skip
