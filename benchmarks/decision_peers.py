"""The other libraries that `decisions.py` plays: each with its default first, and a small grid of other settings.

MABWiser's LinUCB, contextualbandits' LinUCB and river's are ridge regressions of each arm whose width does not know how
noisy rewards are, so `alpha` is what has to be found; Vowpal Wabbit's `-l` is its learning rate (.5), `gamma_scale` how
greedy squarecb is (10), `mellowness` how wide regcbopt's intervals are (.1). Where it has no default of its own, the
number is that of its examples: bags of 5, covers of 3, epsilon .05.
"""

from __future__ import annotations

from simulator.environments.episode import Environment, Episode
from simulator.policies.adapters.library import library
from simulator.policies.adapters.peers import MABWiser
from simulator.policies.protocol import Learner, Task
from simulator.policies.specs import parse
from simulator.studies.run import INSIDE, learner_of

LINTS = "lints:"  # our own adapter has none: MABWiser tells no probabilities of it
FAMILIES = {
    "squarecb": ("vw:squarecb=true", "vw:squarecb=true,gamma_scale=100", "vw:squarecb=true,l=0.1"),
    "regcbopt": ("vw:regcbopt=true", "vw:regcbopt=true,mellowness=0.01", "vw:regcbopt=true,l=0.1"),
    "cover": ("vw:cover=3", "vw:cover=8", "vw:cover=3,l=0.1"),
    "bag": ("vw:bag=5", "vw:bag=10", "vw:bag=5,l=0.1"),
    "epsilon": ("vw:epsilon=0.05", "vw:epsilon=0.02", "vw:epsilon=0.05,l=0.1"),
    "mabwiser-linucb": tuple(f"mabwiser:alpha={alpha}" for alpha in (1, 0.3, 0.1, 0.03)),
    "mabwiser-lints": ("lints:1", "lints:0.3", "lints:0.1"),
    "contextualbandits": tuple(f"contextualbandits:alpha={alpha}" for alpha in (1, 0.3, 0.1, 0.03)),
    "river": ("river:beta=1", "river:beta=0.3"),
    "bayesianbandits": ("bayesianbandits:lam=1", "bayesianbandits:lam=0.1"),
}
MODULES = {
    **dict.fromkeys(("squarecb", "regcbopt", "cover", "bag", "epsilon"), "vowpalwabbit"),
    **dict.fromkeys(("mabwiser-linucb", "mabwiser-lints"), "mabwiser"),
    **{name: name for name in ("contextualbandits", "river", "bayesianbandits")},
}


class LinTS(MABWiser):
    """MABWiser's Thompson sampling in ridge regressions: one draw of it decides, and what is best there is shown."""

    def __init__(self, alpha: float, task: Task) -> None:
        super().__init__({}, task)
        mab = library("mabwiser.mab", "pip install mabwiser")
        self.model = mab.MAB(list(range(task.K)), mab.LearningPolicy.LinTS(alpha), seed=task.seed)


def learner(policy: str, environment: Environment, episode: Episode, seed: int) -> Learner:
    """A learner that has seen nothing."""
    if not policy.startswith(LINTS):
        return learner_of(parse(policy), environment, episode, seed)
    return LinTS(float(policy.removeprefix(LINTS)), Task(environment.document, episode.x.shape[1], seed + INSIDE))
