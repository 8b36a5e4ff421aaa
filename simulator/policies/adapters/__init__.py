"""Other libraries as policies, each imported when it is asked for.

Imports what `simulator.policies` does. Begin with `library`, what they have in common.
"""
