"""Where policies are played: contexts, and what each arm would have earned there.

Imports `simulator.logs` and below. Begin with `episode`; `named` is what `--environment` takes.
"""
