"""HTTP: routes, bodies, answers and problems, and the pages that describe them.

`native` has every route; add one there. `hot` answers deciding and feedback, for which `app` and the server's protocol
(`bandit.process.direct`) come straight to it; `batches` are many of these in one. `body` reads a body's bytes (its JSON
is checked in `bandit.serving.requests`), `answers` and `problems` are what is sent. `docs`, `schemas` and `examples`
make the OpenAPI document.

Imports `bandit.serving` and below. Begin with `native`.
"""
