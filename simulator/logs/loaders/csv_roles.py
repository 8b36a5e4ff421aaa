"""What the columns of a CSV file are: the roles that are said by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from bandit.errors import nearest
from simulator.logs.contexts import LogError


@dataclass(frozen=True)
class Roles:
    """What the columns are.

    Attributes:
        arm: column of the arm shown.
        reward: column of the reward, or several, which are added up by their weights.
        propensity: column of its propensity, or one number for all rows.
        context: columns of the context, in order; None for all that have no other role.
        position: column of the position in a list.
        time: column of the time: ISO 8601, or seconds, milliseconds, microseconds or nanoseconds since 1970.
        user: column of the user.
        decision_id: column of the decision's id.
        weight: column of 1 / the share of such rows that was kept.
        first_position: what the first position is called.
        weights: of several rewards; 1 each where there is none.
        delimiter: what separates columns; None: found out.
        decimal: of numbers, `.` or `,`; None: found out.
        known: the columns that a policy of the log's kind is told before it decides; None: all may be.
        day_first: whether dates such as 3.4.2026 have the day first; None: they are refused.
    """

    arm: str
    reward: str | Sequence[str]
    propensity: str | float
    context: Sequence[str] | None = None
    position: str | None = None
    time: str | None = None
    user: str | None = None
    decision_id: str | None = None
    weight: str | None = None
    first_position: int = 0
    weights: Mapping[str, float] | None = None
    delimiter: str | None = None
    decimal: str | None = None
    day_first: bool | None = None
    known: Sequence[str] | None = None

    @property
    def rewards(self) -> tuple[str, ...]:
        """The columns of the reward."""
        return (self.reward,) if isinstance(self.reward, str) else tuple(self.reward)

    def check(self) -> None:
        """Whether the roles go together.

        Raises:
            LogError: a column has two of them, there is no reward, or a weight is of none or no number.
        """
        others = [self.position, self.time, self.weight, self.decision_id or self.user]
        columns = [each for each in (self.arm, *self.rewards, self.propensity, *others) if isinstance(each, str)]
        if twice := [name for name, count in Counter(columns).items() if count > 1]:
            raise LogError(f"expected a column for each role, got {twice[0]!r} for two")
        if not self.rewards:
            raise LogError("reward: expected one column or several, got none")
        for kind, weight in (self.weights or {}).items():
            if kind not in self.rewards or not np.isfinite(weight):
                what = f"a number for each of {list(self.rewards)}"
                near = "" if kind in self.rewards else nearest(kind, self.rewards)
                raise LogError(f"weights: expected {what}, got {kind}={weight:g}{near}")

    def types(self) -> dict[str, pa.DataType]:
        """The columns with a role, and the types that they must have."""
        number, name = pa.float64(), pa.string()
        pairs = [(self.arm, name), (self.position, pa.int64()), (self.weight, number)]
        pairs += [(column, number) for column in self.rewards]
        pairs += [(self.user, name), (self.decision_id, name), (self.time, name)]
        pairs += [(self.propensity, number)] if isinstance(self.propensity, str) else []
        return {column: kind for column, kind in pairs if column is not None}
