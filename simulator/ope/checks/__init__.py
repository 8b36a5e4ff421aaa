"""What a log must be for an estimate to mean anything: propensities that fit what was shown, overlap, bounds.

Imports `simulator.logs` and `simulator.ope.estimators`. An interval is refused in `overlap`; begin there.
"""
