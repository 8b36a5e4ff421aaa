"""How would a policy that learns have done on your log, and what do you show your colleagues? A replay, then a page.

    python examples/replay_report.py report.html

The log here is of a policy that drew evenly, made of an environment in which every arm's reward is known. Of a server
it is `load(None, "server", experiment="home", data_dir="bandit-data")`.
"""

import sys
from pathlib import Path

import numpy as np

from bandit.core.sums import ONE
from simulator.environments.named import named
from simulator.logs.log import Log
from simulator.policies.targets import frozen
from simulator.reporting import report
from simulator.studies.lived import judge
from simulator.studies.replay import replay


def uniform_log(rounds: int = 8000, seed: int = 3) -> Log:
    """What was seen of an environment by a policy that drew evenly."""
    episode = named("logistic", arms=3, features=4).episode(seed, rounds)
    arm = np.random.default_rng(seed).integers(0, 3, rounds)
    reward, each = episode.reward[np.arange(rounds), arm], np.full((rounds, 3), 1 / 3)
    return Log(("a", "b", "c"), arm, reward, each[:, 0], each, context=episode.x / ONE)


def main(path: Path) -> None:
    """Replay LinUCB, and say how far that can be believed; then a page about it as a target."""
    log = uniform_log()
    lived = replay(log, "linucb:alpha=0.5")
    print(f"the log earned {log.reward.mean():.4f} a decision")
    row = judge(log, lived)
    limits = "no limits" if row.low is None or row.high is None else f"{row.low:.4f} to {row.high:.4f}"
    print(f"replay: {row.value:.4f} ({limits}, {row.verdict}) over {lived.matches} matches: {row.note}")
    half, names = len(log) // 2, ("linucb:alpha=0.5", "uniform")
    rest, pis = log.take(slice(half, None)), {name: frozen(log, name, half) for name in names}
    print(f"wrote {report(rest, pis, path)}, of policies as learned from the first half")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "report.html"))
