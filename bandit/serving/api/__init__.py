"""HTTP: routes (`native`: add one there), bodies, answers and problems, and the pages that describe them.

`hot` answers deciding and feedback, to which `app` and the server's protocol come directly; `batches` are many in one.
`body` reads bytes, `answers` and `problems` are what is sent; `docs`, `schemas` and `examples` make the OpenAPI
document. Imports `bandit.serving` and below. Begin with `native`.
"""
