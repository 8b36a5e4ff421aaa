"""Other libraries as policies, each imported when it is asked for.

Begin with `library`, what they have in common.
"""
