"""The headers of pages: they load from here alone, in no frame, and tell nobody where their reader came from.

Every HTML answer that passes `api.app.Front` gets them; a page may have inline scripts and styles, whose hashes then
stand in its policy, so that nothing put into the page by others runs.
"""

from __future__ import annotations

import re
from base64 import b64encode
from functools import lru_cache
from hashlib import sha256

from starlette.types import Message, Send

_INLINE = {
    "script": re.compile(rb"<script(?:\s+type=\"[^\"]*\")?\s*>(.*?)</script>", re.DOTALL),
    "style": re.compile(rb"<style[^>]*>(.*?)</style>", re.DOTALL),
}
NOSNIFF = (b"x-content-type-options", b"nosniff")


@lru_cache(maxsize=64)
def page_headers(html: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """The security headers of a page: a strict policy of its content, with the hashes of what stands in it inline."""
    inline = {kind: "".join(map(_hash, sorted(set(found.findall(html))))) for kind, found in _INLINE.items()}
    policy = (
        f"default-src 'none'; script-src 'self'{inline['script']}; style-src 'self'{inline['style']}; "
        "img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    )
    return (
        (b"content-security-policy", policy.encode()),
        NOSNIFF,
        (b"referrer-policy", b"no-referrer"),
        (b"x-frame-options", b"DENY"),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    )


def _hash(text: bytes) -> str:
    return f" 'sha256-{b64encode(sha256(text).digest()).decode()}'"


def with_page_headers(send: Send) -> Send:
    """`send`, which puts these headers on HTML, and on everything else that its type is to be believed."""
    held: list[Message] = []

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            html = any(name == b"content-type" and value.startswith(b"text/html") for name, value in message["headers"])
            if html:
                held.append(message)  # until its body is known
                return
            if NOSNIFF not in message["headers"]:
                message = {**message, "headers": [*message["headers"], NOSNIFF]}
        elif held:
            start = held.pop()
            own = [pair for pair in page_headers(message.get("body", b"")) if pair[0] not in dict(start["headers"])]
            await send({**start, "headers": [*start["headers"], *own]})
        await send(message)

    return sent
