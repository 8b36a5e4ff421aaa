"""Off-policy evaluation: what a target would have earned on a log, and how sure that is.

`estimators` are formulas on arrays; `problem` and `terms` lay them out, `evaluate` answers; `checks/` says what a log
cannot answer. Imports `simulator.logs` and below. Begin with `evaluate`.
"""
