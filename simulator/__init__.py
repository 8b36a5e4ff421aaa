"""Offline replay: what a policy would have earned on logged or fully known data.

`simulator.run` and `simulator.evaluate` are functions; what else there is has a module of its name, such as
`from simulator.replay import replay`. Nothing is loaded before it is asked for: the server's demo needs no more of
this package than NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.evaluation import evaluate
    from simulator.runs import run

__all__ = ["evaluate", "run"]


def __getattr__(name: str) -> Any:
    if name == "evaluate":
        from simulator.evaluation import evaluate

        return evaluate
    if name == "run":
        from simulator.runs import run

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
