"""From a request to its answer: `requests` reads it, `batcher` decides it together with others, `service` holds all.

`changes` and `evaluation` are the slow paths; `api/` is HTTP. Imports `bandit.replica` and below. Begin with `service`.
"""
