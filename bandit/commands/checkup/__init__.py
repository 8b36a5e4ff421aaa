"""What `doctor` looks at: `installed` (packages, speed), `machine` (limits, disk, port), `stored` (the store).

Imports `bandit.store`, `bandit.process`, NumPy and the standard library. Each check yields findings and changes
nothing. Begin with `finding`.
"""
