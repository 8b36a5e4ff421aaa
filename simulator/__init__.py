"""Offline replay: what a policy would have earned on logged or fully known data.

Each command of `bandit-simulator` is a function of this package: `from simulator import evaluate, run, ...`. Nothing is
loaded before it is asked for: the server's demo needs no more of this package than NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.conversion import convert
    from simulator.differences import compare
    from simulator.evaluation import evaluate
    from simulator.replaying import replay
    from simulator.reporting import report
    from simulator.runs import run
    from simulator.sample_size import decisions as power
    from simulator.selection import select
    from simulator.sweeps import sweep

__all__ = ["compare", "convert", "evaluate", "power", "replay", "report", "run", "select", "sweep"]
_PLACES = {
    "compare": "differences",
    "convert": "conversion",
    "evaluate": "evaluation",
    "power": "sample_size:decisions",
    "replay": "replaying",
    "report": "reporting",
    "run": "runs",
    "select": "selection",
    "sweep": "sweeps",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _PLACES[name].partition(":")
    return getattr(import_module(f"simulator.{module}"), attribute or name)
