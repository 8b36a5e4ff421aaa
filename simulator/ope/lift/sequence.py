"""How many standard errors a difference needs that is looked at again and again: an asymptotic confidence sequence.

    n     decisions so far, the sequence's clock      rho^2 = (-2 ln a + ln(-2 ln a) + 1) / n*,   n* = `TUNED`
    b(n)  sqrt(2 (n rho^2 + 1) / (n rho^2) ln(sqrt(n rho^2 + 1) / a))           half-width = b(n) x standard error

With a = .05, b is 3.04 at n*, 3.23 at a quarter of it and 3.14 at four times as much; one look alone takes 1.96. It is
asymptotic: it holds from a number of users on, which `lift` states. The clock is decisions and not users, because those
who come again move the difference when no new user comes; a clock only has to run as fast as the noise is renewed.

Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas (2024), "Time-uniform central limit theory and asymptotic confidence
sequences", Annals of Statistics 52(6), theorem 2.2 and its equation for rho.
"""

from __future__ import annotations

import math
from statistics import NormalDist

TUNED = 40_000  # decisions at which a sequence is narrowest
POWER = 0.8  # with which a lift as large as the one seen would be clear
FAR = 100.0  # times the decisions so far, beyond which no number is said


def multiplier(n: float, alpha: float = 0.05, tuned: float = TUNED) -> float:
    """b(n): standard errors in half a confidence sequence after n decisions."""
    rho = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha)) + 1) / tuned
    v = n * rho
    return math.sqrt(2 * (v + 1) / v * math.log(math.sqrt(v + 1) / alpha))


def more(n: int, value: float, error: float, alpha: float = 0.05) -> int | None:
    """About how many decisions more until a lift of this size is clear with probability `POWER`; None: not foreseeable.

    n' with (b(n') + z) x error sqrt(n / n') = |value|,   z the normal quantile of `POWER`
    """
    if not value or not n:
        return None
    z, wanted, needed = NormalDist().inv_cdf(POWER), abs(value) / error, float(n)
    for _ in range(50):
        needed = n * ((multiplier(needed, alpha) + z) / wanted) ** 2
        if needed > FAR * n:
            return None
    return max(0, math.ceil(needed) - n)
