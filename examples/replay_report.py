"""How would a policy that learns have done on your log, and what do you show your colleagues? A replay, then a page.

    python examples/replay_report.py report.html

The log here is of a policy that drew evenly, made of an environment in which every arm's reward is known. Of a server
it is `load(None, "server", experiment="home", data_dir="bandit-data")`.
"""

import sys
from pathlib import Path

import numpy as np

from bandit.sums import ONE
from simulator.environments.named import named
from simulator.logged import Log
from simulator.replaying import replay
from simulator.reporting import report
from simulator.targets import target


def uniform_log(rounds: int = 8000, seed: int = 3) -> Log:
    """What was seen of an environment by a policy that drew evenly."""
    episode = named("logistic", arms=4, features=4).episode(seed, rounds)
    arm = np.random.default_rng(seed).integers(0, 4, rounds)
    reward, each = episode.reward[np.arange(rounds), arm], np.full((rounds, 4), 1 / 4)
    return Log(("a", "b", "c", "d"), arm, reward, each[:, 0], each, context=episode.x / ONE)


def main(path: Path) -> None:
    """Replay LinUCB; then a page about it as a target, with what it would have earned beside what was earned."""
    log = uniform_log()
    lived = replay(log, "linucb:alpha=0.5")
    print(f"the log earned {log.reward.mean():.4f} a decision")
    print(f"replay: {lived.value:.4f} (standard error {lived.standard_error:.4f}) over {lived.matches} matches")
    names = ("linucb:alpha=0.5", "uniform")
    print(f"wrote {report(log, {name: target(log, name) for name in names}, path)}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "report.html"))
