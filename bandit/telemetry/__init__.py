"""What a server tells of itself in numbers: which there are, how a process counts them, and how they are shown.

Imports `bandit.base` only, so that every other room can count. Begin with `table`, which declares every metric; then
`counters`, and `exposition`, which sums over processes and renders.
"""
