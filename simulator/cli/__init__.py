"""The commands of `bandit-simulator`: options, and one function a command.

Imports `simulator.ope`, `simulator.logs` and below, and each command what else it needs when it is run. Begin with
`log_commands` and `play_commands`.
"""
