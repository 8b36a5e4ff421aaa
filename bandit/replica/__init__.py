"""An experiment's log folded into this process's memory, and what keeps the log short: checkpoints and trimming.

`follower` is the thread that does it for all experiments, `replica` is one of them. Readers of the log for people
(`export`, `verify`, `recent`) are here too. Imports `bandit.store` and below. Begin with `replica`.
"""
