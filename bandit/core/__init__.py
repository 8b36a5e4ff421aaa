"""What a decision is: features, sums, scores, policies, draws, and the experiment that says which of them.

Arithmetic only: no clock, no chance, no store. Imports `bandit.errors` and NumPy. Begin with `engine`, then `sums` and
`scoring`; `linear` is the plain definition that both are tested against.
"""
