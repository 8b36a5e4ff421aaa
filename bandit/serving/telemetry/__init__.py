"""What the serving room counts and shows: decisions and feedback, requests, gauges, and GET /metrics.

Imports `bandit.base`, `bandit.telemetry`, `bandit.replica` and `bandit.serving`.
Begin with `tally`, which is what a batcher counts; then `requests` and `gauges`.
"""
