"""Policies that decide: the server's engine, baselines, other libraries (`adapters/`), by name (`specs`), as targets.

Imports `simulator.environments`, `simulator.logs` and `simulator.ope`. Begin with `protocol`.
"""
