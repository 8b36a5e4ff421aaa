"""How sums are read: every arm's estimate, how uncertain it is, and which arms are best in a context.

Imports `bandit.arrays`, `bandit.core.sums` and NumPy. Begin with `linear`, which states all of it plainly and is the
oracle of the rest: `scoring` keeps what is quick, `estimates` asks it of a context, `evidence` chooses lambda.
"""
