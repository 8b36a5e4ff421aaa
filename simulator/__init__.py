"""Offline replay: what a policy would have earned on logged or fully known data.

Each command of `bandit-simulator` is a function of this package: `from simulator import evaluate, run, ...`. Nothing is
loaded before it is asked for: the server's demo needs no more of this package than NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.logs.convert import convert
    from simulator.ope.differences import compare
    from simulator.ope.evaluate import evaluate
    from simulator.reporting import report
    from simulator.studies.features import played as features
    from simulator.studies.power import decisions as power
    from simulator.studies.replay import replay
    from simulator.studies.run import run
    from simulator.studies.select import select
    from simulator.studies.sweep import sweep

__all__ = ["compare", "convert", "evaluate", "features", "power", "replay", "report", "run", "select", "sweep"]
_PLACES = {
    "compare": "ope.differences",
    "convert": "logs.convert",
    "evaluate": "ope.evaluate",
    "features": "studies.features:played",
    "power": "studies.power:decisions",
    "replay": "studies.replay",
    "report": "reporting",
    "run": "studies.run",
    "select": "studies.select",
    "sweep": "studies.sweep",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _PLACES[name].partition(":")
    return getattr(import_module(f"simulator.{module}"), attribute or name)
