"""Without keys a page of another site, whose name was made to mean this machine, is not served."""

from collections.abc import Iterator

import pytest
from live import DOCUMENT, Live, ok, problem, serving, until, valkey

from bandit.access.keys import new_text
from bandit.errors import Code

HOME = "/v1/experiments/home"
EVIL = {"host": "evil.example:8080"}
SHORT, LONG = "application/json", "application/json; charset=utf-8"


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """An address of a store with the experiment `home`."""
    with valkey() as url, serving(url) as live:
        ok(live.client.put(HOME, json=DOCUMENT), 201)
        yield url


def decided(live: Live, way: str = SHORT, **headers: str) -> int:
    """What a decision is answered with."""
    body = b'{"context": {"age": 31, "country": "us"}}'
    return live.client.post(
        f"{HOME}/recommendations", content=body, headers={"content-type": way} | headers
    ).status_code


def test_a_name_of_another_site_is_refused_both_ways(store: str) -> None:
    """Reading, changing, deciding; what is open says no more than to anybody; the same connection goes on."""
    with serving(store) as live:
        until(lambda: decided(live) == 200)
        for way in (SHORT, LONG):
            for _ in range(2):  # a head that was seen before, too
                assert decided(live, way, **EVIL) == 403
            assert decided(live, way) == 200
        for method, path in (("GET", HOME), ("PATCH", HOME), ("DELETE", f"{HOME}?confirm=home"), ("GET", "/v1/audit"),
                             ("GET", "/metrics"), ("GET", "/v1/whoami")):  # fmt: skip
            problem(live.client.request(method, path, headers=EVIL), Code.FORBIDDEN)
        assert live.client.get("/healthz", headers=EVIL).status_code == 200
        assert "home" not in live.client.get("/readyz", headers=EVIL).text
        assert "home" in live.client.get("/readyz").text


def test_any_name_is_taken_where_that_was_said_or_keys_are_asked_for(store: str) -> None:
    """With --no-auth, and with keys, which no page has by itself."""
    with serving(store, auth="off") as live:
        until(lambda: decided(live, **EVIL) == 200)
    key = new_text()
    with serving(store, auth="on", admin_key=key) as live:
        until(lambda: decided(live, **EVIL, **{"x-api-key": key}) == 200)
        assert decided(live, **EVIL) == 401


def test_the_document_that_needs_no_key_is_rendered_once(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for it again and again gets the same bytes, and takes no time of decisions."""
    with serving(store) as live:
        first = live.client.get("/openapi.json")
        assert ok(first)["info"]["title"] == "bandit-server"
        monkeypatch.setattr("starlette.responses.JSONResponse.render", lambda *_: pytest.fail("rendered anew"))
        assert live.client.get("/openapi.json").content == first.content
        head = live.client.head("/openapi.json")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(first.content))
        assert 'route="/openapi.json"' in live.client.get("/metrics").text
