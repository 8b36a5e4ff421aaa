"""An experiment's log folded into this process's memory, and what keeps the log short: checkpoints and trimming.

`follower` is the thread that does it for all experiments, `watcher` wakes it, `replica` is one experiment's state.
`checkpoint` elects who writes checkpoints and writes them; `folded` says what they mean. What reads a log for other
purposes (`export`, `verify`, `recent`) is here too. Imports `bandit.store` and below. Begin with `replica`.
"""
