"""CORS beside Starlette's, addresses behind proxies, and the first key on a terminal."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from bandit.access.keys import TEXT, new_text
from bandit.access.manage import Keyring, begin
from bandit.serving.access.cors import Cors
from bandit.serving.access.gate import NO_KEY, ODD, credential_in
from bandit.serving.access.headers import page_headers
from bandit.serving.access.hosts import is_ours
from bandit.serving.access.routes import address_of
from bandit.settings import Settings
from bandit.store.memory_store import MemoryStore

SHOP = "https://shop.example"


@pytest.mark.parametrize("origins", [(SHOP, "https://www.shop.example"), ("*",)])
@pytest.mark.parametrize("origin", [None, SHOP, "https://evil.example", "null", ""])
def test_the_lines_of_the_short_way_are_those_of_the_middleware(origins: tuple[str, ...], origin: str | None) -> None:
    """Whatever origin asks: name by name what Starlette puts on an answer of its own."""
    sent: list[Any] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def collect(message: Any) -> None:
        sent.append(message)

    cors = Cors(origins)
    headers = [] if origin is None else [(b"origin", origin.encode())]
    asyncio.run(
        cors.around(app)({"type": "http", "method": "POST", "headers": headers}, None, collect)  # type: ignore[arg-type]
    )
    theirs = {name.lower(): value for name, value in sent[0]["headers"]}
    lines = cors.lines(None if origin is None else origin.encode()).decode().splitlines()
    ours = {name.encode(): value.encode() for name, value in (line.split(": ", 1) for line in lines)}
    assert ours == theirs


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("9.9.9.9", "1.1.1.1", "9.9.9.9"),  # a stranger is not believed
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "8.8.8.8", "8.8.8.8"),
        ("10.0.0.1", "6.6.6.6, 8.8.8.8, 10.0.0.2", "8.8.8.8"),  # what was sent before is anybody's word
        ("10.0.0.1", "8.8.8.8, nonsense", "10.0.0.1"),
        ("::1", "2001:db8::1", "2001:db8::1"),
        ("", "8.8.8.8", ""),  # a unix socket has no address
    ],
)
def test_an_address_is_the_last_that_is_no_proxy_of_ours(peer: str, forwarded: str, found: str) -> None:
    """By hand, from right to left."""
    scope = {"client": (peer, 1), "headers": [(b"x-forwarded-for", forwarded.encode())] if forwarded else []}
    assert address_of(scope, Settings(trusted_proxies="10.0.0.0/8, ::1").proxies) == found


@pytest.mark.parametrize(
    "given",
    [
        {"cors_origins": "shop.example"}, {"cors_origins": "https://shop.example/path"}, {"trusted_proxies": "proxy"},
        {"trusted_proxies": "10.0.0.1/8"}, {"auth": "maybe"}, {"audit_entries": 1},
    ],
)  # fmt: skip
def test_settings_that_would_not_do_what_they_say_are_refused(given: dict[str, Any]) -> None:
    """An origin with a path never matches; a network with bits beyond its mask is mistyped."""
    with pytest.raises(ValueError, match=next(iter(given))):
        Settings(**given)


@pytest.mark.parametrize(
    ("host", "auth", "on"),
    [("127.0.0.1", "auto", False), ("localhost", "auto", False), ("::1", "auto", False), ("10.0.0.1", "auto", True),
     ("0.0.0.0", "auto", True), ("::", "auto", True), ("shop", "auto", True), ("127.0.0.1", "on", True),  # noqa: S104
     ("10.0.0.1", "off", False)],
)  # fmt: skip
def test_keys_are_asked_for_beyond_loopback(host: str, auth: Any, on: bool) -> None:
    """Unless somebody says otherwise."""
    assert Settings(host=host, auth=auth).auth_on == on


def test_the_first_key_is_shown_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """Once, on standard error; then there is no file, and no line of a log has it."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    store = MemoryStore()
    for _ in range(2):
        begin(store, [], tmp_path / "first", 100)
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert TEXT.search(line.encode())
    assert said.out == ""
    assert not list(tmp_path.iterdir())
    assert not TEXT.search(caplog.text.encode())
    assert len(Keyring(store).rows()) == 1


def test_a_credential_is_one_or_none() -> None:
    """What is odd is no key, and is told apart from none."""
    key = new_text().encode()
    bearer, header = (b"authorization", b"Bearer " + key), (b"x-api-key", key)
    assert credential_in([]) == NO_KEY
    assert credential_in([bearer]) == credential_in([header]) == credential_in([bearer, header]) == key
    for odd in (
        [bearer, (b"x-api-key", b"other")],
        [(b"authorization", key)],
        [(b"x-api-key", b"")],
        [bearer, (b"authorization", b"Basic x")],
    ):
        assert credential_in(odd) == ODD


@pytest.mark.parametrize(
    ("host", "ours"),
    [(b"127.0.0.1:8080", True), (b"[::1]:8080", True), (b"localhost", True), (b"LOCALHOST:1", True), (b"shop:80", True),
     (b"a.localhost", True), (b"host.docker.internal:8080", True), (b"10.1.2.3", True), (b"", True),
     (b"evil.example", False), (b"evil.example:8080", False), (b"127.0.0.1.evil.example", False), (b"evil.com.", False),
     (b"localhost.evil.com", False), (b"evillocalhost.com:1", False), (b"\xff.com", False)],
)  # fmt: skip
def test_a_host_of_ours_is_one_that_no_other_site_can_have(host: bytes, ours: bool) -> None:
    """Whatever a page could be served from by somebody else is not."""
    assert is_ours(host) == ours


def test_inline_scripts_run_by_their_hash_alone() -> None:
    """The hash of CSP 3's own example, and none for a script that is loaded."""
    html = b"<script>alert('Hello, world.');</script><script src='x.js'></script>"
    policy = dict(page_headers(html))[b"content-security-policy"].decode()
    assert "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='" in policy
    assert policy.count("sha256-") == 1
    assert "unsafe" not in policy
