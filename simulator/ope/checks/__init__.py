"""What a log must be for an estimate to mean anything: propensities that fit what was shown, overlap, bounds.

`overlap` decides whether there is an interval, or refuses; `limits` refuses numbers that cannot be computed with;
`reasons` guesses what a refused log's propensities are. Imports `simulator.logs` and `simulator.ope.estimators`. Begin
with `overlap`.
"""
