"""The commands of `bandit-simulator`: options, and one function a command.

Imports everything, each command what it needs when it is run. Begin with `log_commands` and `play_commands`.
"""
