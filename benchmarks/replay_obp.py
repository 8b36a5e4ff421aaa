"""obp's own replay of its LinUCB on a log in a .npz file: seconds of the processor. For an interpreter that has obp.

obp needs numpy < 2, so `benchmarks/replay.py --obp PYTHON` runs this file in an environment of its own, made by

    python -m venv obp
    obp/bin/pip install obp 'numpy<2' 'scikit-learn<1.5'
"""

import sys
import time

import numpy as np
from obp.ope import ReplayMethod
from obp.policy import LinUCB
from obp.simulator import run_bandit_simulation

log = dict(np.load(sys.argv[1]))
n, K = len(log["arm"]), int(log["arms"])
feedback = {
    "n_rounds": n, "n_actions": K, "context": log["context"], "action": log["arm"], "reward": log["reward"],
    "pscore": np.full(n, 1 / K), "position": np.zeros(n, int),
}  # fmt: skip
policy = LinUCB(dim=log["context"].shape[1], n_actions=K, len_list=1, batch_size=int(log["refresh"]))
start = time.process_time()
chosen = run_bandit_simulation(bandit_feedback=feedback, policy=policy)
ReplayMethod().estimate_policy_value(
    reward=feedback["reward"], action=feedback["action"], action_dist=chosen, position=feedback["position"]
)
print(time.process_time() - start)
