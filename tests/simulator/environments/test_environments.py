"""Environments: that they are what they say, that seeds repeat them, that tables are read as a server reads them."""

import gzip
from itertools import permutations
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bandit.core.features import Feature, compile_encoder
from bandit.core.sums import ONE
from simulator.environments.datasets import msweb
from simulator.environments.episode import Episode, on_grid, shown
from simulator.environments.full import from_data
from simulator.environments.named import NAMES, SYNTHETIC, named
from simulator.environments.synthetic import OFFSET, Synthetic
from simulator.environments.tables import ratings, read
from simulator.logs.log import Log
from simulator.studies.fitted import fitted, moved

CLASSES = "age,city,member,kind\n30,bern,1,good\n50,oslo,0,bad\n40,bern,0,good\n20,,1,bad\n"


def same(one: Episode, other: Episode) -> bool:
    """Whether every array of two episodes has the same bits."""
    parts = ("x", "mean", "reward", "eligible", "delay", "time_ms", "user", "seen")
    return all(np.array_equal(getattr(one, part), getattr(other, part)) for part in parts)


def logits(mean: np.ndarray) -> np.ndarray:
    """What the logistic link was applied to."""
    return np.log(mean / (1 - mean))


def coefficients(episode: Episode, rows: slice) -> np.ndarray:
    """The linear map from x to the logits in these rounds, by least squares."""
    found = np.linalg.lstsq(episode.x[rows] / ONE, logits(episode.mean[rows]), rcond=None)[0]
    assert isinstance(found, np.ndarray)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_repeats_an_episode_and_another_one_changes_it(name: str) -> None:
    """Bit by bit, from two separately made environments."""
    one, again, other = named(name).episode(3, 400), named(name).episode(3, 400), named(name).episode(4, 400)
    assert same(one, again)
    assert not same(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_every_round_has_arms_to_show_and_an_intercept(name: str) -> None:
    """Features fit the document's own encoder; column 0 is 1; best is at least uniform."""
    environment = named(name)
    episode = environment.episode(0, 300)
    features = msgspec.convert(environment.document["features"], tuple[Feature, ...])
    assert episode.x.dtype == np.int16
    assert episode.x.shape == (300, compile_encoder(features).d)
    assert (episode.x[:, 0] == ONE).all()
    assert (np.broadcast_to(episode.eligible, episode.mean.shape).sum(axis=1) >= episode.positions).all()
    assert (episode.best() >= episode.uniform()).all()


def test_linear_means_are_linear_in_what_a_policy_sees() -> None:
    """Least squares of the means on x leaves nothing, although x was rounded to the grid."""
    episode = named("linear").episode(1, 500)
    X = episode.x / ONE
    residual = episode.mean - X @ np.linalg.lstsq(X, episode.mean, rcond=None)[0]
    assert np.abs(residual).max() < 1e-12


@pytest.mark.parametrize("name", ["linear", "logistic", "drift-slow", "users"])
def test_rewards_have_the_means_that_are_known(name: str) -> None:
    """The mean of reward less mean is within 4 standard errors of 0 for every arm."""
    episode = named(name).episode(2, 20_000)
    gap = episode.reward - episode.mean
    assert (np.abs(gap.mean(axis=0)) < 4 * gap.std(axis=0) / np.sqrt(len(gap))).all()


def test_nothing_drifts_where_no_drift_is_asked_for() -> None:
    """Coefficients are the same early and late."""
    episode = named("logistic").episode(5, 2000)
    np.testing.assert_allclose(
        coefficients(episode, slice(0, 500)), coefficients(episode, slice(1500, None)), atol=1e-9
    )


def test_an_abrupt_drift_changes_the_truth_once_in_the_middle() -> None:
    """Coefficients are constant in either half and unrelated between them; so are the best arms of equal contexts."""
    episode = named("drift-abrupt").episode(5, 2000)
    quarters = [coefficients(episode, slice(at, at + 500)) for at in (0, 500, 1000, 1500)]
    np.testing.assert_allclose(quarters[0], quarters[1], atol=1e-9)
    np.testing.assert_allclose(quarters[2], quarters[3], atol=1e-9)
    X = episode.x / ONE
    assert ((X @ quarters[0]).argmax(axis=1) != (X @ quarters[2]).argmax(axis=1)).mean() > 0.5


def test_a_slow_drift_moves_a_little_at_a_time_and_far_in_all() -> None:
    """Neighbouring hundredths of a run are alike, its ends are not."""
    episode = named("drift-slow").episode(5, 10_000)
    start, next_, end = (coefficients(episode, slice(at, at + 100)) for at in (0, 100, 9900))
    scale = np.abs(start).mean()
    assert np.abs(next_ - start).mean() < 0.05 * scale
    assert np.abs(end - start).mean() > 0.5 * scale


def test_seasons_come_back() -> None:
    """Four cycles: a quarter of the run later the truth is the same, an eighth later it is turned around."""
    episode = named("seasonal").episode(5, 8000)
    start, half, whole = (coefficients(episode, slice(at, at + 20)) for at in (0, 1000, 2000))
    np.testing.assert_allclose(whole, start, atol=0.1)
    np.testing.assert_allclose(half, -start + 2 * OFFSET * (np.arange(11) == 0)[:, None], atol=0.1)


def test_delays_are_geometric_with_the_mean_asked_for() -> None:
    """Mean 300 and, as a geometric distribution has it, e^-1 of them beyond the mean."""
    delay = named("delayed").episode(0, 20_000).delay
    assert delay is not None
    assert delay.min() >= 0
    assert delay.mean() == pytest.approx(300, rel=0.03)
    assert (delay > 300).mean() == pytest.approx(np.exp(-1), abs=0.015)


def test_arms_come_once_leave_once_or_stay() -> None:
    """Of ten arms four stay, three come and three leave, each at one time."""
    eligible = named("arms-change").episode(0, 1000).eligible
    changes = (eligible[1:] != eligible[:-1]).sum(axis=0)
    assert changes.tolist() == [0, 1, 1, 0, 1, 1, 0, 1, 1, 0]
    assert (eligible[0] == [a % 3 != 1 for a in range(10)]).all()
    assert (eligible[-1] == [a % 3 != 2 for a in range(10)]).all()


def test_the_best_and_the_uniform_list_are_those_of_all_lists() -> None:
    """Every ordered list of 3 of 5 arms, enumerated."""
    episode = Synthetic("lists", arms=5, attention=(1.0, 0.6, 0.36)).episode(0, 20)
    lists = np.array(list(permutations(range(5), 3)))
    values = episode.mean[:, lists] @ np.array([1.0, 0.6, 0.36])
    np.testing.assert_allclose(episode.best(), values.max(axis=1))
    np.testing.assert_allclose(episode.uniform(), values.mean(axis=1))


def test_lower_places_are_looked_at_less() -> None:
    """Shares of looks are the attention; a position that was not looked at earns nothing."""
    episode = named("position-bias").episode(0, 20_000)
    assert episode.seen is not None
    np.testing.assert_allclose(episode.seen.mean(axis=0), [1, 0.6, 0.36], atol=0.015)
    rows, arms = np.arange(20_000), np.tile([0, 1, 2], (20_000, 1))
    earned = episode.earned(rows, arms)
    assert (earned[episode.seen == 0] == 0).all()
    assert earned.sum(axis=1).mean() == pytest.approx(episode.expected(arms).mean(), abs=0.02)


def test_users_come_back_with_their_own_tastes() -> None:
    """What the context does not explain of the logits is the same at each visit of a user."""
    episode = named("users").episode(0, 600)
    assert episode.user is not None
    X, user = episode.x / ONE, episode.user
    assert len(np.unique(user)) <= 30
    dummies = (user[:, None] == np.unique(user)).astype(float)
    both, alone = np.column_stack([X, dummies]), logits(episode.mean)
    explained = both @ np.linalg.lstsq(both, alone, rcond=None)[0]
    np.testing.assert_allclose(explained, alone, atol=1e-6)
    assert np.abs(alone - X @ np.linalg.lstsq(X, alone, rcond=None)[0]).mean() > 0.1


def test_traffic_has_days_and_other_visitors_by_night() -> None:
    """Four times as many visits around noon as around midnight, and contexts that differ between them."""
    episode = named("traffic").episode(0, 20_000)
    assert episode.time_ms is not None
    assert (np.diff(episode.time_ms) >= 0).all()
    clock = episode.time_ms / 86_400_000 % 1
    noon, midnight = np.abs(clock - 0.5) < 0.1, np.abs(clock - 0.5) > 0.4
    assert 3 < noon.sum() / midnight.sum() < 4.5
    X = episode.x / ONE
    assert np.abs(X[noon].mean(axis=0) - X[midnight].mean(axis=0)).max() > 0.3


def test_msweb_is_encoded_as_the_server_encodes_it() -> None:
    """Contexts as a caller would send them, through the experiment's own encoder, are the rows of x."""
    data = msweb()
    environment = from_data(data)
    encoder = compile_encoder(msgspec.convert(environment.document["features"], tuple[Feature, ...]))
    rows = [0, 17, 32_710]
    sent = [msgspec.json.decode(msgspec.json.encode(data.contexts(i)), type=encoder.context_type) for i in rows]
    assert (encoder.encode(sent) == environment.x[rows]).all()


def test_a_pass_shows_each_row_once_and_more_rounds_begin_anew() -> None:
    """Rounds beyond the rows go through them again, in another order."""
    environment = from_data(msweb())
    n = len(environment.x)
    one = environment.episode(0)
    assert sorted(map(bytes, one.mean)) == sorted(map(bytes, environment.mean))
    more = environment.episode(0, 2 * n)
    assert (more.x[:n] == one.x).all()
    assert (more.x[n:] != one.x).any()
    assert sorted(map(bytes, more.mean[n:])) == sorted(map(bytes, environment.mean))


def test_a_classification_table_earns_1_where_the_arm_is_the_label(tmp_path: Path) -> None:
    """By hand: features in the columns' order, numbers standardised on the whole table, 0 or 1 a boolean, one-hot."""
    (path := tmp_path / "people.csv").write_text(CLASSES)
    environment = read(path, label="kind")
    assert environment.document["arms"] == ["bad", "good"]
    assert environment.mean.tolist() == [[0, 1], [1, 0], [0, 1], [1, 0]]
    scale = np.std([30, 50, 40, 20])
    assert environment.document["features"] == [
        {"type": "number", "name": "age", "mean": 35.0, "scale": pytest.approx(scale)},
        {"type": "category", "name": "city", "levels": ("", "bern", "oslo"), "other": False},
        {"type": "boolean", "name": "member"},
    ]
    age = np.rint((np.array([30, 50, 40, 20]) - 35) / scale * ONE)
    assert (environment.x[:, 1] == age).all()
    assert (environment.x[:, 2:5] // ONE).tolist() == [[0, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert (environment.x[:, 5] // ONE).tolist() == [1, 0, 0, 1]


def test_a_table_is_encoded_as_the_server_would_encode_its_rows(tmp_path: Path) -> None:
    """The rows sent as contexts to an experiment with the features shown give the same x."""
    (path := tmp_path / "people.csv").write_text(CLASSES)
    environment = read(path, label="kind")
    encoder = compile_encoder(msgspec.convert(environment.document["features"], tuple[Feature, ...]))
    rows = [line.split(",") for line in CLASSES.splitlines()[1:]]
    sent = [{"age": float(age), "city": city, "member": member == "1"} for age, city, member, _ in rows]
    decoded = [msgspec.json.decode(msgspec.json.encode(each), type=encoder.context_type) for each in sent]
    assert (encoder.encode(decoded) == environment.x).all()


def test_features_are_shown(tmp_path: Path) -> None:
    """Each feature with how it becomes a number, the arms and the reward."""
    (path := tmp_path / "people.csv").write_text(CLASSES)
    lines = shown(read(path, label="kind"))
    assert lines[:3] == ["2 arms: bad, good", "reward reward: 0 to 1", "3 features:"]
    assert lines[3].startswith("  age: number, (v -35) / 11.18")
    assert lines[4:6] == ['  city: category: "", bern, oslo', "  member: boolean"]


def test_a_table_may_be_compressed_and_without_header(tmp_path: Path) -> None:
    """The same rows, gzipped, with columns named f0, f1, ..."""
    path = tmp_path / "people.data.gz"
    path.write_bytes(gzip.compress(CLASSES.split("\n", 1)[1].encode()))
    environment = named(str(path), label="f3", header=False)
    assert environment.document["arms"] == ["bad", "good"]
    assert [feature["name"] for feature in environment.document["features"]] == ["f0", "f1", "f2"]


def test_other_outcomes_of_the_arms_are_no_features(tmp_path: Path) -> None:
    """cost_a and cost_b end like reward_a and reward_b: known only after the choice. f1 is a feature all the same."""
    (path := tmp_path / "models.csv").write_text(
        "f1,cost_a,reward_a,cost_b,reward_b,f12\n1.5,3,.7,1,.2,1\n2.5,3,.9,1,.8,2\n"
    )
    environment = read(path)
    assert environment.document["arms"] == ["a", "b"]
    assert environment.mean.tolist() == [[0.7, 0.2], [0.9, 0.8]]
    assert [feature["name"] for feature in environment.document["features"]] == ["f1", "f12"]
    assert environment.notes[0] == "outcomes, no features: cost_a, cost_b"


def test_a_gamble_earns_as_its_rule_says(tmp_path: Path) -> None:
    """skip 0; eat 5, or for the bad ones 5 and -35 about evenly: -15 in the mean."""
    (path := tmp_path / "people.csv").write_text(CLASSES)
    environment = read(path, label="kind", bad="bad")
    assert environment.document["arms"] == ["skip", "eat"]
    assert environment.document["rewards"] == {"reward": {"range": [-35.0, 5.0]}}
    episode = environment.episode(0, 4000)
    bad = episode.mean[:, 1] < 0
    assert (episode.reward[:, 0] == 0).all()
    assert (episode.reward[~bad, 1] == 5).all()
    assert set(episode.reward[bad, 1].tolist()) == {5.0, -35.0}
    assert (episode.reward[bad, 1] == 5).mean() == pytest.approx(0.5, abs=0.05)
    assert set(episode.mean[bad, 1].tolist()) == {-15.0}


def test_ratings_make_popular_items_arms_and_the_next_ones_features(tmp_path: Path) -> None:
    """By hand: item a is rated 3 times, b twice, c and d once; two arms, one feature; 5 is the best rating."""
    (path := tmp_path / "r.csv").write_text("u,i,r\n1,a,5\n1,c,4\n2,a,3\n2,b,5\n3,a,1\n3,b,2\n3,d,5\n")
    environment = ratings(path, user="u", item="i", rating="r", arms=2, features=1)
    assert environment.document["arms"] == ["a", "b"]
    np.testing.assert_allclose(environment.mean, [[1, 0], [0.6, 1], [0.2, 0.4]])
    assert [feature["name"] for feature in environment.document["features"]] == ["c", "how many"]
    assert (environment.x / ONE)[:, 1].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("lineer", {}, "did you mean 'linear'"),
        ("linear", {"arm": 3}, "linear takes arms"),
        ("msweb", {"arms": 3}, "msweb takes no options"),
    ],
)
def test_a_wrong_name_or_option_is_refused_with_the_right_ones(name: str, options: dict[str, int], says: str) -> None:
    """The message says what there is."""
    with pytest.raises(ValueError, match=says):
        named(name, **options)


def test_a_wrong_column_is_refused_with_the_columns_there_are(tmp_path: Path) -> None:
    """The label must be a column; without one there must be rewards."""
    (path := tmp_path / "people.csv").write_text(CLASSES)
    with pytest.raises(ValueError, match=r"age, city, member, kind; missing \['klass'\]"):
        read(path, label="klass")
    with pytest.raises(ValueError, match="begin with 'reward_'"):
        read(path)


def test_options_change_a_made_up_problem() -> None:
    """Arms, features and delays as asked for."""
    environment = named("logistic", arms=3, features=2, delay=5.0)
    episode = environment.episode(0, 50)
    assert episode.mean.shape == (50, 3)
    assert episode.x.shape == (50, 3)
    assert episode.delay is not None
    assert set(SYNTHETIC) < set(NAMES)


def shop(n: int = 4000, money: bool = True) -> tuple[Log, np.ndarray]:
    """(a log of three arms, of which the last is rarely eligible; predictions): orders up to 100, or clicks."""
    rng = np.random.default_rng(1)
    eligible = np.column_stack([np.ones((n, 2), bool), rng.random(n) < 0.2])
    P = eligible / eligible.sum(axis=1, keepdims=True)
    arm = (rng.random((n, 1)) > P.cumsum(axis=1)).sum(axis=1)
    bought = rng.random(n) < 0.2
    reward = bought * (rng.uniform(10, 100, n) if money else 1.0)
    context = np.column_stack([np.ones(n), rng.normal(size=n)])
    log = Log(
        ("a", "b", "c"), arm, reward, P[np.arange(n), arm], P, context,
        reward_range=(0.0, 100.0) if money else (0.0, 1.0),
    )  # fmt: skip
    return log, rng.uniform(-0.1, 0.6, (n, 3)) * (100 if money else 1)


def test_an_environment_fitted_to_a_log_has_its_rows_in_their_order() -> None:
    """Contexts, arms and eligibility are the log's; further rounds begin anew; a seed repeats it, another does not."""
    log, q = shop(500)
    environment = fitted(log, q, (0.0, 100.0))
    episode = environment.episode(3, 700)
    assert environment.document["arms"] == ["a", "b", "c"]
    assert (episode.x[:500] == on_grid(np.asarray(log.context))).all()
    assert (episode.x[500:] == episode.x[:200]).all()
    assert log.probability is not None
    assert (episode.eligible[:500] == (log.probability > 0)).all()
    assert same(episode, environment.episode(3, 700))
    assert not same(episode, environment.episode(4, 700))


@pytest.mark.parametrize("money", [False, True])
def test_rewards_of_a_fitted_environment_are_possible_and_have_the_models_mean(money: bool) -> None:
    """In each tenth of the predictions of each arm the mean reward is that of q, within 4 standard errors."""
    log, q = shop(20_000, money)
    span = (0.0, 100.0) if money else (0.0, 1.0)
    episode = fitted(log, q, span).episode(0)
    assert (episode.mean == np.clip(q, *span)).all()
    assert episode.reward.min() >= span[0]
    assert episode.reward.max() <= span[1]
    assert money or set(np.unique(episode.reward)) == {0.0, 1.0}
    for mean, reward in zip(episode.mean.T, episode.reward.T, strict=True):
        for rows in np.array_split(np.argsort(mean), 10):
            gap = (reward - mean)[rows]
            assert abs(gap.mean()) <= 4 * gap.std() / np.sqrt(len(rows)) + 1e-9


def test_rewards_of_a_fitted_environment_vary_as_those_of_their_arm() -> None:
    """By hand: of 0 and 30 seen evenly, mean 15: at q 5 they are 0 and 10; at q 50, in 0 to 100, 100 - 50 / 85 * r."""
    seen, span = np.array([0.0, 30.0]), (0.0, 100.0)
    low, high = (set(moved(seen, np.full(50, q), span, np.random.default_rng(0)).tolist()) for q in (5.0, 50.0))
    assert sorted(low) == pytest.approx([0, 10])
    assert sorted(high) == pytest.approx([100 - 100 * 50 / 85, 100 - 70 * 50 / 85])
    assert moved(np.zeros(0), np.array([7.0]), span, np.random.default_rng(0)).tolist() == [7.0]
    assert moved(np.zeros(3), np.array([7.0]), span, np.random.default_rng(0)) == pytest.approx(7.0)
    assert moved(np.full(3, 100.0), np.array([7.0]), span, np.random.default_rng(0)) == pytest.approx(7.0)


def test_a_log_without_rows_makes_no_environment() -> None:
    """Nothing is fitted to nothing."""
    log, q = shop(10)
    with pytest.raises(ValueError, match="no rows"):
        fitted(log.take(slice(0)), q[:0], (0.0, 1.0))
