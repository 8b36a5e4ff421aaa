"""The commands of `bandit-simulator`."""
