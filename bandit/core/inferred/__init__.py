"""An experiment from a sample of data: what its columns are, and the document that they make. Every guess says why.

Imports the rest of `bandit.core`, `bandit.errors` and NumPy; no file is read here. Begin with `proposal`; `table` reads
CSV, `columns` says what values a column has, `roles` what it is for, `declared` and `rewards` what the document says.
"""
