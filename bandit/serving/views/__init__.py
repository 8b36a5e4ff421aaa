"""What people look at: series, summaries, estimates, weights, calibration, and what a context would be answered.

Everything here only reads; nothing is logged or learned. Imports `bandit.serving`, `bandit.replica` and below.
Begin with `routes`; `answers` and `model_answers` have what is answered, field by field.
"""
