"""The dashboard: pages for people, whose data come by the public API alone, with the viewer's key.

`static/` is all of it, plain modules that a browser loads as they are; `pages` serves them from memory. Imports
`bandit.errors`. Begin with `static/app.js`.
"""
