"""Adapters: probabilities are probabilities, each library learns what can be learned, and a missing one says so."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest

from bandit.arrays import Matrix
from simulator.environments.synthetic import Synthetic
from simulator.logs.log import Log
from simulator.policies.adapters.collaborative import cosine, probabilities
from simulator.policies.adapters.library import MissingLibraryError
from simulator.policies.adapters.vw import arguments
from simulator.policies.protocol import Learner, Outcomes, Task, decide
from simulator.policies.specs import build, parse
from simulator.studies.play import ends, play
from simulator.studies.run import learner_of

EASY = Synthetic("easy", arms=3, features=3, link="linear")
VW = [
    "epsilon=0.05", "first=100", "bag=4", "cover=3", "squarecb", "regcb", "regcbopt", "softmax,lambda=20", "synthcover",
    "rnd=2",
]  # fmt: skip
PEERS = ["mabwiser", "contextualbandits", "river", "bayesianbandits:samples=50"]


def learner(spec: str, arms: int = 3) -> Learner:
    """A learner for an easy problem; the test is skipped where its library is missing."""
    problem = Synthetic("easy", arms=arms, features=3, link="linear")
    try:
        return build(parse(spec), Task(problem.document, 4, 1))
    except MissingLibraryError as error:
        pytest.skip(str(error))


def earned(spec: str, n: int) -> float:
    """Where a policy stands over the second half of n rounds: 0 as uniform, 1 as the best."""
    learner(spec)
    episode = EASY.episode(1, n)
    made = learner_of(parse(spec), EASY, episode, 1)
    played = play(made, episode, ends(episode, 20), np.random.default_rng(0).random(n))
    half = slice(n // 2, None)
    value, best, uniform = (
        part[half].mean() for part in (episode.expected(played.arms), episode.best(), episode.uniform())
    )
    return float((value - uniform) / (best - uniform))


@pytest.mark.parametrize("spec", [*(f"vw:{rule}" for rule in VW), *PEERS])
def test_probabilities_sum_to_1_and_leave_out_what_is_not_eligible(spec: str) -> None:
    """Before and after learning, with the third of four arms not eligible in every second row."""
    made = learner(spec, arms=4)
    rng = np.random.default_rng(0)
    x = np.column_stack([np.full(30, 4096), rng.integers(-4096, 4096, (30, 3))]).astype(np.int16)
    eligible = np.ones((30, 4), bool)
    eligible[::2, 2] = False
    for _ in range(2):
        drawn = decide(made, x, eligible, rng.random(30))
        np.testing.assert_allclose(drawn.probability.sum(axis=1), 1, atol=1e-6)
        assert (drawn.probability >= 0).all()
        assert (drawn.probability[~eligible] == 0).all()
        made.learn(Outcomes(x, drawn.arm, rng.random(30), drawn.propensity, eligible), told=False)
        made.refresh()


@pytest.mark.parametrize("spec", ["vw:epsilon=0.05", "vw:first=100", "vw:bag=4", "vw:squarecb", "vw:softmax,lambda=20"])
def test_vw_learns_a_linear_problem(spec: str) -> None:
    """Of what can be won over uniform, at least 60 % in the second half of 1,000 rounds."""
    assert earned(spec, 1000) > 0.6


@pytest.mark.parametrize("spec", PEERS)
def test_peers_learn_a_linear_problem(spec: str) -> None:
    """Of what can be won over uniform, at least 60 % in the second half of 600 rounds."""
    assert earned(spec, 600) > 0.6


def test_mabwiser_ranks_as_plain_linucb_does() -> None:
    """Its best arm in each context is that of x'theta + alpha sqrt(x' G x), computed here from the sums."""
    made = learner("mabwiser:alpha=0.7")
    rng = np.random.default_rng(3)
    x = np.column_stack([np.full(200, 4096), rng.integers(-4096, 4096, (200, 3))]).astype(np.int16)
    arm, reward = rng.integers(0, 3, 200), rng.random(200)
    made.learn(Outcomes(x, arm, reward, np.full(200, 1 / 3), np.ones((1, 3), bool)), told=False)
    X = x / 4096
    scores = np.zeros((200, 3))
    for a in range(3):
        G = np.linalg.inv(X[arm == a].T @ X[arm == a] + np.eye(4))
        scores[:, a] = X @ G @ X[arm == a].T @ reward[arm == a] + 0.7 * np.sqrt(np.einsum("ij,jk,ik->i", X, G, X))
    assert (made.probabilities(x, np.ones((1, 3), bool)).argmax(axis=1) == scores.argmax(axis=1)).all()


def test_vws_rules_are_options_of_its_command_line() -> None:
    """One letter has one dash, a flag no value; no rule is epsilon-greedy; rules that need bounds are told them."""
    base = "--cb_explore_adf --quiet -q xa --ignore_linear x --noconstant --random_seed 7"
    assert arguments({}, 7) == f"{base} --epsilon 0.05"
    assert arguments({"bag": 5, "l": 0.1}, 7) == f"{base} --bag 5 -l 0.1"
    with pytest.raises(ValueError, match="vw: bag takes a whole number; got 'x'"):
        arguments({"bag": "x"}, 7)
    assert arguments({"squarecb": True}, 7) == f"{base} --cb_min_cost -1 --cb_max_cost 0 --squarecb"


@pytest.mark.parametrize(
    ("spec", "module", "says"),
    [
        ("vw", "vowpalwabbit", r"bandit-server\[simulator\]"),
        ("mabwiser", "mabwiser.mab", r"bandit-server\[peers\]"),
        ("river", "river.linear_model", r"bandit-server\[peers\]"),
        ("bayesianbandits", "bayesianbandits", r"bandit-server\[peers\]"),
        ("contextualbandits", "contextualbandits.online", "C compiler"),
        ("obp", "obp.policy", "numpy < 2"),
    ],
)
def test_a_missing_library_is_named_with_how_to_get_it(
    spec: str, module: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Importing fails here whether or not it is installed."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingLibraryError, match=f"{module} is needed.*{says}"):
        build(parse(spec), Task(EASY.document, 4))


def tastes(n: int = 6000) -> tuple[Log, np.ndarray]:
    """(a uniform log of 100 users, of whom half like the even arms and half the odd ones; who likes what)."""
    rng = np.random.default_rng(0)
    user, arm = rng.integers(0, 100, n), rng.integers(0, 6, n)
    reward = (rng.random(n) < np.where(arm % 2 == user % 2, 0.6, 0.05)).astype(float)
    log = Log(tuple("abcdef"), arm, reward, np.full(n, 1 / 6), user=user.astype(str))
    return log, (user % 2)[:, None] == np.arange(6) % 2


@pytest.mark.parametrize(("model", "needs"), [("als", "implicit"), ("cosine", "sklearn")])
def test_collaborative_filtering_finds_what_users_like(model: str, needs: str) -> None:
    """From the first half of the log, at least 9 of 10 recommendations in the second half are to the user's taste."""
    if find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed")
    log, likes = tastes()
    P = probabilities(log.take(slice(0, 3000)), log.take(slice(3000, None)), model)
    np.testing.assert_allclose(P.sum(axis=1), 1)
    assert (P * likes[3000:]).sum(axis=1).mean() > 0.9


def test_item_cosine_by_hand() -> None:
    """Users (1,1,0), (1,0,0), (0,1,1): cos(a,b) = 1/2, cos(b,c) = 1/sqrt 2, cos(a,c) = 0, and none with itself."""
    scores = cosine(np.array([[1.0, 1, 0], [1, 0, 0], [0, 1, 1]]))
    near = 1 / np.sqrt(2)
    np.testing.assert_allclose(scores, [[0.5, 0.5, near], [0, 0.5, 0], [0.5, near, near]], atol=1e-12)


def test_new_users_get_what_is_popular() -> None:
    """A user without any reward so far: the arm with the highest mean, and the rest of `explore` evenly."""
    log = Log(("a", "b"), np.array([0, 1, 1]), np.array([0.0, 1, 1]), np.full(3, 0.5), user=np.array(["u", "v", "v"]))
    rows = Log(("a", "b"), np.array([0]), np.array([0.0]), np.full(1, 0.5), user=np.array(["w"]))
    found: Matrix = probabilities(log, rows, "cosine", explore=0.2)
    np.testing.assert_allclose(found, [[0.1, 0.9]])


def test_collaborative_filtering_refuses_a_log_without_users() -> None:
    """It says what is missing; a model's name likewise."""
    log = Log(("a", "b"), np.array([0]), np.array([0.0]), np.full(1, 0.5))
    with pytest.raises(ValueError, match="user of each row"):
        probabilities(log, log, "cosine")
    with pytest.raises(ValueError, match="als, cosine; got 'svd'"):
        probabilities(log, log, "svd")
