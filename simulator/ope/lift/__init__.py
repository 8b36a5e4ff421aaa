"""The lift of one slice of the traffic over another: how much more a decision earns there, and the sentence about it.

`sequence` is how wide it is, `contrast` the difference and its variance by user, `past` what is foreseen of a reward,
`shares` whether slices got their users. Imports `simulator.logs` and below. Begin with `lift`.
"""
