"""Packed triangles: of symmetric matrices, p = d (d + 1) / 2 numbers, as in `estimates`."""

from __future__ import annotations

import numpy as np

from bandit.arrays import Matrix
from bandit.core.sums import triangle


def packed_products(X: Matrix) -> Matrix:
    """x_i x_j of each row of X (N, d) for i <= j, shape (N, p)."""
    i, j = triangle(X.shape[1])
    if len(X) == 1:
        row = X[0]
        one: Matrix = row.take(i)
        one *= row.take(j)
        return one[None]
    columns = np.ascontiguousarray(X.T)  # so that whole columns are copied
    result: Matrix = columns.take(i, axis=0)
    result *= columns.take(j, axis=0)
    return result.T


def product(phi: Matrix, P: Matrix) -> Matrix:
    """phi P'. Not by `@`, which asks the processor whether a value was invalid: a kernel of the BLAS may look past the
    end of a small matrix and say so, of no value that is in the result.
    """
    result: Matrix = phi.dot(P.T)
    return result
