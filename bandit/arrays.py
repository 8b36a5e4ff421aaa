"""Names for the NumPy arrays that most functions take and give."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]
Vector = NDArray[np.floating[Any]]  # one dimension
Matrix = NDArray[np.floating[Any]]  # two dimensions or more
Mask = NDArray[np.bool_]
