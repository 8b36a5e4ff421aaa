"""What `bandit-server` does beside `serve`: reading logs, looking at an installation, sizing, and the demo.

Imports everything below; nothing imports it but `bandit.__main__`, when a command is run. Begin with `log_commands`.
"""
