"""What a decision is: features, sums, scores, policies, draws, and the experiment that says which of them.

Arithmetic only: no clock, no chance, no store. Imports `bandit.errors` and NumPy. Begin with `engine`, then `sums`,
`scoring` (what is kept ready for decisions) and `estimates` (scores, and the bound of their rounding errors); `linear`
is the plain definition that these are tested against. `experiment` is the document, `revision` how it may change.
"""
