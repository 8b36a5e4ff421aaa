"""Collaborative filtering as target policies: a user gets what users with similar rewards liked, without any context.

    M  (users, K)  sum of the positive rewards of each user from each arm, in the rows that are learned from

    als     factors of M by alternating least squares: user factors times arm factors       Hu, Koren, Volinsky (2008)
    cosine  M S, S the cosine of each two arms' columns, 0 for an arm with itself           Sarwar et al. (2001)

Users without any reward there get the arms in the order of their mean reward. The policies do not learn any more, so
their value is what any estimator says, on rows that they have not seen: best on later rows of the same log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from bandit.arrays import Matrix, Vector
from simulator.logs.log import Log, eligible_of
from simulator.policies.adapters.library import library
from simulator.policies.protocol import greedy

HOW = "pip install 'bandit-server[peers]'"


def probabilities(train: Log, rows: Log, model: str, *, explore: float = 0.0, **options: Any) -> Matrix:
    """The target policy of a model, for `rows`, shape (n, K).

    Args:
        train: what to learn from; has users.
        rows: where to recommend; has users.
        model: `als` or `cosine`.
        explore: the share that is spread evenly over the eligible arms.
        options: of als: factors, regularization, alpha, iterations, seed.

    Raises:
        ValueError: no such model, or a log has no users.
        MissingLibraryError: `implicit` (als) or scikit-learn (cosine) is not installed.
    """
    if model not in MODELS:
        raise ValueError(f"models are {', '.join(MODELS)}; got {model!r}")
    if train.user is None or rows.user is None:
        raise ValueError("collaborative filtering needs to know the user of each row")
    users, at = np.unique(train.user, return_inverse=True)
    M = np.zeros((len(users), train.K))
    np.add.at(M, (at, train.arm), np.maximum(train.reward, 0))
    place = np.minimum(np.searchsorted(users, rows.user), len(users) - 1)
    known = (users[place] == rows.user) & (M[place].sum(axis=1) > 0)
    scores = np.where(known[:, None], MODELS[model](M, **options)[place], popular(train))
    return greedy(scores, eligible_of(rows, slice(None)), explore)


def popular(log: Log) -> Vector:
    """(K,): each arm's mean reward, with one row of the mean of all."""
    seen = np.bincount(log.arm, minlength=log.K)
    earned = np.bincount(log.arm, log.reward, log.K)
    mean: Vector = (earned + log.reward.mean()) / (seen + 1)
    return mean


def als(
    M: Matrix,
    *,
    factors: int = 16,
    regularization: float = 0.05,
    alpha: float = 10.0,
    iterations: int = 15,
    seed: int = 0,
) -> Matrix:
    """Scores of each user and arm, shape (users, K), by `implicit`; confidence in a reward is 1 + alpha M."""
    module, sparse = library("implicit.als", HOW), library("scipy.sparse", HOW)
    with threadpool_limits(1, "blas"):  # what implicit asks for
        model = module.AlternatingLeastSquares(
            factors=factors, regularization=regularization, alpha=alpha, iterations=iterations, random_state=seed,
            num_threads=1, use_gpu=False,
        )  # fmt: skip
        model.fit(sparse.csr_matrix(M.astype(np.float32)), show_progress=False)
        scores: Matrix = model.user_factors @ model.item_factors.T
    return scores


def cosine(M: Matrix) -> Matrix:
    """Scores of each user and arm, shape (users, K), by scikit-learn's cosine similarity of the arms' columns."""
    pairwise = library("sklearn.metrics.pairwise", HOW)
    S = pairwise.cosine_similarity(M.T)
    np.fill_diagonal(S, 0)
    scores: Matrix = M @ S
    return scores


MODELS: dict[str, Callable[..., Matrix]] = {"als": als, "cosine": cosine}
